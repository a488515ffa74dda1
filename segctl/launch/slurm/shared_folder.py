"""Whether the nodes of a cluster see the folder of the runs: what is known of that before a job waits in the queue.

Only a job can find out. What is known here is whether one has been seen to write there, and whether the folder lies on
a file system that is this machine's memory.
"""

from __future__ import annotations

import contextlib
import re
import time
from itertools import islice
from pathlib import Path

from segctl.launch.slurm.sightings import cluster_key, cluster_name
from segctl.runs import records, store
from segctl.runs.files import cache_folder, read_json, write_json

__all__ = ["file_system_of", "is_reached", "remember", "unproven"]

_OF_THIS_MACHINE = ("proc", "sysfs", "tmpfs", "ramfs", "devtmpfs")
_LOOKED_AT = 36  # the newest runs; each costs some small files of perhaps a slow file system
_KEPT = 200


def unproven(folder: Path, place: str) -> tuple[str, ...]:
    """What to tell who submits a job with its run in `folder`; nothing where a job has reached it before.

    Args:
        folder: Of the runs; it need not be there yet.
        place: Profile or backend.
    """
    if is_reached(folder):
        return ()
    whole = folder.resolve()
    try:
        kind = file_system_of(str(whole), Path("/proc/self/mountinfo").read_text(errors="replace"))
    except OSError:  # not Linux
        kind = ""
    own = f"{whole} is on {kind}, which other machines do not see. " if kind in _OF_THIS_MACHINE else ""
    return (
        f"{own}No job has yet been seen to reach {whole}; 'segctl profiles check {place}' finds out before anything "
        "waits in the queue.",
    )


def file_system_of(path: str, mountinfo: str) -> str:
    """The type of the file system that `path` is on; empty where that is not known.

    Args:
        path: Absolute, without links.
        mountinfo: Content of ``/proc/self/mountinfo``; its format is in proc(5).
    """
    found, depth = "", -1
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split()
        if not separator or len(fields) < 5 or not source.split():
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]).rstrip("/")
        if (path == point or path.startswith(f"{point}/")) and len(point) >= depth:  # of two at one place the later
            found, depth = source.split()[0], len(point)
    return found


def is_reached(folder: Path) -> bool:
    """Whether a job of this cluster has been seen to write into `folder`: one of the newest runs, or a check's."""
    if str(folder.resolve()) in _remembered():
        return True
    here = cluster_name()
    return any(_has_run_here(records.read(run), here) for run in islice(store.all_runs(folder), _LOOKED_AT))


def _has_run_here(one: records.Records, here: str) -> bool:
    there = one.attempt.get("cluster")
    return bool(one.supervisor.get("job_id")) and (not (here and there) or there == here)


def remember(folder: Path) -> None:
    """Takes note that all nodes of a check have written into `folder`; lost where the cache cannot be written."""
    kept = {**_remembered(), str(folder.resolve()): time.time()}
    newest = dict(sorted(kept.items(), key=lambda item: item[1])[-_KEPT:])
    with contextlib.suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_json(_file(), {"reached": newest})


def _remembered() -> dict[str, float]:
    reached = (read_json(_file()) or {}).get("reached")
    known = reached if isinstance(reached, dict) else {}
    return {path: moment for path, moment in known.items() if isinstance(moment, (int, float))}


def _file() -> Path:
    return cache_folder() / f"slurm-{cluster_key()}-folders.json"
