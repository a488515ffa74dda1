"""The programs behind a cluster that are not its nodes': munge, the database, slurmdbd and slurmctld."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from machine import Machine
from slurm_conf import Layout
from waiting import GoneError, SlurmError, accepts, until


@dataclass(frozen=True)
class Service:
    command: list[str]
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


class Services:
    """Starts and stops them by name; `names` are in the order in which they need each other."""

    def __init__(self, layout: Layout, hall: Machine, controller_answers: Callable[[], bool]) -> None:
        self._layout = layout
        self._hall = hall
        self._known = {"munge": self._munge()}
        if layout.accounting:
            self._known |= {"mariadb": self._mariadb(), "slurmdbd": self._slurmdbd()}
        self._known["slurmctld"] = Service(["slurmctld", "-D", "-f", str(layout.conf)], controller_answers)
        self.names = tuple(self._known)

    def prepare(self) -> None:
        """Writes the key of munge, and the tables that a database needs of itself."""
        key = self._layout.folder / "etc" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        if not self._layout.accounting:
            return
        command = [*self._database("mariadb-install-db"), "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._hall.start("install", command, self._layout.log("install.out"))
        until(lambda: "install" not in self._hall.running(), 120, "mariadb-install-db")
        if self._hall.exit_code("install"):
            raise SlurmError(f"mariadb-install-db failed:\n{self._last_words('install')}")

    def start(self, name: str) -> None:
        """Starts a service as far as it does not run, and returns when it answers."""
        service = self._known[name]
        self._hall.start(name, service.command, self._layout.log(f"{name}.out"), service.environment)

        def answers() -> bool:
            if name not in self._hall.running():
                raise GoneError(f"{name} has ended:\n{self._last_words(name)}")
            return service.answers()

        until(answers, 120, f"{name} to answer")

    def stop(self, name: str, how: signal.Signals) -> None:
        if name not in self._known:
            raise KeyError(f"no service {name}; there are {', '.join(self.names)}")
        self._hall.stop(name, how)

    def _munge(self) -> Service:
        folder, door = self._layout.folder, self._layout.munge_socket
        files = {"socket": door, "key-file": folder / "etc/munge.key", "log-file": folder / "log/munge.log"}
        files |= {"pid-file": folder / "run/munge.pid", "seed-file": folder / "run/munge.seed"}
        options = [f"--{option}={file}" for option, file in files.items()]
        return Service(["munged", "--foreground", "--force", *options], lambda: accepts(door))

    def _database(self, program: str) -> list[str]:
        data = f"--datadir={self._layout.folder}/database/data"
        return [program, "--no-defaults", data, f"--user={self._layout.user}", "--innodb-log-file-size=8M"]

    def _mariadb(self) -> Service:
        """Without passwords: it listens in the cluster's own folder only, and asking it is no secret."""
        door = self._layout.database_socket
        options = [f"--socket={door}", "--skip-networking", "--skip-grant-tables", "--performance-schema=off"]
        options += ["--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=900"]
        return Service([*self._database("mariadbd"), *options], lambda: accepts(door))

    def _slurmdbd(self) -> Service:
        environment = {"MYSQL_UNIX_PORT": str(self._layout.database_socket)}
        return Service(["slurmdbd", "-D"], lambda: accepts(self._layout.ports[1]), environment)

    def _last_words(self, name: str) -> str:
        files = [self._layout.log(f"{name}.{kind}") for kind in ("out", "log")]
        return "\n".join("\n".join(file.read_text().splitlines()[-8:]) for file in files if file.exists())
