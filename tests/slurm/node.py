"""A node of the test cluster, and the ways in which it is lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
from machine import Machine, boot_command, remove_cgroup
from slurm_conf import Layout
from waiting import until

CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Node:
    """Its programs are slurmd and what jobs run. It has power when its machine runs in the cluster's hall."""

    def __init__(self, name: str, layout: Layout, hall: Machine) -> None:
        self.name = name
        self._layout = layout
        self._hall = hall
        self._groups = {kind: group / name for kind, group in control_groups(layout).items()}
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
        until(self._machine.door.exists, 60, f"{self.name} to boot")
        command = ["slurmd", "-D", "-N", self.name, "-f", str(self._layout.conf)]
        self._machine.start("slurmd", command, self._layout.log(f"{self.name}.slurmd"))

    def stop_slurmd(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Takes only slurmd away; steps live on."""
        self._machine.stop("slurmd", how)

    @property
    def runs(self) -> bool:
        """Whether it has power and slurmd runs."""
        return "slurmd" in self._machine.running()

    def processes(self, word: str = "", **environment: object) -> list[psutil.Process]:
        """The living processes on the node with this word in their command line and these variables, as we see them.

        ``processes(SLURM_STEP_ID=0, SLURM_PROCID=2)`` is a rank of a job (and what it started).
        """
        space = self._machine.process_space()
        wanted = {name: str(value) for name, value in environment.items()}
        return [process for process in psutil.process_iter() if _fits(process, space, word, wanted)]

    def kill_jobs(self) -> None:
        """SIGKILL for every process of a job here."""
        for process in self.processes():
            with suppress(psutil.Error):
                if process.name() != "slurmstepd" and "SLURM_JOB_ID" in process.environ():
                    process.kill()


def _fits(process: psutil.Process, space: str, word: str, environment: dict[str, str]) -> bool:
    try:
        if os.readlink(f"/proc/{process.pid}/ns/pid") != space or word not in " ".join(process.cmdline()):
            return False
        return not environment or environment.items() <= process.environ().items()
    except (OSError, psutil.Error):  # it has just ended
        return False


def control_groups(layout: Layout) -> dict[str, Path]:
    """Where a cluster's control groups go, by controller: below this process's own. Empty where none can be made.

    SLURM's memory limits need them. Only version 1 will do: for version 2, SLURM wants systemd.
    """
    if os.geteuid() != 0:
        return {}
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().split())
    groups = {}
    for kind in ("memory", "freezer"):
        parent = CONTROL_GROUPS / kind / own.get(kind, "").strip("/")
        if not (parent / "cgroup.procs").exists() or not os.access(parent, os.W_OK):
            return {}
        groups[kind] = parent / layout.folder.name
    return groups
