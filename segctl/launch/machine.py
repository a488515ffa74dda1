"""What this machine offers to a job, found without torch: visible GPUs, and the cores that may be used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segctl.errors import LaunchError

_GPU_LINE = re.compile(r"^GPU \d+:.*\(UUID: (?P<uuid>[^)]+)\)")
_MIG_LINE = re.compile(r"^\s+MIG .*\(UUID: (?P<uuid>[^)]+)\)")
DEFAULT_CPU_SLOTS = 2


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        token: How the user names it in CUDA_VISIBLE_DEVICES: a number, or (part of) a UUID.
        identity: Its UUID, the same whatever token names it; the token itself where the driver does not say.
    """

    token: str
    identity: str


@dataclass(frozen=True)
class Machine:
    """What a job may use here.

    Attributes:
        cores: Cores this process may use, by affinity and by the container's quota.
        gpus: Visible GPUs, in the order of CUDA_VISIBLE_DEVICES.
        cpu_slots: How many CPU jobs run at once; the others wait.
        threads: OMP_NUM_THREADS where the user has set it.
        no_gpu_reason: Why there are no GPUs, where that needs saying.
    """

    cores: int
    gpus: tuple[Gpu, ...] = ()
    cpu_slots: int = DEFAULT_CPU_SLOTS
    threads: int | None = None
    no_gpu_reason: str = ""


def read(environ: Mapping[str, str] | None = None) -> Machine:
    """This machine as it is now.

    Raises:
        LaunchError: $SEGCTL_CPU_SLOTS is not a positive whole number.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    installed, reason = ([], "") if chosen is not None and not chosen.strip() else _installed_gpus()
    gpus = visible_gpus(chosen, installed)
    if not gpus and chosen is not None:
        reason = reason or f"CUDA_VISIBLE_DEVICES={chosen!r} hides them all"
    return Machine(
        cores=usable_cores(),
        gpus=gpus,
        cpu_slots=_positive(environ, "SEGCTL_CPU_SLOTS") or DEFAULT_CPU_SLOTS,
        threads=_leading_number(environ.get("OMP_NUM_THREADS", "")),
        no_gpu_reason=reason,
    )


def visible_gpus(chosen: str | None, installed: Sequence[str]) -> tuple[Gpu, ...]:
    """The GPUs a CUDA program sees.

    Args:
        chosen: Value of CUDA_VISIBLE_DEVICES, None when unset. As CUDA reads it: numbers or (starts of) UUIDs, and the
            first one that is not valid hides itself and all after it.
        installed: UUIDs of the GPUs by number, then those of MIG devices, which have none.
    """
    numbered = [uuid for uuid in installed if not uuid.startswith("MIG-")]
    if chosen is None:
        return tuple(Gpu(str(number), uuid) for number, uuid in enumerate(numbered))
    gpus: list[Gpu] = []
    for token in (part.strip() for part in chosen.split(",")):
        if token.isdigit() and int(token) < len(numbered):
            identity = numbered[int(token)]
        elif (
            token.startswith(("GPU-", "MIG-"))
            and len(matches := [uuid for uuid in installed if uuid.startswith(token)]) == 1
        ):
            identity = matches[0]
        else:
            break
        if identity not in (gpu.identity for gpu in gpus):
            gpus.append(Gpu(token, identity))
    return tuple(gpus)


def parse_gpu_list(text: str) -> list[str]:
    """UUIDs in the output of ``nvidia-smi -L``: those of the GPUs by number, then those of MIG devices."""
    gpus = [match["uuid"] for line in text.splitlines() if (match := _GPU_LINE.match(line))]
    migs = [match["uuid"] for line in text.splitlines() if (match := _MIG_LINE.match(line))]
    return gpus + migs


def usable_cores() -> int:
    """Cores this process may use: its affinity, bounded by the cgroup's CPU quota; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def _installed_gpus() -> tuple[list[str], str]:
    """UUIDs of the GPUs this machine (or container) has, and why there are none where the driver says so."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return _gpus_of_the_driver(), ""
    try:
        done = subprocess.run(
            [command, "-L"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [], f"nvidia-smi does not answer: {error}"
    uuids = parse_gpu_list(done.stdout)
    said = (done.stdout + done.stderr).strip().splitlines()
    return uuids, "" if uuids or not said else f"nvidia-smi says: {said[0]}"


def _gpus_of_the_driver() -> list[str]:
    """The same from the driver's files, for containers without nvidia-smi; only GPUs whose device is there."""
    uuids = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if Path(f"/dev/nvidia{lines.get('Device Minor', '').strip()}").exists():
            uuids.append(lines.get("GPU UUID", file.parent.name).strip())
    return uuids


def _cpu_quota() -> float | None:
    """The smallest CPU quota, in cores, of this process's cgroup and those above it; None without one."""
    quotas = []
    for root, path in _cpu_cgroups():
        folder = root / path.lstrip("/")
        # In a container the path is often the host's and does not exist in here; what exists at the root is the
        # container's own.
        for place in (folder, *folder.parents):
            quotas += [quota for quota in (cpu_quota_of(place),) if quota is not None]
            if place == root:
                break
    return min(quotas, default=None)


def _cpu_cgroups() -> list[tuple[Path, str]]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((Path("/sys/fs/cgroup"), path))
        elif "cpu" in controllers.split(","):
            found.append((Path("/sys/fs/cgroup/cpu"), path))
    return found


def cpu_quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def _positive(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise LaunchError(f"${name} is {text!r}.", "It must be a whole number from 1 on.")
    return int(text)


def _leading_number(text: str) -> int | None:
    """The first of OMP_NUM_THREADS's numbers (there is one per nesting level)."""
    first = text.split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None
