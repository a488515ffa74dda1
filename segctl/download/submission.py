"""`segctl download --on PLACE`: the same as a run, which `segctl status`, `logs` and `cancel` know."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segctl.download.request import Request
from segctl.download.survey import survey
from segctl.errors import DownloadError
from segctl.launch import machine
from segctl.launch.backends import backend
from segctl.profiles import launch_of_place
from segctl.provenance import user
from segctl.runs import code, store
from segctl.runs.process import hostname
from segctl.runs.run import Run

__all__ = ["SubmittedDownload", "submit"]


@dataclass(frozen=True)
class SubmittedDownload:
    """A download that was handed over.

    Attributes:
        run: None where all was there already.
        notices: What the user should know although nothing is wrong.
    """

    run: Run | None
    notices: tuple[str, ...] = ()


def submit(
    names: Sequence[str],
    *,
    on: str,
    all: bool,
    data_root: str | None,
    mirror: str,
    files: Sequence[str],
    keep_archives: bool,
    at_once: int,
    runs_dir: Path | None,
) -> SubmittedDownload:
    """Submits a download as a job of one process without a GPU, and returns at once.

    Args:
        on: A profile, ``slurm`` or ``local``. What a data node wants to be asked for, such as its partition, stands in
            the profile.
        runs_dir: Folder of the runs; default: $SEGCTL_RUNS, else ``runs``.

    The rest is as for `segctl.download`, but for a login: name and password must be in the environment or in ~/.netrc,
    where the job finds them too.

    Raises:
        SegctlError: It could not succeed, or not be submitted. Nothing is left behind.
    """
    launch = launch_of_place(on).model_copy(update={"nodes": 1, "procs": 1, "gpus": 0})
    found = survey(names, all=all, data_root=data_root, mirror=mirror, files=files)
    if found.refused and not all:
        raise next(iter(found.refused.values()))
    notices = (*found.left_out, *(f"{name}: {error}" for name, error in found.refused.items()))
    if not any(state.missing for _, state in found.datasets):
        return SubmittedDownload(None, notices)
    possible = tuple(each.name for each, _ in found.datasets if each.name not in found.refused)
    if not possible:
        raise DownloadError("None of these data sets can be fetched by a program.", " ".join(notices))
    request = Request(
        names=possible,
        data_root=str(found.data_root),
        mirror=found.address or (_absolute(mirror) if mirror else ""),
        files=tuple(_absolute(file) for file in files),
        keep_archives=keep_archives,
        at_once=at_once,
    )
    plan = backend(launch.on).plan(launch, machine.read())
    folder = store.runs_dir(runs_dir)
    store.refuse_unwritable(folder)
    limits = backend(launch.on).accepts(plan, runs_dir=folder, place=on, dry_run=False)
    run = store.create(request.text(), _record(request, on), folder)
    try:
        backend(launch.on).submit(run, plan)
    except BaseException:
        if not run.submission_file.exists():
            store.remove(run)
        raise
    return SubmittedDownload(run, (*notices, *limits))


def _absolute(path: str) -> str:
    return str(Path(os.path.expanduser(path)).absolute())


def _record(request: Request, on: str) -> dict[str, object]:
    again = ["segctl", "download", *request.names, "--data-root", request.data_root, "--on", on]
    again += ["--mirror", request.mirror] if request.mirror else []
    again += [word for file in request.files for word in ("--from", file)]
    return {
        "kind": "download",
        "name": None,
        "model": None,
        "dataset": "-".join(["download", *request.names[:3]]) if len(request.names) <= 3 else "download-several",
        "again": shlex.join(again),
        "created": time.time(),
        "argv": list(sys.argv),
        "cwd": str(Path.cwd()),
        "host": hostname(),
        "user": user(),
        "python": sys.executable,
        "segctl": str(code.segctl_folder()),
        "versions": code.versions(),
    }
