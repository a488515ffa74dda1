"""SLURM's answers, as squeue and sacct of SLURM 22.05 wrote them, and what is read from them."""

from __future__ import annotations

import getpass
import os
import pwd
import stat
from pathlib import Path

import pytest

from segctl.launch.slurm import scheduler
from segctl.launch.slurm.scheduler import NoAnswerError, expand, known_users, parse_sacct, parse_squeue

ME = pwd.getpwuid(os.getuid()).pw_name


def row(*fields: str) -> str:
    return "\x1f".join(fields)


SQUEUE = "".join(
    row(*fields) + "\x1e\n"
    for fields in (
        ("5", "PENDING", "Resources", "1795374694", "1795374994", "0:00", "5:00", "", "0", "ada", "segctl-r5-attempt1"),
        ("6_2", "PENDING", "JobArrayTaskLimit", "N/A", "N/A", "0:00", "UNLIMITED", "", "0", "ada", "sweep"),
        ("2", "RUNNING", "None", "1795374432", "1795374732", "1-02:03:04", "2-00:00:00", "n[0-2]", "1", "ada", "x"),
        ("1", "RUNNING", "None", "1795374394", "1795374694", "3:22", "5:00", "n0", "0", "bob", "a b|c\x1fd\nnew"),
        ("9", "FAILED", "JobLaunchFailure", "1795374593", "1795374593", "0:00", "5:00", "n1", "0", "ada", "nolog"),
    )
)


def test_squeue_tells_of_each_job() -> None:
    jobs = {job.id: job for job in parse_squeue(SQUEUE, 1795374600.0)}

    assert list(jobs) == ["5", "6_2", "2", "1", "9"]
    waits = jobs["5"]
    assert (waits.state, waits.reason, waits.start, waits.limit) == ("PENDING", "Resources", 1795374694.0, 300.0)
    assert (waits.name, waits.user, waits.nodes, waits.restarts) == ("segctl-r5-attempt1", "ada", "", 0)
    assert (jobs["6_2"].start, jobs["6_2"].limit) == (None, None)
    runs = jobs["2"]
    assert (runs.elapsed, runs.limit, runs.nodes, runs.restarts) == (93784.0, 172800.0, "n[0-2]", 1)
    assert (jobs["1"].name, jobs["1"].reason) == ("a b|c\x1fd\nnew", "")
    assert all(job.source == "squeue" and job.seen == 1795374600.0 for job in jobs.values())
    assert [job.live for job in jobs.values()] == [True, True, True, True, False]


def test_rows_that_cannot_be_read_are_left_out() -> None:
    torn = SQUEUE[:200] + SQUEUE[230:]
    assert {job.id for job in parse_squeue(torn, 0.0)} < {"5", "6_2", "2", "1", "9"}
    assert list(parse_squeue("CLUSTER: lab\nsomething else", 0.0)) == []


SACCT = "\n".join(
    row(*fields)
    for fields in (
        ("2", "RUNNING", "0:0", "1795374432", "Unknown", "164", "5", "n0", "ada", "seg-ok"),
        ("5", f"CANCELLED by {os.getuid()}", "0:0", "None", "1795374593", "0", "5", "None assigned", "ada", "big"),
        ("9", "FAILED", "0:53", "1795374593", "1795374593", "0", "UNLIMITED", "n1", "ada", "nolog"),
        ("6_[2-3,8%2]", "CANCELLED by 4242424", "0:0", "Unknown", "Unknown", "0", "5", "None assigned", "ada", "arr"),
    )
)


def test_sacct_tells_who_cancelled_and_with_what_code() -> None:
    jobs = {job.id: job for job in parse_sacct(SACCT, 7.0)}

    assert list(jobs) == ["2", "5", "9", "6_2", "6_3", "6_8"]
    assert (jobs["2"].state, jobs["2"].start, jobs["2"].end, jobs["2"].limit) == ("RUNNING", 1795374432.0, None, 300.0)
    assert (jobs["5"].state, jobs["5"].by, jobs["5"].nodes, jobs["5"].start) == ("CANCELLED", ME, "", None)
    assert (jobs["9"].exit_code, jobs["9"].limit, jobs["9"].nodes) == ("0:53", None, "n1")
    assert jobs["6_8"].by == "user 4242424"


@pytest.mark.parametrize(
    ("ids", "elements"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[4-6]", ["12_4", "12_5", "12_6"]),
        ("12_[1,4-9:2%2]", ["12_1", "12_4", "12_6", "12_8"]),
        ("12_[1-2,...]", ["12_1", "12_2"]),
    ],
)
def test_elements_of_an_array(ids: str, elements: list[str]) -> None:
    assert list(expand(ids)) == elements


def test_a_user_who_is_not_known_here_would_look_like_one_without_jobs() -> None:
    assert known_users([getpass.getuser(), getpass.getuser()]) == [getpass.getuser()]
    assert known_users([getpass.getuser(), "nobody-of-this-name"]) == []


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that goes before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.mark.parametrize(
    ("script", "timeout", "why"),
    [
        ("exec sleep 60", 0.3, "slurmctld does not answer"),
        ("echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1", 60, "slurmctld does not answer"),
        ("echo 'squeue: error: something new' >&2; exit 1", 60, "squeue failed: something new"),
        ("exit 7", 60, "squeue failed"),
        ("echo 'JOBID STATE'", 60, "squeue's answer cannot be read"),
    ],
)  # fmt: skip
def test_no_answer_says_why(programs: Path, script: str, timeout: float, why: str) -> None:
    program(programs, "squeue", script)
    with pytest.raises(NoAnswerError) as raised:
        scheduler.squeue(["ada"], timeout)
    assert str(raised.value) == why


def test_accounting_that_is_off(programs: Path) -> None:
    program(programs, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    with pytest.raises(NoAnswerError, match=r"^accounting is off$"):
        scheduler.sacct(60, ids=["1"])


def test_a_machine_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoAnswerError, match=r"^there is no squeue on this machine$"):
        scheduler.squeue([], 1.0)


def test_the_users_own_settings_of_squeue_do_not_count(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SLURM_CONF", "/etc/here.conf")
    program(programs, "squeue", f'env > {programs}/seen; echo "$@" >> {programs}/seen')

    assert scheduler.squeue(["ada", "bob"], 60) == []

    seen = (programs / "seen").read_text()
    assert "SQUEUE_STATES" not in seen
    assert "SLURM_CONF=/etc/here.conf" in seen
    assert "SLURM_TIME_FORMAT=%s" in seen
    assert "--all --states=all --array --users ada,bob" in seen


def test_the_newest_start_of_a_requeued_job_counts(programs: Path) -> None:
    first = row("3", "NODE_FAIL", "0:0", "10", "20", "10", "5", "n0", "ada", "x")
    program(programs, "sacct", f"printf '%s\\n' '{first}' '{first.replace('NODE_FAIL', 'PENDING')}'")
    (job,) = scheduler.sacct(5.0, ids=["3"])
    assert (job.state, job.interruption) == ("PENDING", "NODE_FAIL")
