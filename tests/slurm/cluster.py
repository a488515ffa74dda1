"""A real SLURM of several nodes on one machine, for tests: seconds to start, nothing left behind. See README.md.

    with started() as cluster:
        cluster.run("srun", "--nodes=2", "hostname")

Each node is a :class:`machine.Machine` with a host name and a process tree of its own. All of them, and SLURM's
services, live in one more, which ends when the process that started it ends, however it does.
"""

from __future__ import annotations

import argparse
import getpass
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from machine import Machine, boot_command, remove_cgroup
from slurm_conf import Layout, configuration_files

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"
PROGRAMS = ("unshare", "munged", "slurmctld", "slurmd", "srun", "slurmdbd", "mariadbd", "mariadb-install-db")
PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
CONTROL_GROUPS = Path("/sys/fs/cgroup")
PORTS = range(10_000, 16_000)  # below what kernels and launchers hand out
OF_SLURM = re.compile("(SLURM|SLURMD|SBATCH|SRUN|SALLOC|SACCT|SQUEUE|SINFO|SCANCEL)_")

T = TypeVar("T")


class SlurmError(AssertionError):
    """A command of SLURM's failed, or what was waited for did not come."""


def why_not() -> str:
    """Why there can be no cluster here; empty where there can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"SLURM is not installed: no {', '.join(missing)} (apt-get install --no-install-recommends {PACKAGES})"
    boot = boot_command("n0", Path())
    tried = subprocess.run(
        [*boot[: boot.index(sys.executable)], "mount", "--bind", "/etc", "/etc"], stderr=subprocess.PIPE
    )
    return f"no namespaces for nodes here: {tried.stderr.decode().strip()} (root has them)" if tried.returncode else ""


def control_groups(folder: Path) -> dict[str, Path]:
    """Where a cluster's control groups go, by controller: below this process's own. Empty where none can be made."""
    if os.geteuid() != 0:
        return {}
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().split())
    found = {}
    for kind in ("memory", "freezer"):
        parent = CONTROL_GROUPS / kind / own.get(kind, "").strip("/")
        if not (parent / "cgroup.procs").exists() or not os.access(parent, os.W_OK):
            return {}
        found[kind] = parent / folder.name
    return found


def until(look: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer of `look`."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise SlurmError(f"waited {seconds:g} s for {what or 'something'}; it is {answer!r}")
        time.sleep(0.05)
    return answer


class Node:
    """A node of a cluster. Its programs are slurmd and what jobs run."""

    def __init__(self, name: str, layout: Layout, hall: Machine, groups: dict[str, Path]) -> None:
        self.name = name
        self._layout = layout
        self._hall = hall
        self._groups = {kind: group / name for kind, group in groups.items()}
        self._machine = Machine(layout.folder / "run" / f"{name}.door")

    def start(self) -> None:
        """Power on, as far as it is off. Returns when slurmd has been started; SLURM sees the node a little later."""
        self.boot()
        self.start_slurmd()

    def boot(self) -> None:
        if self.name in self._hall.running():
            return
        for group in self._groups.values():
            group.mkdir(parents=True, exist_ok=True)
        (self._layout.folder / "spool" / self.name).mkdir(exist_ok=True)
        self._machine.door.unlink(missing_ok=True)
        binds = {self._layout.folder / "cgroup" / kind: group for kind, group in self._groups.items()}
        command = boot_command(self.name, self._machine.door, binds=binds, nested=True)
        self._hall.start(self.name, command, self._layout.log(f"{self.name}.machine"))

    def kill(self) -> None:
        """A power failure: on return every process of the node is dead, and nobody has told SLURM."""
        self._hall.stop(self.name, signal.SIGKILL)
        for group in self._groups.values():
            remove_cgroup(group)

    def start_slurmd(self) -> None:
        until(self._machine.door.exists, 10, f"{self.name} to boot")
        command = ["slurmd", "-D", "-N", self.name, "-f", str(self._layout.conf)]
        self._machine.start("slurmd", command, self._layout.log(f"{self.name}.slurmd"))

    def stop_slurmd(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Takes only slurmd away; steps live on."""
        self._machine.stop("slurmd", how)

    @property
    def runs(self) -> bool:
        """Whether it has power and slurmd runs."""
        return "slurmd" in self._machine.running()

    def processes(self) -> list[psutil.Process]:
        """All processes on the node, as this machine sees them. A rank is known by its environment or command line."""
        space = self._machine.process_space()
        return [process for process in psutil.process_iter() if _process_space(process.pid) == space]


