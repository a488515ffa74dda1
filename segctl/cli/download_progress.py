"""How a download looks: a bar for each file on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from segctl.cli import output

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import TaskID

    from segctl.download import Event

FIRST_INTERVAL, LONGEST_INTERVAL = 5.0, 60.0  # seconds between two lines of a file; they get rarer
BAR_INTERVAL = 0.1
_STEPS = "preparing"  # the one phase that does not count bytes


class Display(Protocol):
    def __call__(self, event: Event) -> None: ...

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display() -> Display:
    console = output.messages()
    return Bars(console) if console.is_terminal else Lines()


@dataclass
class _Row:
    """One file: since when it is in its phase, how far it was then, and when it is shown next."""

    phase: str
    began: float
    first: int
    due: float


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.message:
                output.note(event.message)
            elif event.phase in ("done", "waiting"):
                self._rows.pop(event.subject, None)
            elif event.phase:
                self._figures(event, time.monotonic())

    def _figures(self, event: Event, now: float) -> None:
        row = self._rows.get(event.subject)
        if row is None or row.phase != event.phase:
            row = self._rows[event.subject] = _Row(event.phase, now, event.done, now + FIRST_INTERVAL)
            if event.phase == "fetching":  # short ones need no line of their own
                output.note(sentence(event, 0.0, event.done))
        if now >= row.due:
            row.due = now + min(max(FIRST_INTERVAL, (now - row.began) / 10), LONGEST_INTERVAL)
            output.note(sentence(event, now - row.began, row.first))


def sentence(event: Event, seconds: float, first: int) -> str:
    """``train2017.zip: fetching, 1.2 of 18.0 GB (7 %), 45.1 MB/s, 6m 02s left``, of what is known.

    Args:
        event: The newest.
        seconds: For which the phase has lasted; 0 where it begins.
        first: How far it was then.
    """
    if event.phase == _STEPS:
        parts = [f"{event.done} of {event.total}"]
    else:
        parts = [amount(event.done, event.total)]
    rate = (event.done - first) / seconds if seconds > 0 else 0.0
    if rate > 0 and event.phase != _STEPS:
        parts.append(f"{rate / 1e6:.1f} MB/s")
    if rate > 0 and event.total is not None:
        parts.append(f"{output.seconds((event.total - event.done) / rate)} left")
    return f"{event.subject}: {event.phase}, {', '.join(parts)}"


def amount(done: int, total: int | None) -> str:
    """``1.2 of 18.0 GB (7 %)``; in one unit, that of the whole."""
    unit, name = next(
        ((size, name) for size, name in ((1e9, "GB"), (1e6, "MB")) if (total or done) >= size), (1e3, "kB")
    )
    if total is None:
        return f"{done / unit:.1f} {name}"
    return f"{done / unit:.1f} of {total / unit:.1f} {name} ({100 * done / max(total, 1):.0f} %)"


class Bars:
    """A moving bar for each file that is worked on; messages stand above them."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.table import Column

        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16 if console.width < 100 else 32),
            TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, tuple[str, TaskID]] = {}
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.message:
                self._progress.console.print(event.message)
            elif event.phase == "done":
                self._remove(event.subject)
            elif event.phase:
                self._figures(event)

    def _remove(self, subject: str) -> None:
        if subject in self._tasks:
            self._progress.remove_task(self._tasks.pop(subject)[1])

    def _figures(self, event: Event) -> None:
        now = time.monotonic()
        self._progress.start()  # not before: somebody may be asked for a password first
        if event.subject not in self._tasks or self._tasks[event.subject][0] != event.phase:
            self._remove(event.subject)  # the speed of one phase is not that of another
            task = self._progress.add_task(
                f"{event.subject} {event.phase}", total=event.total, completed=event.done, amount=_shown(event)
            )
            self._tasks[event.subject] = (event.phase, task)
        elif now >= self._due.get(event.subject, 0.0) or event.done == event.total:
            task = self._tasks[event.subject][1]
            self._progress.update(task, completed=event.done, total=event.total, amount=_shown(event))
        else:
            return
        self._due[event.subject] = now + BAR_INTERVAL


def _shown(event: Event) -> str:
    if event.phase == "waiting":
        return ""
    return f"{event.done}/{event.total}" if event.phase == _STEPS else amount(event.done, event.total)
