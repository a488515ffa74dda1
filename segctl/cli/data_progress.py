"""How far a look through a data set is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from segctl.cli import output

if TYPE_CHECKING:
    from types import TracebackType

FIRST_INTERVAL, LONGEST_INTERVAL = 5.0, 60.0  # seconds between two plain lines


class LookProgress:
    """Shows that the data are being opened, then how many of the images are done.

    The bar begins with the first image that is done: worker processes have been forked then, which is not to happen
    while a bar's thread runs.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._reserved = ExitStack()
        self._shown = ExitStack()
        self._bar: _Bar | None = None
        self._began = self._next = 0.0

    def __enter__(self) -> LookProgress:
        self._reserved.enter_context(output.reserved())  # to the end, unlike the line that is shown
        self._shown.enter_context(output.busy("Opening the data"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shown.close()
        self._reserved.close()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 0:
            self._shown.close()
            self._began, self._next = now, now + FIRST_INTERVAL
            return
        rate = done / max(now - self._began, 1e-9)
        if output.messages().is_terminal:
            self._bar = self._bar or _Bar(self._doing, total, self._shown)
            self._bar.update(done, rate)
        elif now >= self._next and done < total:
            self._next = now + min(max(FIRST_INTERVAL, (now - self._began) / 10), LONGEST_INTERVAL)
            left = output.seconds((total - done) / rate)
            output.note(f"{self._doing} {done}/{total} images, {rate:.0f} images/s, {left} left")


class _Bar:
    def __init__(self, doing: str, total: int, shown: ExitStack) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = output.messages()
        self._progress = Progress(
            TextColumn(doing),
            BarColumn(bar_width=8 if console.width < 80 else 32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total, rate="")
        shown.enter_context(self._progress)

    def update(self, done: int, rate: float) -> None:
        self._progress.update(self._task, completed=done, rate=f"{rate:.0f} images/s")
