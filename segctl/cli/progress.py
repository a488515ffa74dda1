"""How a run that is being followed looks: a moving bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from segctl.cli import output

if TYPE_CHECKING:
    from rich.console import Console

Figures = Mapping[str, Any]  # the content of status.json

FIRST_INTERVAL, LONGEST_INTERVAL = 5.0, 60.0  # seconds between two plain lines; they get rarer as a run goes on


class Display(Protocol):
    """Shows what is known of a run; it can be closed and shown again."""

    def figures(self, figures: Figures) -> None: ...

    def say(self, message: str) -> None: ...

    def close(self) -> None: ...


def display() -> Display:
    console = output.messages()
    return Bar(console) if console.is_terminal else Lines()


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next = self._began

    def figures(self, figures: Figures) -> None:
        now = time.monotonic()
        if now < self._next or not sentence(figures):
            return
        self._next = now + min(max(FIRST_INTERVAL, (now - self._began) / 10), LONGEST_INTERVAL)
        self.say(sentence(figures))

    def say(self, message: str) -> None:
        output.note(message)

    def close(self) -> None:
        pass


class Bar:
    """One moving line at the bottom of the terminal; messages stand above it."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=8 if console.width < 100 else 24),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, text="")
        self._shown = False

    def figures(self, figures: Figures) -> None:
        evaluating = figures.get("phase") == "evaluating"
        done, total = ("eval_done", "eval_total") if evaluating else ("step", "steps")
        self._progress.update(
            self._task,
            completed=figures.get(done) or 0,
            total=figures.get(total),
            text=sentence(figures, "  ") or "starting",
        )
        if not self._shown:
            self._progress.start()
            self._shown = True

    def say(self, message: str) -> None:
        self._console.print(message)

    def close(self) -> None:
        if self._shown:
            self._progress.stop()
            self._shown = False


def sentence(figures: Figures, between: str = ", ") -> str:
    """``step 120/1000, epoch 3.2/50, loss 0.532, 41.2 images/s, 3m 02s left``, of what is known."""
    if figures.get("doing"):
        return str(figures["doing"])
    if figures.get("phase") == "evaluating" and figures.get("eval_total"):
        return f"evaluating {figures.get('eval_done') or 0}/{figures['eval_total']} images"
    if figures.get("steps") is None:
        return ""
    parts = [f"step {figures.get('step') or 0}/{figures['steps']}"]
    if figures.get("epochs") is not None:
        parts.append(f"epoch {output.short(figures.get('epoch') or 0)}/{output.short(figures['epochs'])}")
    if figures.get("loss") is not None:
        parts.append(f"loss {figures['loss']:.4g}")
    if figures.get("samples_per_second"):
        parts.append(f"{figures['samples_per_second']:.3g} images/s")
    if figures.get("eta_seconds") is not None:
        parts.append(f"{output.seconds(figures['eta_seconds'])} left")
    return between.join(parts)
