"""A real SLURM of several nodes on one machine, for tests: seconds to start, nothing left behind. See README.md.

    with started() as cluster:
        cluster.run("srun", "--nodes=2", "hostname")

Each node is a :class:`machine.Machine` with a host name and a process tree of its own. All nodes, and SLURM's services,
live in one more machine, the hall, which ends when the process that started it ends, however it does.
"""

from __future__ import annotations

import argparse
import getpass
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from machine import Machine, boot_command
from node import Node, control_groups
from services import Services
from slurm_conf import Layout, configuration_files
from waiting import SlurmError, accepts, until

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"
PROGRAMS = ("unshare", "munged", "slurmctld", "slurmd", "srun", "slurmdbd", "mariadbd", "mariadb-install-db")
PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
NODES = ("n1", "n2", "n3")
PORTS = range(10_000, 16_000)  # below what kernels and launchers hand out
LONGEST_FOLDER = 80  # letters; the name of a socket must not be longer than 107
OF_SLURM = re.compile("(SLURM|SLURMD|SBATCH|SRUN|SALLOC|SACCT|SQUEUE|SINFO|SCANCEL)_")

T = TypeVar("T")


class Cluster:
    """A running cluster. Jobs are named by their id as SLURM prints it, such as ``"12"`` or ``"12_3"``."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.limits_memory = layout.limits_memory
        self._hall = Machine(layout.folder / "run" / "hall.door")
        self._services = Services(layout, self._hall, self._controller_answers)
        self.services = self._services.names
        self.nodes = [Node(name, layout, self._hall) for name in layout.nodes]
        self._changes: dict[str, str] = {}

    # Commands

    @property
    def environment(self) -> dict[str, str]:
        """What commands need beside the environment that they have anyway."""
        return {"SLURM_CONF": str(self.layout.conf)}

    def run(self, *command: object, seconds: float = 60, check: bool = True) -> str:
        """Standard output of a command, without the last newline. A failure raises SlurmError unless `check` is off."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            env=self._whole_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise SlurmError(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()} {done.stdout}")
        return done.stdout.rstrip("\n")

    def wait_for(self, look: Callable[[], T], seconds: float = 120, what: str = "what should come") -> T:
        """The first true answer of `look`; SlurmError, with SLURM's view of things, when there is none in time."""
        try:
            return until(look, seconds, what)
        except SlurmError as error:
            views = (("squeue", "--states=all"), ("sinfo", "--Node", "--partition=main", "--long"))
            raise SlurmError("\n".join([str(error), *(self.run(*view, check=False) for view in views)])) from None

    def _whole_environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not OF_SLURM.match(key)}
        return {**inherited, "PATH": PATH, **self.environment}

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

    def wait_for_state(self, job: str, *states: str, seconds: float = 120) -> str:
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

    # What goes wrong, and mending it

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def node_states(self) -> dict[str, str]:
        """SLURM's word for each node: ``idle``, ``allocated``, ``down``; with ``*`` for one that does not answer."""
        rows = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T").splitlines()
        return dict(row.split() for row in rows)

    def stop_service(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        self._services.stop(name, how)

    def start_service(self, name: str) -> None:
        """Starts a service as far as it does not run, and returns when it answers."""
        self._services.start(name)

    def configure(self, **changes: object) -> None:
        """Changes settings of slurm.conf from those that a cluster starts with; an empty value leaves one out.

        ``configure(SlurmctldParameters="")`` takes `preempt_send_user_signal` away; ``configure()`` undoes all.
        """
        self._changes = {key: str(value) for key, value in changes.items()}
        self._write_configuration()
        self.run("scontrol", "reconfigure")

    def restore(self, seconds: float = 180) -> None:
        """Mends everything: services, settings and nodes are as at the start, and there are no jobs."""
        running = self._hall.running()
        for name in self.services:
            if name not in running:
                self.start_service(name)
        if self._changes:
            self.configure()
        states = self.node_states()
        for node in self.nodes:
            if not node.runs or states[node.name].endswith("*") or states[node.name] == "unknown":
                node.kill()  # a node that boots is known sooner than one that has to be asked
                node.start()
        self.wait_for(self._is_mended, seconds, "everything to be mended")

    def _is_mended(self) -> bool:
        """Whether all is well; where it is not, does something about it."""
        jobs = self.queue()
        if any(state != "COMPLETING" for state in jobs.values()):
            self.run("scancel", *jobs, check=False)
        if jobs:
            for node in self.nodes:
                node.kill_jobs()  # spares the wait for KillWait
        states = self.node_states()
        for name, state in states.items():
            if state.startswith(("down", "drain")) and not state.endswith("*"):
                self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        return not jobs and set(states.values()) == {"idle"}

    def last_words(self, lines: int = 20) -> str:
        """The ends of the logs of slurmctld and of the nodes."""
        files = [self.layout.log(f"{name}.log") for name in ("slurmctld", *self.layout.nodes)]
        ends = {file.name: file.read_text().splitlines()[-lines:] for file in files if file.exists()}
        return "\n".join(f"{name}: {line}" for name, end in ends.items() for line in end)

    # Start and end

    def boot(self, *, owned: bool) -> subprocess.Popen[bytes]:
        """Boots the hall. One that is owned ends when the returned process's standard input is closed."""
        folder = self.layout.folder
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
            (folder / name).mkdir(parents=True)
        for number in range(self.layout.gpus):
            (folder / "dev" / f"gpu{number}").symlink_to(os.devnull)
        self._write_configuration()
        command = boot_command(
            "controller",
            self._hall.door,
            binds={Path("/etc/hosts"): folder / "etc" / "hosts"},
            memory=[folder / "database", folder / "state"],  # their writers wait for the disk again and again
            owned=owned,
            remove=[*control_groups(self.layout).values(), folder],
        )
        with self.layout.log("hall").open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE if owned else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._whole_environment(),
                start_new_session=True,
            )

    def start(self) -> None:
        """Starts what is to run in the hall, and returns when all nodes are idle."""
        until(self._hall.door.exists, 60, "the cluster's hall to boot")
        for node in self.nodes:
            node.boot()
        self._services.prepare()
        for name in self.services:
            self.start_service(name)
        for node in self.nodes:
            node.start_slurmd()
        self.wait_for(lambda: set(self.node_states().values()) == {"idle"}, 60, "all nodes to be idle")

    def end(self) -> None:
        self._hall.end()

    def _write_configuration(self) -> None:
        for name, text in configuration_files(self.layout, self._changes).items():
            file = self.layout.folder / "etc" / name
            file.touch(mode=0o600)  # slurmdbd insists
            file.write_text(text)

    def _controller_answers(self) -> bool:
        return "is UP" in self.run("scontrol", "ping", check=False)


