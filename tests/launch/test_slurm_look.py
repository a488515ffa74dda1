"""What a run on SLURM is doing, from its files and SLURM's word, one case per row."""

from __future__ import annotations

from typing import Any

import pytest

from segctl.launch.slurm.look import interpret
from segctl.launch.slurm.scheduler import Job
from segctl.launch.slurm.sightings import Answer
from segctl.runs.records import Records
from segctl.runs.state import Derived, Sight, derive

NOW = 1_000_000.0
SUBMITTED = NOW - 7200
ATTEMPT = {
    "number": 1,
    "job_id": "12",
    "job_name": "segctl-r1-attempt1",
    "user": "ada",
    "host": "login1",
    "submitted": SUBMITTED,
}
RUNNING = {"attempt": 1, "state": "RUNNING", "restart": 0, "started": NOW - 3600}
REQUEUED = {**RUNNING, "state": "REQUEUED", "reason": "after its time limit", "ended": NOW - 30}
STOPPED = {**RUNNING, "state": "STOPPED", "reason": "SLURM ended it", "ended": NOW - 30}
TRAINING = {"attempt": 1, "phase": "training", "heartbeat": NOW - 3}


def records(attempt: dict[str, Any] | None = None, **files: Any) -> Records:
    return Records("r1", submission={"backend": "slurm"}, attempt={**ATTEMPT, **(attempt or {})}, **files)


def job(state: str, reason: str = "", **said: Any) -> Job:
    return Job(**{"id": "12", "state": state, "reason": reason, "restarts": 0, "seen": NOW, "nodes": "n[0-1]", **said})


def answer(*jobs: Job, **said: Any) -> Answer:
    return Answer(**{"asked": NOW, "answered": NOW, "jobs": {each.id: each for each in jobs}, **said})


def seen(sight: Sight, state: str, words: str) -> None:
    assert (sight.state, sight.reason) == (state, words)


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"])
def test_its_own_last_word_goes_first(state: str) -> None:
    said = {**RUNNING, "state": state, "reason": "so it was"}
    sight = interpret(records(supervisor=said), answer(job("RUNNING")), NOW)
    assert (sight.state, sight.reason, sight.rests_on) == (state, "so it was", "supervisor.json")


WAITING = [
    ("Resources", "waits for free nodes"),
    ("Priority", "waits behind jobs of higher priority"),
    ("Dependency", "waits for another job"),
    ("DependencyNeverSatisfied", "waits for a job that did not succeed, and so will never start"),
    ("JobHeldUser", "is held; 'scontrol release 12' lets it go on"),
    ("BeginTime", "waits for its begin time"),
    ("QOSMaxJobsPerUserLimit", "waits: a limit of its QOS is reached (QOSMaxJobsPerUserLimit)"),
    ("AssocGrpGRES", "waits: a limit of its account is reached (AssocGrpGRES)"),
    (
        "ReqNodeNotAvail, UnavailableNodes:n[1-2]",
        "waits for nodes that it needs (n[1-2]): down, drained or reserved",
    ),
    ("launch failed requeued held", "is held (launch failed requeued held); 'scontrol release 12' lets it go on"),
    ("SomethingNew", "waits (SomethingNew)"),
    ("", "waits for its turn"),
]


@pytest.mark.parametrize(("reason", "words"), WAITING)
def test_a_job_that_waits_says_for_what(reason: str, words: str) -> None:
    sight = interpret(records(), answer(job("PENDING", reason, nodes="", start=NOW + 600, limit=60.0)), NOW)
    seen(sight, "PENDING", words)
    assert (sight.allocation.queue_reason, sight.allocation.expected_start) == (reason, NOW + 600)
    assert (sight.allocation.limit, sight.allocation.elapsed, sight.allocation.nodes) == (60.0, None, "")


def waits_again(**said: Any) -> Job:
    return job("PENDING", "Resources", restarts=1, **said)


