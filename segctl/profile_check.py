"""`segctl profiles check`: whether a job would run at a place, found out before one has waited for its turn there."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl import __version__
from segctl.config.schema import Launch
from segctl.errors import LaunchError, SegctlError, listing
from segctl.launch import machine
from segctl.launch.backends import backend
from segctl.launch.plan import LaunchPlan
from segctl.launch.slurm import probe
from segctl.launch.slurm.commands import said_by
from segctl.launch.slurm.limits import Request, problems, try_out, without_time_limit
from segctl.launch.slurm.partitions import Partition, duration, read_partitions, size
from segctl.launch.slurm.probe_job import LONGEST, NodeWord, ProbeResult
from segctl.launch.slurm.probe_job import probe as send_probe
from segctl.launch.slurm.shared_folder import remember
from segctl.profiles import launch_of_place
from segctl.runs.store import runs_dir as folder_of_runs

__all__ = ["Check", "ProfileReport", "check_profile"]

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
LITTLE_SPACE = 10 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        passed: Whether a job can do with it; None where it was not looked at.
        found: What it is like, in a sentence.
        hint: The way out.
    """

    name: str
    passed: bool | None
    found: str
    hint: str = ""


@dataclass(frozen=True)
class ProfileReport:
    """What was found of a place.

    Attributes:
        name: Of the profile, or ``slurm`` or ``local``.
        on: The backend.
        checks: In the order in which they were made; later ones are left out where an earlier one makes them idle.
    """

    name: str
    on: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed is not False for check in self.checks)


def check_profile(
    name: str,
    *,
    job: bool = True,
    runs_dir: Path | None = None,
    on_progress: Callable[[str], None] = lambda words: None,
) -> ProfileReport:
    """Looks at all that a job needs at a place. On SLURM a job of five minutes at most is sent to its nodes.

    Args:
        name: A profile, ``slurm`` or ``local``.
        job: Send that job.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.
        on_progress: Is told what is being done.

    Raises:
        ConfigError: There is no such place, or the profile is not acceptable.
    """
    launch = launch_of_place(name)
    folder = folder_of_runs(runs_dir)
    found = _on_slurm(launch, folder, job, on_progress) if launch.on == "slurm" else _here(launch, folder, on_progress)
    return ProfileReport(name, launch.on, tuple(found))


def _folder(folder: Path) -> Check:
    """Whether runs can be made here; a folder that was only made to find out is removed."""
    try:
        with _there(folder):
            marker = folder / f".write-{os.getpid()}"
            marker.touch()
            marker.unlink()
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("runs folder", False, f"{folder}: {error.strerror}.", "Choose another with --runs-dir.")
    few = "Checkpoints take room: choose another disk with --runs-dir." if free < LITTLE_SPACE else ""
    return Check("runs folder", True, f"{folder.resolve()} can be written; {free / 2**30:.0f} GiB are free.", few)