@contextmanager
def started(*, accounting: bool = True) -> Iterator[Cluster]:
    """A cluster in a folder of its own that lives as long as the block, and no longer than this process."""
    cluster = Cluster(layout(Path(tempfile.mkdtemp(prefix="segctl-slurm-")), accounting))
    hall = cluster.boot(owned=True)
    assert hall.stdin is not None
    try:
        cluster.start()
        yield cluster
    finally:
        hall.stdin.close()
        hall.wait(timeout=60)


def layout(folder: Path, accounting: bool) -> Layout:
    plain = Layout(folder, getpass.getuser(), free_ports(2 + len(NODES)), NODES, accounting=accounting)
    return replace(plain, limits_memory=bool(control_groups(plain)))


def free_ports(count: int) -> tuple[int, ...]:
    """Neighbouring ports at which nobody listens."""
    for _ in range(1000):
        first = random.choice(PORTS)
        ports = tuple(range(first, first + count))
        if not any(accepts(port) for port in ports):
            return ports
    raise SlurmError(f"no {count} free ports in {PORTS}")


@cache
def why_not() -> str:
    """Why there can be no cluster here; empty where there can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"SLURM is not installed: no {', '.join(missing)} (apt-get install --no-install-recommends {PACKAGES})"
    boot = boot_command("n0", Path())
    trial = [*boot[: boot.index(sys.executable)], "mount", "--bind", "/etc", "/etc"]
    tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    return f"no namespaces for nodes here: {tried.stderr.strip()} (root has them)" if tried.returncode else ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Starts a SLURM cluster to play with in a new folder, and ends it.")
    parser.add_argument("do", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-accounting", dest="accounting", action="store_false", help="without slurmdbd")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.do == "down":
        take_down(folder)
    else:
        print(f"export SLURM_CONF={bring_up(folder, asked.accounting).layout.conf}")


def bring_up(folder: Path, accounting: bool) -> Cluster:
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty; the end of a cluster removes its folder")
    if len(str(folder)) > LONGEST_FOLDER:
        sys.exit(f"{folder}: sockets cannot have names as long as that; take a folder in /tmp")
    if reason := why_not():
        sys.exit(reason)
    cluster = Cluster(layout(folder, accounting))
    cluster.boot(owned=False)
    try:
        cluster.start()
    except BaseException:
        cluster.end()
        raise
    return cluster


def take_down(folder: Path) -> None:
    try:
        Machine(folder / "run" / "hall.door").end()
    except OSError:
        sys.exit(f"no cluster runs in {folder}")


if __name__ == "__main__":
    main()
