"""Results as text: the measures of an evaluation, the plan of a launch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segctl.cli.output import percent
from segctl.cli.table import Column, Row, table

if TYPE_CHECKING:
    from rich.text import Text

    from segctl.launch.plan import LaunchPlan

_MEASURES = (
    ("miou", "mIoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("mean_accuracy", "mean accuracy"),
    ("frequency_weighted_iou", "frequency-weighted IoU"),
    ("mean_dice", "mean Dice"),
)


def per_class(measures: Mapping[str, Any], width: int) -> Text:
    """A row for each class, in percent; of a class that does not occur there is nothing to say."""
    columns = (Column("CLASS"), *(Column(title, right=True) for title in ("IOU", "ACCURACY", "DICE", "PIXELS")))
    pixels = sum(row.get("pixels") or 0 for row in measures.get("per_class", ()))
    rows = [
        Row(
            (
                str(row.get("name")),
                percent(row.get("iou")) or "-",
                percent(row.get("accuracy")) or "-",
                percent(row.get("dice")) or "-",
                percent((row.get("pixels") or 0) / pixels) if pixels else "-",
            )
        )
        for row in measures.get("per_class", ())
    ]
    return table(columns, rows, width)


def summary(measures: Mapping[str, Any]) -> str:
    """``mIoU 67.31 %, pixel accuracy 92.80 %, ...``"""
    known = [(title, measures.get(key)) for key, title in _MEASURES]
    return ", ".join(f"{title} {100 * value:.2f} %" for title, value in known if value is not None)


def plan(plan: LaunchPlan) -> str:
    """What would be started, as comments, so that it may stand before a configuration in YAML."""
    devices = f"{plan.gpus_per_node} GPU(s) per node" if plan.device == "cuda" else "CPU"
    facts = {
        "backend": plan.backend,
        "processes": f"{plan.world_size} ({plan.procs_per_node} on each of {plan.nodes} node(s))",
        "device": f"{devices}, {plan.threads_per_proc} thread(s) per process",
        "time limit": _limit(plan) if plan.time_limit is not None else "",
        "environment": " ".join(f"{name}={value}" for name, value in plan.environment.items()),
        "command": shlex.join(plan.command),
    }
    return "\n".join(f"# {name:<12} {fact}" for name, fact in facts.items() if fact)


def batch_script(plan: LaunchPlan) -> str:
    """What sbatch would get, as comments too."""
    from segctl.launch.slurm.plan import preview

    return "\n".join(["#", *(f"#   {line}".rstrip() for line in preview(plan).splitlines())])


def _limit(plan: LaunchPlan) -> str:
    on = f"goes on by itself, up to {plan.max_restarts} times" if plan.requeue else "does not go on by itself"
    return f"{plan.time_limit} s; saves {plan.save_before} s before, then {on}"
