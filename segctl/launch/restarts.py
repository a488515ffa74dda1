"""Whether a job that was interrupted may go on by itself: the same rules on one's own machine and on a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segctl.launch.outcome import Outcome
from segctl.launch.plan import LaunchPlan
from segctl.runs.run import Run

# Why a job was interrupted; these words stand in supervisor.json and in `segctl status`.
AT_LIMIT = "after its time limit"
AT_PREEMPTION = "after its preemption"
BY_REQUEST = "after a request to requeue"

_STEP = re.compile(r"step-(\d+)\.pt")


def newest_step(run: Run) -> int:
    """Step of the run's newest checkpoint, by the names of the files; 0 before the first."""
    try:
        names = [path.name for path in run.checkpoints.iterdir()]
    except OSError:
        return 0
    return max((int(match[1]) for name in names if (match := _STEP.fullmatch(name))), default=0)


def settle(outcome: Outcome, plan: LaunchPlan, history: Sequence[Mapping[str, Any]], newest: int) -> Outcome:
    """What becomes of a job that was interrupted: it is requeued, or ends where it may not go on by itself.

    Args:
        outcome: How it ended; anything but REQUEUED stays what it is.
        plan: The job's.
        history: See `refusal`.
        newest: See `refusal`.
    """
    if outcome.state != "REQUEUED" or not (why := refusal(plan, history, newest)):
        return outcome
    reason = f"stopped {outcome.reason}; it does not go on by itself: {why}"
    return Outcome("TIMEOUT" if outcome.reason == AT_LIMIT else "CANCELLED", reason)


def refusal(plan: LaunchPlan, history: Sequence[Mapping[str, Any]], newest: int) -> str:
    """Why an interrupted job may not go on by itself; empty where it may.

    Args:
        plan: The job's.
        history: As supervisor.json has it: every start of the attempt, oldest first, the interrupted one included, with
            its number (`restart`), the `reason` of its end and the step of the newest checkpoint before it
            (`from_step`).
        newest: Step of the newest checkpoint now.
    """
    if not plan.requeue:
        return "launch.requeue is false"
    restarts = int(history[-1].get("restart", 0)) if history else 0
    if restarts >= plan.max_restarts:
        return f"launch.max_restarts ({plan.max_restarts}) is used up"
    # A preemption is not the job's fault, however soon it comes. A time limit that is too short will always be, and
    # what breaks its connections may be the job itself.
    last = [start.get("reason") for start in history[-2:] if start.get("from_step") == newest]
    if last == [AT_LIMIT, AT_LIMIT]:
        return "twice in a row it came to no new checkpoint by then, so it needs more time (launch.time)"
    if len(last) == 2 and not {AT_LIMIT, AT_PREEMPTION, BY_REQUEST} & set(last):
        return "twice in a row it came to no new checkpoint before that"
    return ""
