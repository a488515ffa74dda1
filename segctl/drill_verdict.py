"""What a drill concludes from the figures of its runs; pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segctl.errors import listing

FIGURES = ("loss", "grad_norm", "lr")  # of every step, as JSON gives them back: to the last bit
_SHOWN = 5


def curve(records: Sequence[Mapping[str, Any]]) -> dict[int, tuple[Any, ...]]:
    """The figures of each step.

    Args:
        records: Of a run, as `segctl.runs.metrics.read` gives them.
    """
    return {
        record["step"]: tuple(record.get(name) for name in FIGURES)
        for record in records
        if record.get("event") == "train"
    }


def first_difference(one: Mapping[int, Any], other: Mapping[int, Any]) -> int | None:
    """The first step whose figures are not equal to the last bit, or are missing on one side; None where all are."""
    steps = sorted({*one, *other})
    return next((step for step in steps if one.get(step) != other.get(step)), None)


def came_back_from(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """The steps that a run's starts went on from, the first one (0) left out."""
    return [record["step"] for record in records if record.get("event") == "start"][1:]


def miscounted(records: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with the steps of one of a run's starts, in words; empty where each follows the one before.

    Args:
        records: All that the run has written.
    """
    last: dict[tuple[Any, Any], int] = {}
    for record in records:
        start, step = (record.get("attempt"), record.get("restart")), record.get("step")
        if record.get("event") == "start":
            last[start] = record["step"]
        elif record.get("event") == "train":
            before = last.get(start)
            if before is None or step != before + 1:
                return f"step {step} was recorded after {'no start' if before is None else f'step {before}'}"
            last[start] = before + 1
    return ""


def missing(steps: Mapping[int, Any], total: int) -> str:
    """The steps from 1 to `total` that are not there, in words; empty where all are."""
    absent = [str(step) for step in range(1, total + 1) if step not in steps]
    return f"step{'s' if len(absent) > 1 else ''} {shortened(absent)} {_is(absent)} missing" if absent else ""


def shortened(words: Sequence[str]) -> str:
    """``a, b, c, d, e and 3 more``."""
    more = [f"{len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return listing([*words[:_SHOWN], *more])


def meaning(*, repeatable: bool, changed: Sequence[str], on_gpu: bool) -> str:
    """What it usually means where a run that was interrupted does not end as the undisturbed one.

    Args:
        repeatable: Whether two undisturbed runs are equal.
        changed: What model, loss and data set were seen to keep from step to step without saving it.
        on_gpu: Whether it was trained on GPUs.
    """
    if not repeatable:
        return (
            "Two undisturbed runs differ as well, so it is not the resuming: an operation is not deterministic here, "
            "or a plugin draws from a random generator that segctl does not seed, or a data set keeps something from "
            "sample to sample."
        ) + (" With --gpus 0 the operations are deterministic." if on_gpu else "")
    usual = (
        "This is state that is not in the state dict: the model, the loss or the data set keeps something from step to "
        "step, which is lost when the process ends."
    )
    seen = f" Seen to change without being saved: {shortened(changed)}." if changed else ""
    return (
        f"{usual}{seen} A model can register it as a buffer; a loss and a data set must do without, as functions of "
        "their arguments."
    )


def _is(words: Sequence[str]) -> str:
    return "are" if len(words) > 1 else "is"
