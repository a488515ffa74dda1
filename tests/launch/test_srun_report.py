"""srun's words for tasks that ended badly; the samples are SLURM 22.05's."""

from __future__ import annotations

import signal

import pytest

from segctl.launch.slurm.srun_report import TaskEnd, read, why_not_started


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ("srun: error: n1: task 2: Exited with exit code 1", [TaskEnd(2, "n1", 1)]),
        ("srun: error: n1: task 1: Exited with exit code 75", [TaskEnd(1, "n1", 75)]),
        ("srun: error: n0: tasks 0-1: Killed", [TaskEnd(0, "n0", -9), TaskEnd(1, "n0", -9)]),
        ("srun: error: n2: tasks 0,2-3: Terminated", [TaskEnd(rank, "n2", -15) for rank in (0, 2, 3)]),
        ("srun: error: gpu-7.lab: task 0: Segmentation fault (core dumped)", [TaskEnd(0, "gpu-7.lab", -11)]),
        ("srun: error: n0: task 3: Aborted", [TaskEnd(3, "n0", -6)]),
        ("srun: error: n0: task 3: User defined signal 2", [TaskEnd(3, "n0", -int(signal.SIGUSR2))]),
        ("srun: error: n0: task 0: Out Of Memory", [TaskEnd(0, "n0", -9, out_of_memory=True)]),
        ("srun: job 12 queued and waiting for resources", []),
        ("srun: error: Node failure on n1", []),
    ],
)
def test_lines(line: str, ends: list[TaskEnd]) -> None:
    assert list(read(line).ends) == ends


def test_the_first_to_end_is_told_from_those_that_srun_ended_after_it() -> None:
    report = read(
        "srun: error: n1: task 2: Exited with exit code 1\n"
        "srun: launch/slurm: _step_signal: Terminating StepId=4.0\n"
        "slurmstepd-n0: error: *** STEP 4.0 ON n0 CANCELLED AT 2026-11-22T18:57:05 ***\n"
        "srun: error: n0: tasks 0-1: Terminated\n"
        "srun: error: n1: task 3: Killed\n"
    )
    assert [(end.rank, end.after_the_first) for end in report.ends] == [(2, False), (0, True), (1, True), (3, True)]


def test_a_task_that_fails_by_itself_meanwhile_is_no_victim() -> None:
    report = read(
        "srun: error: n1: task 2: Exited with exit code 1\n"
        "srun: launch/slurm: _step_signal: Terminating StepId=4.0\n"
        "srun: error: n0: task 0: Exited with exit code 1\n"
    )
    assert [end.after_the_first for end in report.ends] == [False, False]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            "slurmstepd-n0: error: *** STEP 7.0 ON n0 CANCELLED AT 2026-11-22T18:56:56 DUE TO TIME LIMIT ***",
            "TIME LIMIT",
        ),
        (
            "slurmstepd-n0: error: *** STEP 3.0 ON n0 CANCELLED AT 2026-11-22T18:56:56 DUE TO JOB REQUEUE ***",
            "JOB REQUEUE",
        ),
        ("slurmstepd-n0: error: *** STEP 2.0 ON n0 CANCELLED AT 2026-11-22T18:56:46 ***", ""),
        ("srun: error: n1: task 2: Exited with exit code 1", None),
    ],
)
def test_why_slurm_ended_the_step(line: str, cause: str | None) -> None:
    assert read(line).cancelled == cause


def test_memory() -> None:
    text = (
        "slurmstepd-n2: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed."
    )
    assert read(text).out_of_memory
    assert not read("srun: error: n0: task 0: Killed").out_of_memory


@pytest.mark.parametrize(
    "what",
    [
        "Unable to confirm allocation for job 1: Socket timed out on send/recv operation",
        "Unable to create step for job 7: Unable to contact slurm controller (connect failure)",
        "Application launch failed: Job credential expired",
    ],
)
def test_why_nothing_was_started(what: str) -> None:
    assert why_not_started(f"srun: error: {what}\nsrun: Job step aborted\n") == what
    assert why_not_started(f"srun: error: n1: task 0: Killed\nsrun: error: {what}\n") == "", "something was"


def test_what_will_never_start_is_not_tried_again() -> None:
    assert (
        why_not_started("srun: error: Unable to create step for job 7: More processors requested than permitted") == ""
    )
    assert why_not_started("srun: error: n1: task 2: Exited with exit code 1") == ""