@contextlib.contextmanager
def _there(folder: Path) -> Iterator[None]:
    """Makes a folder; what had to be made and is still empty after the block is removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()


# ---- this machine


def _here(launch: Launch, folder: Path, on_progress: Callable[[str], None]) -> Iterator[Check]:
    try:
        plan = backend("local").plan(launch, machine.read())
    except LaunchError as error:
        yield Check("request", False, error.message, error.hint)
        return
    what = f"{plan.gpus_per_node} GPUs" if plan.gpus_per_node else "the CPU"
    unread = "launch.slurm is not read here." if launch.slurm != type(launch.slurm)() else ""
    yield Check("request", True, f"{_many(plan.world_size, 'process', 'processes')} on {what}.", unread)
    yield _folder(folder)
    on_progress("Importing torch")
    here = probe.look()
    yield _torch("", here)
    if plan.gpus_per_node or here.get("gpus"):
        yield _gpus("", here, plan.gpus_per_node, "are visible")


# ---- SLURM


def _on_slurm(launch: Launch, folder: Path, job: bool, on_progress: Callable[[str], None]) -> Iterator[Check]:
    try:
        plan = backend("slurm").plan(launch, machine.Machine(cores=1))
    except LaunchError as error:
        yield Check("request", False, error.message, error.hint)
        return
    yield Check("request", True, _asked(plan))
    commands = _commands()
    yield commands
    if not commands.passed:
        return
    on_progress("Asking SLURM")
    try:
        partitions = read_partitions()
    except LaunchError as error:
        yield Check("slurmctld", False, error.message, error.hint)
        return
    yield _accounting()
    fitting = True
    for check in _partition(plan, partitions):
        yield check
        fitting = fitting and check.passed is not False
    here = _folder(folder)
    yield here
    if not job or not fitting or not here.passed:
        why = "it was not wanted." if not job else "it could not start with the faults above."
        yield Check("nodes", None, f"No job was sent to look at them: {why}")
        return
    yield from _nodes(plan, partitions, folder, on_progress)


def _asked(plan: LaunchPlan) -> str:
    what = f"{plan.gpus_per_node} GPUs" if plan.gpus_per_node else "no GPUs"
    where = f"on {_many(plan.nodes, 'node', 'nodes')} with {what} each"
    time = f", for {duration(plan.time_limit)} at a time" if plan.time_limit is not None else ""
    return f"{_many(plan.world_size, 'process', 'processes')} {where}{time}."


def _commands() -> Check:
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return Check(
            "commands",
            False,
            f"Not found on this machine: {listing(missing)}.",
            "Run segctl on a login node of the cluster, or load what brings SLURM there.",
        )
    version = said_by(["sbatch", "--version"]).out.split()
    return Check("commands", True, f"SLURM {version[-1] if version else ''}".strip() + ".")


def _accounting() -> Check:
    if shutil.which("sacct") is None:
        return Check("accounting", True, f"There is no sacct. {_WITHOUT_ACCOUNTING}")
    said = said_by(["sacct", "-X", "--noheader", "--starttime=now"])
    if said.code == 0:
        return Check("accounting", True, "sacct answers.")
    if "disabled" in said.err.lower():
        return Check("accounting", True, f"It is off. {_WITHOUT_ACCOUNTING}")
    return Check("accounting", True, f"sacct does not answer: {said.err}. {_WITHOUT_ACCOUNTING}")


_WITHOUT_ACCOUNTING = "What became of a job that ended long ago is known from its own files alone."


def _partition(plan: LaunchPlan, partitions: dict[str, Partition]) -> Iterator[Check]:
    request = Request.of(plan)
    found = problems(partitions, request)
    for problem in found:
        yield Check("partition", False, problem.message, problem.hint)
    if found:
        return
    named = request.partitions or tuple(name for name, each in partitions.items() if each.default)
    for name in named:
        yield Check("partition", True, _described(partitions[name]), *without_time_limit(partitions, request))
    try:
        yield Check("submission", True, try_out(plan, partitions))
    except SegctlError as error:
        yield Check("submission", False, error.message, error.hint)


def _described(partition: Partition) -> str:
    """``gpu: at most 4 nodes and 2-00:00:00; a node has up to 64 CPUs, 500G and 4 GPUs.``"""
    nodes = sum(group.count for group in partition.groups)
    nodes = nodes if partition.max_nodes is None else min(nodes, partition.max_nodes)
    time = f"at most {duration(partition.seconds)}" if partition.seconds is not None else "no time limit"
    cpus = max(group.cpus for group in partition.groups)
    memory = max(group.memory for group in partition.groups)
    gpus = max(sum(group.gpus.values()) for group in partition.groups)
    kinds = sorted({kind for group in partition.groups for kind in group.gpus if kind})
    of = f" ({', '.join(kinds)})" if kinds else ""
    return (
        f"{partition.name}: {time}, at most {_many(nodes, 'node', 'nodes')}; a node has up to {cpus} CPUs, "
        f"{size(memory)} and {_many(gpus, 'GPU', 'GPUs') if gpus else 'no GPUs'}{of}."
    )


def _nodes(
    plan: LaunchPlan, partitions: dict[str, Partition], folder: Path, on_progress: Callable[[str], None]
) -> Iterator[Check]:
    named = Request.of(plan).partitions or tuple(name for name, each in partitions.items() if each.default)
    limits = [LONGEST, plan.time_limit, *(partitions[name].seconds for name in named)]
    on_progress("Sending a job to the nodes")
    try:
        with _there(folder):
            result = send_probe(plan, folder, min(limit for limit in limits if limit is not None), on_progress)
    except LaunchError as error:
        yield Check("nodes", False, error.message, error.hint)
        return
    if not any(node.seen for node in result.nodes):
        yield _no_word(result, folder)
        return
    if all(node.seen for node in result.nodes):
        remember(folder)
    for node in result.nodes:
        yield from _node(node, plan, folder)


def _no_word(result: ProbeResult, folder: Path) -> Check:
    how = f" It ended as {result.state} with exit code {result.exit_code}." if result.state else ""
    if result.started:
        said = f" The last it said: {result.last_line}" if result.last_line else ""
        return Check(
            "nodes",
            False,
            f"Job {result.job_id} started, but none of its processes did.{how}{said}",
            "Look at launch.slurm.setup: its lines run before.",
        )
    return Check(
        "nodes",
        False,
        f"Job {result.job_id} has left nothing in {folder.resolve()}: the nodes do not see this folder, or cannot "
        f"write there.{how}",
        "Choose a folder of a file system that all nodes share, with --runs-dir or $SEGCTL_RUNS.",
    )


def _node(node: NodeWord, plan: LaunchPlan, folder: Path) -> Iterator[Check]:
    if not node.seen:
        yield Check(
            f"{node.name} runs folder",
            False,
            f"It has left nothing in {folder.resolve()}: it does not see this folder, or cannot write there.",
            "Choose a folder of a file system that all nodes share, with --runs-dir or $SEGCTL_RUNS.",
        )
        return
    yield Check(f"{node.name} runs folder", True, "It is there and can be written.")
    if node.found is None:
        said = f": {node.last_line}" if node.last_line else ", and nothing was said."
        yield Check(
            f"{node.name} Python",
            False,
            f"{sys.executable} did not start{said}",
            "The node must see the environment that segctl is installed in, or launch.slurm.container must hold it.",
        )
        return
    yield _torch(f"{node.name} ", dict(node.found))
    yield _gpus(f"{node.name} ", dict(node.found), plan.gpus_per_node, "were given")


# ---- what a machine has


def _torch(whose: str, found: dict[str, Any]) -> Check:
    python = f"{found['python']}, segctl {found['segctl']}, {_many(found['cores'], 'core', 'cores')}"
    if found["segctl"] != __version__:
        return Check(
            f"{whose}Python", False, f"{python}; here it is segctl {__version__}.", "Install the same version in both."
        )
    if "error" in found:
        return Check(
            f"{whose}Python",
            False,
            f"{python}; torch cannot be imported: {found['error']}",
            "Install torch there, in a build for that machine.",
        )
    return Check(f"{whose}Python", True, f"{python}, torch {found['torch']}.")


def _gpus(whose: str, found: dict[str, Any], asked: int, how: str) -> Check:
    names = found.get("gpus", [])
    if len(names) >= asked:
        kinds = f" ({', '.join(sorted(set(names)))})" if names and asked else ""
        return Check(f"{whose}GPUs", True, f"torch sees {len(names) if asked else 'none, as asked'}{kinds}.")
    visible = found.get("visible_gpus")
    built = found.get("cuda")
    return Check(
        f"{whose}GPUs",
        False,
        f"torch sees {len(names)} of the {asked} that {how} (CUDA_VISIBLE_DEVICES is {visible or 'not set'}).",
        "This torch is a build without CUDA: install one with it."
        if built is None
        else f"It is built for CUDA {built}: is the node's driver recent enough, and does a container pass GPUs on?",
    )


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
