"""Following a run in the foreground. It only reads the run's files: the job does not care whether someone looks."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from segctl.cli import output
from segctl.cli.progress import Display, display
from segctl.errors import SegctlError
from segctl.runs import records
from segctl.runs.run import Run
from segctl.runs.state import FINAL

if TYPE_CHECKING:
    from segctl.status import RunStatus

POLL_SECONDS = 0.25
NEWS_SECONDS = 2.0


@dataclass(frozen=True)
class Followed:
    """How following ended: the run's last status, and whether the user stopped it by Ctrl-C."""

    status: RunStatus
    interrupted: bool = False


def follow(run: Run) -> Followed:
    """Shows the run until it ends. Ctrl-C asks whether to stop it; a second one, or one without a terminal, means yes.

    Stopping is `segctl cancel`: the job saves a checkpoint first. Another Ctrl-C leaves while the job is still at that.
    """
    with _counting_interrupts() as interrupts:
        follower = _Follower(run, display(), interrupts)
        try:
            while (followed := follower.step()) is None:
                time.sleep(POLL_SECONDS)
            return followed
        finally:
            follower.display.close()


@dataclass
class _Follower:
    """What was shown already, so that each piece of news is told once."""

    run: Run
    display: Display
    interrupts: Interrupts
    cancelling: _Cancelling | None = None
    news: str = ""
    news_since: float | None = None
    evaluations: _Evaluations = field(init=False)

    def __post_init__(self) -> None:
        self.evaluations = _Evaluations(self.run, skip_present=records.read(self.run).number > 1)

    def step(self) -> Followed | None:
        """Shows what is new; the end, once there is one."""
        status = self._show()
        if status.state in FINAL:
            return Followed(status, interrupted=self.cancelling is not None)
        if self.cancelling is not None:
            self.cancelling.check()
        if not self.interrupts.take():
            return None
        if self.cancelling is not None:
            self.display.say(f"{self.run.id} is still being stopped; look again with: segctl status {self.run.id}")
            return Followed(status, interrupted=True)
        self.display.close()
        if _confirmed():
            self.display.say("Stopping after the current step, with a checkpoint ...")
            self.cancelling = _Cancelling(self.run)
        return None

    def _tell(self, news: str, worth: bool) -> None:
        """Says the state where it is worth a line and has lasted: every job is pending for a moment."""
        now = time.monotonic()
        if news != self.news:
            self.news, self.news_since = news, now
        elif worth and self.news_since is not None and now - self.news_since >= NEWS_SECONDS:
            self.display.say(news)
            self.news_since = None

    def _show(self) -> RunStatus:
        status = _status(self.run)
        self._tell(f"{status.state}: {status.why}", status.state in ("PENDING", "STALLED", "REQUEUED", "UNKNOWN"))
        for record in self.evaluations.new():
            self.display.say(_evaluation(record))
        if status.state == "RUNNING":
            self.display.figures(records.read(self.run).status)
        return status


def _status(run: Run) -> RunStatus:
    from segctl.launch.backends import POLITE
    from segctl.status import of

    return of([run], max_age=POLITE)[0]


class _Cancelling:
    """`segctl cancel` in a thread: it returns when the job is gone, and what the job still does is shown meanwhile."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._failure: SegctlError | None = None
        threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def _cancel(self) -> None:
        from segctl.cancel import cancel

        try:
            cancel(str(self._run.path))
        except SegctlError as error:
            self._failure = error

    def check(self) -> None:
        """Raises what went wrong."""
        if self._failure is not None:
            raise self._failure


class _Evaluations:
    """The evaluations in metrics.jsonl as they come; only what was added since the last look is read."""

    def __init__(self, run: Run, *, skip_present: bool) -> None:
        self._file = run.metrics_file
        self._read = 0
        if skip_present:  # an earlier attempt's
            self.new()

    def new(self) -> list[dict[str, Any]]:
        try:
            with self._file.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except OSError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        return [record for line in whole.splitlines() if (record := _evaluation_in(line)) is not None]


def _evaluation_in(line: bytes) -> dict[str, Any] | None:
    if b'"eval"' not in line:
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("event") == "eval" else None


def _evaluation(record: dict[str, Any]) -> str:
    where = f"epoch {output.short(record['epoch'])}, " if isinstance(record.get("epoch"), (int, float)) else ""
    accuracy = f", pixel accuracy {output.percent(record.get('pixel_accuracy'))} %"
    return f"{where}step {record.get('step')}: mIoU {output.percent(record.get('miou'))} %{accuracy}"


class Interrupts:
    """Ctrl-C as something to look at between two readings, instead of an exception in the middle of one."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1

    def take(self) -> bool:
        taken, self._count = self._count > 0, 0
        return taken


@contextmanager
def _counting_interrupts() -> Iterator[Interrupts]:
    interrupts = Interrupts()
    before = signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def _confirmed() -> bool:
    """Asks, where there is somebody to ask; the end of input means no, a second Ctrl-C yes."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        typer.echo("\nStop the run? [y/N] (Enter: go on watching; Ctrl-C: stop) ", err=True, nl=False)
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        typer.echo("", err=True)
        return True
    finally:
        signal.signal(signal.SIGINT, before)
    return answer.strip().lower() in ("y", "yes")