IN_QUEUE = [
    # its files                                  squeue's word                              what it is
    ({}, job("RUNNING"), "RUNNING", ""),
    ({"supervisor": RUNNING}, job("RUNNING"), "RUNNING", ""),
    ({}, job("CONFIGURING"), "PENDING", "waits for its nodes to start"),
    ({"supervisor": RUNNING}, job("COMPLETING"), "RUNNING", "stopping"),
    ({"supervisor": STOPPED}, job("COMPLETING"), "RUNNING", "stopping"),
    ({"supervisor": STOPPED}, job("RUNNING"), "RUNNING", "stopping: SLURM ended it"),
    ({"supervisor": REQUEUED}, job("RUNNING"), "REQUEUED", "after its time limit; is going back to the queue"),
    ({"supervisor": REQUEUED}, job("COMPLETING"), "REQUEUED", "after its time limit; is going back to the queue"),
    ({"supervisor": REQUEUED}, waits_again(), "REQUEUED", "after its time limit; waits for free nodes"),
    ({"supervisor": REQUEUED}, job("RUNNING", restarts=1), "RUNNING", "starting, after its time limit"),
    (
        {"supervisor": RUNNING},
        waits_again(interruption="NODE_FAIL"),
        "REQUEUED",
        "after a node failed; waits for free nodes",
    ),
    (
        {"supervisor": STOPPED},
        waits_again(interruption="PREEMPTED"),
        "REQUEUED",
        "after a preemption; waits for free nodes",
    ),
    ({"supervisor": RUNNING}, waits_again(), "REQUEUED", "after it was requeued; waits for free nodes"),
    ({}, waits_again(), "REQUEUED", "after it was requeued; waits for free nodes"),
    (
        {"supervisor": RUNNING},
        job("COMPLETING", restarts=1, interruption="PREEMPTED"),
        "REQUEUED",
        "after a preemption; its nodes are being cleared",
    ),
    (
        {"supervisor": RUNNING},
        job("REQUEUE_HOLD", restarts=1),
        "REQUEUED",
        "after it was requeued; is held (held); 'scontrol release 12' lets it go on",
    ),
    ({"supervisor": RUNNING}, job("SUSPENDED"), "REQUEUED", "suspended by SLURM, in place"),
    ({"supervisor": {**RUNNING, "restart": 1}}, job("RUNNING", restarts=1), "RUNNING", ""),
    # squeue's answer is some seconds old, the job has started since
    ({"supervisor": {**RUNNING, "started": NOW + 2}}, job("PENDING"), "RUNNING", ""),
]


@pytest.mark.parametrize(("files", "told", "state", "words"), IN_QUEUE)
def test_a_job_that_squeue_knows(files: dict[str, Any], told: Job, state: str, words: str) -> None:
    seen(interpret(records(**files), answer(told), NOW), state, words)


ENDED = [
    (
        {},
        job("COMPLETED", end=NOW - 20),
        "LOST",
        "SLURM says that it completed, but it left no last word of its own",
    ),
    ({"supervisor": RUNNING}, job("CANCELLED", by="eve"), "CANCELLED", "cancelled by eve with scancel"),
    ({}, job("CANCELLED", by="eve"), "CANCELLED", "cancelled by eve with scancel while it waited for its turn"),
    ({}, job("CANCELLED"), "CANCELLED", "cancelled while it waited for its turn"),
    (
        {},
        job("CANCELLED", "DependencyNeverSatisfied"),
        "CANCELLED",
        "the job that it waited for did not succeed",
    ),
    ({"supervisor": RUNNING}, job("TIMEOUT", limit=3600.0), "TIMEOUT", "reached its time limit of 60 min"),
    ({"supervisor": RUNNING}, job("DEADLINE"), "TIMEOUT", "reached its deadline"),
    (
        {"supervisor": RUNNING},
        job("NODE_FAIL", end=NOW - 10),
        "REQUEUED",
        "after a node failed; SLURM is clearing it away",
    ),
    (
        {"supervisor": RUNNING},
        job("NODE_FAIL", end=NOW - 61),
        "FAILED",
        "a node failed (n[0-1]), and it was not requeued",
    ),
    (
        {"supervisor": RUNNING, "attempt": {"plan": {"requeue": False}}},
        job("NODE_FAIL", end=NOW - 10),
        "FAILED",
        "a node failed (n[0-1]), and it was not requeued",
    ),
    (
        {},
        job("BOOT_FAIL"),
        "FAILED",
        "a node could not be started (n[0-1]), and it was not requeued",
    ),
    (
        {"supervisor": RUNNING},
        job("PREEMPTED", end=NOW - 61),
        "CANCELLED",
        "preempted, and not sent back to the queue",
    ),
    ({"supervisor": RUNNING}, job("OUT_OF_MEMORY"), "FAILED", "it used more memory than SLURM allows it"),
    ({}, job("FAILED", "JobLaunchFailure"), "FAILED", "SLURM could not start it on n[0-1]"),
    ({}, job("FAILED", exit_code="0:53", source="sacct"), "FAILED", "SLURM could not start it on n[0-1]"),
    (
        {"supervisor": RUNNING},
        job("FAILED", "NonZeroExitCode", exit_code="9:0"),
        "FAILED",
        "it ended without a word (FAILED, exit code 9:0)",
    ),
    ({"supervisor": STOPPED}, job("FAILED", exit_code="75:0"), "CANCELLED", "SLURM ended it"),
]


