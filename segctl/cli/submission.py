"""What follows a submission by train, eval or resume: show the plan, or the id, or follow the run to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from segctl.cli import output
from segctl.cli.failures import INTERRUPTED, USER_ERROR, say
from segctl.runs.files import read_json
from segctl.runs.run import Run

if TYPE_CHECKING:
    from segctl.status import RunStatus
    from segctl.submit import Submitted


CHECKING = "Checking configuration, data and model"  # importing torch and trying the model take seconds


def conclude(submitted: Submitted, *, detach: bool, as_json: bool) -> None:
    """Reports a submission as the flags want it; leaves with an exit code where the run did not complete."""
    for notice in submitted.notices:
        output.note(f"note: {notice}")
    run = submitted.run
    if run is None:
        _show_plan(submitted, as_json=as_json)
        return
    if submitted.follow_up is not None and not detach:
        output.note(f"run {submitted.follow_up.id} evaluates it when it has completed")
    report(run, detach=detach, as_json=as_json)
    if detach and not as_json and submitted.follow_up is not None:
        typer.echo(submitted.follow_up.id)


def report(run: Run, *, detach: bool, as_json: bool) -> None:
    """Shows the id of a run that was submitted, or follows it; leaves with an exit code where it did not complete."""
    if detach:
        _show_id(run, as_json=as_json)
    else:
        _follow(run, as_json=as_json)


def _show_plan(submitted: Submitted, *, as_json: bool) -> None:
    from segctl.cli import render
    from segctl.config.load import dump

    plan, config = submitted.plan, submitted.config
    if as_json:
        output.document(
            {"plan": asdict(plan), "config": config.model_dump(mode="json"), "notices": list(submitted.notices)}
        )
        return
    typer.echo(render.plan(plan))
    if plan.backend == "slurm":
        typer.echo(render.batch_script(plan))
    typer.echo("")
    typer.echo(dump(config).rstrip())


def _show_id(run: Run, *, as_json: bool) -> None:
    from segctl.status import status

    if as_json:
        output.document(asdict(status((str(run.path),))[0]))
    else:
        typer.echo(run.id)


def _follow(run: Run, *, as_json: bool) -> None:
    from segctl.cli.follow import follow

    output.note(f"run {run.id} in {run.path}")
    followed = follow(run)
    status = followed.status
    measures = final_measures(run) if status.state == "COMPLETED" else None
    if as_json:
        output.document({**asdict(status), "measures": measures})
    elif measures is not None:
        _show_measures(measures)
    if run.predictions.is_dir():
        output.note(f"The predicted masks are in {run.predictions}.")
    if run.predictions_zip.exists():
        output.note(f"What the benchmark's server wants is {run.predictions_zip}.")
    if followed.interrupted:
        raise typer.Exit(_interrupted(run, status))
    if status.state != "COMPLETED":
        raise typer.Exit(_not_completed(run, status))


def final_measures(run: Run) -> dict[str, Any] | None:
    """The measures of an evaluation, or of the last one in a training."""
    from segctl.runs import metrics

    evaluation = read_json(run.eval_file)
    if evaluation is not None:
        return evaluation
    evaluations = [record for record in metrics.read(run) if record.get("event") == "eval"]
    return evaluations[-1] if evaluations else None


def _show_measures(measures: Mapping[str, Any]) -> None:
    from segctl.cli import render

    if "per_class" not in measures:
        output.note(f"The labels of {measures.get('split')} are not public: nothing was measured.")
        return
    console = output.results()
    console.print(render.per_class(measures, console.width))
    typer.echo(render.summary(measures))


def _interrupted(run: Run, status: RunStatus) -> int:
    if status.state == "COMPLETED":
        output.note(f"{run.id} had completed before it could be stopped.")
    elif status.state == "CANCELLED":
        output.note(output.told("Stopped", status.hint))
    else:
        output.note(f"{run.id} is {status.state}: {status.why}")
    return INTERRUPTED


def _not_completed(run: Run, status: RunStatus) -> int:
    """Says why; the traceback of the rank that failed is shown unless the error is the user's to mend."""
    error = _blamed_error(run) if status.state == "FAILED" else None
    if error is not None and not error.get("user_error"):
        typer.echo(str(error.get("traceback", "")).rstrip(), err=True)
    how = "" if status.state == "FAILED" else f"{run.id} is {status.state}: "
    return say(output.told(f"{how}{status.why}", status.hint), USER_ERROR)


def _blamed_error(run: Run) -> Mapping[str, Any] | None:
    """The error record of the rank that the failure rests on; None where it left none."""
    from segctl.runs import records
    from segctl.runs.blame import blame
    from segctl.runs.state import deaths

    read = records.read(run)
    found = blame(read.errors, deaths(read))
    return next((error for error in read.errors if found is not None and error.get("rank") == found.rank), None)