def _accepts(address: tuple[str, int] | Path) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as line:
        return line.connect_ex(str(address) if isinstance(address, Path) else address) == 0


def _process_space(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


class Cluster:
    """A running cluster. Jobs are named by their id as SLURM prints it, such as ``"12"`` or ``"12_3"``."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.limits_memory = layout.limits_memory
        self.services = ("munge", "mariadb", "slurmdbd", "slurmctld") if layout.accounting else ("munge", "slurmctld")
        self._groups = control_groups(layout.folder) if layout.limits_memory else {}
        self._hall = Machine(layout.folder / "run" / "hall.door")
        self.nodes = [Node(name, layout, self._hall, self._groups) for name in layout.nodes]
        self._settings: dict[str, str] = {}

    # Commands

    @property
    def environment(self) -> dict[str, str]:
        """What commands need beside the environment they would have anyway."""
        return {"SLURM_CONF": str(self.layout.conf)}

    def run(self, *command: object, seconds: float = 60, check: bool = True) -> str:
        """Standard output of a command, without the last newline. A failure raises SlurmError unless `check` is off."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            env=self._full_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise SlurmError(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()} {done.stdout}")
        return done.stdout.rstrip("\n")

    def _full_environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not OF_SLURM.match(key)}
        return {**inherited, "PATH": PATH, **self.environment}

    def wait_for(self, look: Callable[[], T], seconds: float = 30, what: str = "") -> T:
        """The first true answer of `look`; SlurmError with SLURM's view of things when there is none in time."""
        try:
            return until(look, seconds, what)
        except SlurmError as error:
            seen = [
                self.run(*words, check=False) for words in (("squeue", "--states=all"), ("sinfo", "--Node", "--long"))
            ]
            raise SlurmError("\n".join([str(error), *seen])) from None

    # Jobs

    def submit(self, script: str, *options: object) -> str:
        """Id of a batch job of these shell lines. Its output goes where :meth:`output` looks."""
        output = f"--output={self.layout.folder}/jobs/%j.out"
        return self.run("sbatch", "--parsable", output, *options, "--wrap", script)

    def output(self, job: str) -> str:
        file = self.layout.folder / "jobs" / f"{job}.out"
        return file.read_text() if file.exists() else ""

    def queue(self) -> dict[str, str]:
        """State of each job that waits, runs or is about to end."""
        rows = self.run("squeue", "--noheader", "--array", "--all", "--format=%i|%T").splitlines()
        return dict(row.split("|") for row in rows)

    def state(self, job: str) -> str:
        """State by squeue, which knows ended jobs for MinJobAge seconds; empty when it knows the job no longer."""
        words = ("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
        return self.run(*words, check=False).split("\n")[0]

    def wait_for_state(self, job: str, *states: str, seconds: float = 60) -> str:
        def seen() -> str:
            state = self.state(job)
            return state if state in states else ""

        return self.wait_for(seen, seconds, f"job {job} to be {' or '.join(states)}")

    def show(self, job: str) -> dict[str, str]:
        """The fields of ``scontrol show job``, such as Restarts, Reason and NodeList."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def accounts(self, job: str, *fields: str) -> list[dict[str, str]]:
        """sacct's rows of a job and its steps, also of its earlier starts, in order. Empty while it knows none."""
        names = ("JobID", "State", "ExitCode", *fields)
        words = ("sacct", "--noheader", "--parsable2", "--duplicates", f"--jobs={job}", f"--format={','.join(names)}")
        return [dict(zip(names, row.split("|"), strict=True)) for row in self.run(*words).splitlines()]

    # What can go wrong

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def node_states(self) -> dict[str, str]:
        """SLURM's word for each node: ``idle``, ``allocated``, ``down``; with ``*`` for one that does not answer."""
        rows = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T").splitlines()
        return dict(row.split() for row in rows)

    def stop_service(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        self._hall.stop(name, how)

    def start_service(self, name: str) -> None:
        """Starts a service as far as it does not run, and returns when it answers."""
        command, environment, ready = self._service(name)
        self._hall.start(name, command, self.layout.log(f"{name}.out"), environment)

        def answers() -> bool:
            if name not in self._hall.running():
                raise SlurmError(f"{name} ended while starting:\n{self._log_tail(name)}")
            return ready()

        until(answers, 30, f"{name} to answer; {self._log_tail(name)}")

    def configure(self, **settings: object) -> None:
        """Changes settings of slurm.conf, from those that a cluster starts with; an empty value removes one.

        ``configure(SlurmctldParameters="")`` takes `preempt_send_user_signal` away; ``configure()`` undoes all.
        """
        self._settings = {key: str(value) for key, value in settings.items()}
        self._write_configuration()
        self.run("scontrol", "reconfigure")

    def restore(self, seconds: float = 60) -> None:
        """Mends everything: settings, services and nodes as at the start, no jobs."""
        running = self._hall.running()
        for service in self.services:
            if service not in running:
                self.start_service(service)
        for node in self.nodes:
            if not node.runs:
                node.start()
        if self._settings:
            self.configure()
        deadline = time.monotonic() + seconds
        while not self._mended():
            if time.monotonic() > deadline:
                raise SlurmError(f"still not mended: jobs {self.queue()}, nodes {self.node_states()}")
            time.sleep(0.1)

    def _mended(self) -> bool:
        """Whether all is well; does something about it where it is not."""
        jobs = self.queue()
        if any(state != "COMPLETING" for state in jobs.values()):
            self.run("scancel", "--full", "--signal=KILL", *jobs, check=False)  # no waiting for KillWait
            self.run("scancel", *jobs, check=False)
        states = self.node_states()
        for name, state in states.items():
            if state.startswith(("down", "drain")) and not state.endswith("*"):
                self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        return not jobs and set(states.values()) == {"idle"}

    # Start and end

    def start(self) -> None:
        """Starts what does not run; the hall, in which all of it lives, runs already."""
        until(self._hall.door.exists, 10, "the cluster's machine to boot")
        for node in self.nodes:
            node.boot()
        if self.layout.accounting:
            self._create_database()
        for service in self.services:
            self.start_service(service)
        for node in self.nodes:
            node.start_slurmd()
        self.wait_for(lambda: set(self.node_states().values()) == {"idle"}, 30, "all nodes to be idle")

    def end(self) -> None:
        self._hall.end()

    def boot(self, *, owned: bool) -> subprocess.Popen[bytes]:
        """Boots the hall. An owned one ends when the returned process's standard input is closed."""
        for name in (
            "etc",
            "run",
            "log",
            "state",
            "spool",
            "jobs",
            "database",
            "dev",
            "cgroup/memory",
            "cgroup/freezer",
        ):
            (self.layout.folder / name).mkdir(parents=True)
        key = self.layout.folder / "etc" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        for number in range(self.layout.gpus):
            (self.layout.folder / "dev" / f"gpu{number}").symlink_to(os.devnull)
        self._write_configuration()
        command = boot_command(
            "controller",
            self._hall.door,
            binds={Path("/etc/hosts"): self.layout.folder / "etc" / "hosts"},
            memory=[self.layout.folder / "database", self.layout.folder / "state"],  # both write through to the disk
            owned=owned,
            remove=[*self._groups.values(), self.layout.folder],
        )
        with self.layout.log("hall").open("wb") as log:
            source = subprocess.PIPE if owned else subprocess.DEVNULL
            environment = self._full_environment()
            return subprocess.Popen(
                command, stdin=source, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def _write_configuration(self) -> None:
        for name, text in configuration_files(self.layout, self._settings).items():
            file = self.layout.folder / "etc" / name
            file.touch(mode=0o600)
            file.write_text(text)

    def _create_database(self) -> None:
        command = [*self._mariadb("mariadb-install-db"), "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._hall.start("install", command, self.layout.log("install.out"))
        until(lambda: "install" not in self._hall.running(), 60, "mariadb-install-db")
        if self._hall.exit_code("install"):
            raise SlurmError(f"mariadb-install-db failed:\n{self._log_tail('install')}")

    def _mariadb(self, program: str) -> list[str]:
        data = f"--datadir={self.layout.folder}/database/data"
        return [program, "--no-defaults", data, f"--user={self.layout.user}", "--innodb-log-file-size=8M"]

    def _service(self, name: str) -> tuple[list[str], dict[str, str], Callable[[], bool]]:
        """A service's command and environment, and whether it answers."""
        etc, run, log = (self.layout.folder / part for part in ("etc", "run", "log"))
        if name == "munge":
            files = {"socket": self.layout.munge_socket, "key-file": etc / "munge.key", "log-file": log / "munge.log"}
            files |= {"pid-file": run / "munge.pid", "seed-file": run / "munge.seed"}
            options = [f"--{key}={file}" for key, file in files.items()]
            return ["munged", "--foreground", "--force", *options], {}, lambda: _accepts(self.layout.munge_socket)
        if name == "mariadb":  # no passwords: the socket's folder is the user's own, and there is no network
            options = [f"--socket={self.layout.database_socket}", "--skip-networking", "--skip-grant-tables"]
            options += ["--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=900", "--performance-schema=off"]
            return [*self._mariadb("mariadbd"), *options], {}, lambda: _accepts(self.layout.database_socket)
        if name == "slurmdbd":
            environment = {"MYSQL_UNIX_PORT": str(self.layout.database_socket)}
            return ["slurmdbd", "-D"], environment, lambda: _accepts(("127.0.0.1", self.layout.ports[1]))
        pinged = lambda: "is UP" in self.run("scontrol", "ping", check=False)  # noqa: E731
        return ["slurmctld", "-D", "-f", str(self.layout.conf)], {}, pinged

    def _log_tail(self, name: str) -> str:
        files = [self.layout.log(f"{name}.{kind}") for kind in ("out", "log")]
        return "\n".join("\n".join(file.read_text().splitlines()[-8:]) for file in files if file.exists())


@contextmanager
def started(**layout: Any) -> Iterator[Cluster]:
    """A cluster that lives as long as the block, and no longer than this process. See Layout for what may be asked."""
    cluster = Cluster(new_layout(Path(tempfile.mkdtemp(prefix="segctl-slurm-")), **layout))
    hall = cluster.boot(owned=True)
    assert hall.stdin is not None
    try:
        cluster.start()
        yield cluster
    finally:
        hall.stdin.close()
        hall.wait(timeout=60)


def new_layout(folder: Path, **layout: Any) -> Layout:
    user = getpass.getuser()
    nodes = ("n1", "n2", "n3")
    return Layout(folder, user, free_ports(2 + len(nodes)), nodes, limits_memory=bool(control_groups(folder)), **layout)


def free_ports(count: int) -> tuple[int, ...]:
    """Neighbouring ports that nobody listens at."""
    for _ in range(1000):
        first = random.choice(PORTS)
        ports = tuple(range(first, first + count))
        if not any(_accepts(("127.0.0.1", port)) for port in ports):
            return ports
    raise SlurmError(f"no {count} free ports in {PORTS}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Starts a SLURM cluster to play with in a new folder, and ends it.")
    parser.add_argument("do", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-accounting", dest="accounting", action="store_false", help="without slurmdbd")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.do == "down":
        Machine(folder / "run" / "hall.door").end()
    elif reason := why_not():
        sys.exit(reason)
    else:
        cluster = Cluster(new_layout(folder, accounting=asked.accounting))
        cluster.boot(owned=False)
        try:
            cluster.start()
        except BaseException:
            cluster.end()
            raise
        print(f"export SLURM_CONF={cluster.layout.conf}")


if __name__ == "__main__":
    main()