@pytest.mark.parametrize(("files", "told", "state", "words"), ENDED)
@pytest.mark.parametrize("failure", ["", "slurmctld does not answer"])
def test_a_job_that_ended_without_a_last_word(
    files: dict[str, Any], told: Job, state: str, words: str, failure: str
) -> None:
    if failure and told.state in ("NODE_FAIL", "PREEMPTED"):
        state, words = "UNKNOWN", f"slurmctld does not answer; last seen {told.state} 0 s ago"
    seen(interpret(records(**files), answer(told, failure=failure), NOW), state, words)


def last_seen(state: str, seconds: float, **said: Any) -> Job:
    return job(state, seen=NOW - seconds, **said)


FORGOTTEN = "SLURM does not know job 12 any more"
JUST_GONE = "it has just left the queue; what became of it is not known yet"
GONE = [
    ({"supervisor": RUNNING}, last_seen("RUNNING", 8), "UNKNOWN", JUST_GONE),
    ({"supervisor": RUNNING}, last_seen("RUNNING", 600), "UNKNOWN", f"{FORGOTTEN}; last seen RUNNING 10 min ago"),
    ({"supervisor": RUNNING, "status": TRAINING}, None, "UNKNOWN", f"{FORGOTTEN}; last sign of life 3 s ago"),
    ({"supervisor": RUNNING}, job("RUNNING", source="sacct"), "UNKNOWN", f"{FORGOTTEN}; last seen RUNNING 0 s ago"),
    ({"supervisor": RUNNING, "status": {"phase": "completed"}}, None, "LOST", FORGOTTEN),
    ({"supervisor": RUNNING, "cancel": {"user": "ada"}}, None, "LOST", FORGOTTEN),
    ({"supervisor": STOPPED}, None, "CANCELLED", "SLURM ended it"),
    ({"supervisor": REQUEUED}, None, "CANCELLED", "left the queue while it waited to go on"),
    ({}, job("PENDING", source="sacct"), "CANCELLED", "left the queue before it started"),
    ({}, last_seen("PENDING", 8), "CANCELLED", "left the queue before it started"),
]


@pytest.mark.parametrize(("files", "told", "state", "words"), GONE)
def test_a_job_that_has_left_the_queue(files: dict[str, Any], told: Job | None, state: str, words: str) -> None:
    known = answer(told) if told is not None else answer()
    seen(interpret(records(**files), known, NOW), state, words)


def test_where_accounting_is_off_a_job_that_waited_and_is_gone_may_have_run() -> None:
    told = answer(last_seen("PENDING", 8), accounting_failure="accounting is off")
    assert interpret(records(), told, NOW).state == "UNKNOWN"
    later = interpret(records(), answer(last_seen("PENDING", 300), accounting_failure="accounting is off"), NOW)
    seen(later, "UNKNOWN", "SLURM does not know job 12 any more (accounting is off); last seen PENDING 5 min ago")
    assert later.hint == "'segctl cancel r1' settles that it has ended."


def test_without_slurmctld_nothing_is_claimed() -> None:
    silent = answer(last_seen("RUNNING", 12), failure="slurmctld does not answer", answered=NOW - 12)
    sight = interpret(records(supervisor=RUNNING, status=TRAINING), silent, NOW)
    seen(sight, "UNKNOWN", "slurmctld does not answer; last seen RUNNING 12 s ago; last sign of life 3 s ago")
    assert derive(records(status=TRAINING), sight, NOW).state == "UNKNOWN", "a heartbeat alone is no proof here"
    assert sight.allocation.nodes == "n[0-1]"
    seen(interpret(records(), answer(failure="slurmctld does not answer"), NOW), "UNKNOWN", "slurmctld does not answer")


def test_a_machine_without_slurm_names_one_with_it() -> None:
    sight = interpret(records(), answer(failure="there is no squeue on this machine"), NOW)
    assert (sight.state, sight.hint) == ("UNKNOWN", "Run 'segctl status' on login1.")


