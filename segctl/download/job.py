"""A download as a job on its node: the counterpart of ``segctl_jobs.main``, without torch."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segctl.download.command import download
from segctl.download.request import Request
from segctl.download.stopping import StoppedError
from segctl.download.work import Event
from segctl.errors import SegctlError
from segctl.runs import error_record, fence
from segctl.runs.attempt import this
from segctl.runs.files import write_json
from segctl.runs.process import hostname
from segctl.runs.run import Run

__all__ = ["run"]

EXIT_STOPPED = 75  # as segctl_jobs.main has it: stopped as asked, to go on later
STATUS_SECONDS = 2.0

log = logging.getLogger(__name__)


def run(run_dir: Path, stop: Callable[[], str | None]) -> None:
    """Does the download that `run_dir` describes.

    Args:
        run_dir: The run's directory.
        stop: Says the name of the signal that asks this process to stop, or None.

    Raises:
        SystemExit: `EXIT_STOPPED` when it stopped as asked; 1 when it failed, with the reason in errors/rank0.json.
    """
    this_run = Run(run_dir)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        fence.claim(this_run, job_id=os.environ.get("SLURM_JOB_ID", ""))
        phase = _download(this_run, stop)
    except fence.SupersededError as error:
        log.error("this process ends: %s", error)
        sys.exit(1)
    except SegctlError as error:
        log.error("%s", error)
        error_record.write(this_run, error, rank=0)
        sys.exit(1)
    except Exception as error:
        log.exception("this process failed")
        error_record.write(this_run, error, rank=0)
        sys.exit(1)
    if phase != "completed":
        sys.exit(EXIT_STOPPED)


def _download(this_run: Run, stop: Callable[[], str | None]) -> str:
    request = Request.read(this_run.config_file)
    status = _Status(this_run)
    try:
        results = download(
            request.names,
            data_root=request.data_root,
            mirror=request.mirror,
            files=request.files,
            keep_archives=request.keep_archives,
            at_once=request.at_once,
            on_event=status,
            asked_to_stop=stop,
        )
    except StoppedError:
        status.end("stopped")
        return "stopped"
    except BaseException:
        status.end("failed")
        raise
    for result in results:
        log.info("%s is complete in %s", result.name, result.root)
        for file in result.files:
            log.info("%s: %d bytes from %s, %s", file.file, file.size, file.source, file.checksum)
    status.end("completed")
    return "completed"


class _Status:
    """status.json, written by a thread at every change of phase and every few seconds: while a server is waited for
    nothing else happens.
    """

    def __init__(self, this_run: Run) -> None:
        self._run = this_run
        self._active: dict[str, tuple[str, int, int | None]] = {}
        self._lock, self._ended, self._news = threading.Lock(), threading.Event(), threading.Event()
        self._write("starting")
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        if event.message:
            log.info("%s", event.message)
            return
        with self._lock:
            before = self._active.get(event.subject, ("", 0, None))[0]
            if event.phase == "done":
                self._active.pop(event.subject, None)
            else:
                self._active[event.subject] = (event.phase, event.done, event.total)
        if event.phase != before:
            log.info("%s: %s", event.subject, event.phase)
            self._news.set()

    def end(self, phase: str) -> None:
        self._ended.set()
        self._news.set()
        self._thread.join()
        self._write(phase)

    def _keep_writing(self) -> None:
        while True:
            self._news.wait(STATUS_SECONDS)
            self._news.clear()
            if self._ended.is_set():
                return
            with self._lock:
                doing = ", ".join(_told(name, *at) for name, at in sorted(self._active.items()))
            self._write("downloading", doing=doing)

    def _write(self, phase: str, **more: Any) -> None:
        record = {**this().as_record(), "phase": phase, "host": hostname(), "device": "cpu", "world_size": 1}
        try:
            write_json(self._run.status_file, {**record, **more, "heartbeat": time.time()})
        except OSError as error:  # the runs folder may be full; the data's may not
            log.warning("%s cannot be written: %s", self._run.status_file, error)


def _told(name: str, phase: str, done: int, total: int | None) -> str:
    share = f" {100 * done / total:.0f} %" if total else f" {done:,} bytes" if done else ""
    return f"{name} {phase}{share}"