def test_another_cluster_is_not_asked_for_a_job_of_this_number() -> None:
    sight = interpret(records({"cluster": "alps"}), answer(job("RUNNING")), NOW, "jura")
    seen(sight, "UNKNOWN", "it was submitted to the cluster alps, this machine belongs to jura")
    assert interpret(records({"cluster": "alps"}), answer(job("RUNNING")), NOW, "alps").state == "RUNNING"
    assert interpret(records({"cluster": "alps"}), answer(job("RUNNING")), NOW).state == "RUNNING"


def intended(seconds: float) -> Records:
    return records({"job_id": None, "submitted": NOW - seconds})


@pytest.mark.parametrize(
    ("seconds", "told", "state", "words"),
    [
        (59, answer(), "PENDING", "is being submitted"),
        (61, answer(), "LOST", "the submitting command ended before it submitted the job"),
        (61, answer(failure="slurmctld does not answer"), "UNKNOWN", "slurmctld does not answer"),
        (61, answer(answered=NOW - 62), "PENDING", "was submitted a moment ago"),
        (61, answer(job("PENDING", name="segctl-r1-attempt1")), "PENDING", "waits for its turn"),
        (61, answer(job("TIMEOUT", name="segctl-r1-attempt1", source="sacct")), "TIMEOUT", "reached its time limit"),
    ],
)
def test_a_job_of_which_only_the_intent_is_recorded(seconds: float, told: Answer, state: str, words: str) -> None:
    seen(interpret(intended(seconds), told, NOW), state, words)


def test_what_was_seen_before_the_submission_is_another_job() -> None:
    sight = interpret(records({"submitted": NOW - 5}), answer(last_seen("TIMEOUT", 8), answered=NOW - 8), NOW)
    seen(sight, "PENDING", "was submitted a moment ago")


def test_a_job_that_started_after_squeue_was_asked_is_believed() -> None:
    said = {**RUNNING, "started": NOW - 2}
    sight = interpret(records({"submitted": NOW - 5}, supervisor=said), answer(answered=NOW - 8), NOW)
    assert (sight.state, sight.rests_on) == ("RUNNING", "supervisor.json")


def of(told: Job, **files: Any) -> Derived:
    run = records(**files)
    return derive(run, interpret(run, answer(told), NOW), NOW)


def test_a_cancel_shows_until_squeue_lets_go() -> None:
    asked = {"cancel": {"user": "ada"}, "supervisor": RUNNING, "status": TRAINING}
    assert of(job("COMPLETING"), **asked).why == "stopping: cancelled by ada"
    ended = of(job("CANCELLED", by="ada"), **asked)
    assert (ended.state, ended.why) == ("CANCELLED", "cancelled by ada")


def test_what_its_ranks_wrote_stands_where_the_leader_left_no_last_word() -> None:
    done = {**TRAINING, "phase": "completed"}
    assert of(job("COMPLETED", end=NOW - 20), supervisor=RUNNING, status=done).state == "COMPLETED"
    assert of(job("COMPLETED", end=NOW - 20), supervisor=RUNNING, status=TRAINING).state == "LOST"


def test_what_the_start_before_said_is_no_sign_of_life_of_this_one() -> None:
    files = {"supervisor": RUNNING, "status": {**TRAINING, "heartbeat": NOW - 1000}}
    assert of(job("RUNNING", start=NOW - 20), **files).state == "STALLED"
    starting = of(job("RUNNING", restarts=1, start=NOW - 20, interruption="PREEMPTED"), **files)
    assert (starting.state, starting.why) == ("RUNNING", "starting, after a preemption")
    silent = of(job("RUNNING", restarts=1, start=NOW - 301), **files)
    assert (silent.state, silent.why) == ("STALLED", "started 5 min ago and has not given a sign of life")


def test_slurm_knows_better_than_ranks_that_only_lost_each_other() -> None:
    broken = {"attempt": 1, "rank": 0, "type": "RuntimeError", "message": "Connection closed by peer", "time": 4.0}
    real = {"attempt": 1, "rank": 1, "type": "ValueError", "message": "bad", "time": 5.0, "traceback": ""}
    files: dict[str, Any] = {"supervisor": RUNNING, "status": TRAINING}
    failed = job("NODE_FAIL", end=NOW - 100)
    assert of(failed, **files, errors=(broken,)).why == "a node failed (n[0-1]), and it was not requeued"
    assert of(failed, **files, errors=(broken, real)).why.startswith("ValueError: bad")
