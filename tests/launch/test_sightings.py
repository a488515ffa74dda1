"""How often SLURM is asked. The programs here only count and repeat; tests/slurm has the real ones."""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segctl.launch.slurm import sightings
from segctl.launch.slurm.sightings import Wanted, ask
from segctl.runs.process import user_name

ME = user_name()
POLITE = 10.0


class Programs:
    """A squeue and a sacct that say what they are told to say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("squeue", "sacct"):
            path = folder / name
            path.write_text(f'#!/bin/sh\necho "$@" >> {path}.calls\n. {path}.does\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            self.does(name, "exit 0")

    def does(self, name: str, script: str) -> None:
        (self.folder / f"{name}.does").write_text(script)

    def queue(self, **states: str) -> None:
        """What squeue says, by job number with a letter before it."""
        rows = (
            "\x1f".join((key[1:], state, "None", "10", "N/A", "0:05", "5:00", "n0", "0", ME, f"name{key}"))
            for key, state in states.items()
        )
        (self.folder / "rows").write_text("".join(f"{row}\x1e\n" for row in rows))
        self.does("squeue", f"cat {self.folder}/rows")

    def accounts(self, *rows: tuple[str, str, str]) -> None:
        """What sacct says: id, state and moment of the end."""
        lines = (
            "\x1f".join((number, state, "0:0", "10", end, "5", "5", "n0", ME, "name")) for number, state, end in rows
        )
        (self.folder / "lines").write_text("".join(f"{line}\n" for line in lines))
        self.does("sacct", f"cat {self.folder}/lines")

    def calls(self, name: str) -> list[str]:
        path = self.folder / f"{name}.calls"
        return path.read_text().strip().split("\n") if path.exists() else []

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.calls("squeue")), len(self.calls("sacct"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for limit in ("QUEUE_TIMEOUT", "TOTAL_TIMEOUT"):  # a busy machine may not run a program in time
        monkeypatch.setattr(sightings, limit, 60.0)
    return Programs(folder)


def job(number: int) -> Wanted:
    return Wanted(id=str(number), user=ME)


def states(max_age: float, *numbers: int) -> list[str]:
    answer = ask([job(number) for number in numbers], max_age)
    return [found.state if (found := answer.job(job(number))) is not None else "" for number in numbers]


def test_one_question_for_all_jobs(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING", j2="PENDING")
    slurm.accounts(("3", "TIMEOUT", "20"), ("4", "COMPLETED", "20"))
    assert states(POLITE, 1, 2, 3, 4, 5) == ["RUNNING", "PENDING", "TIMEOUT", "COMPLETED", ""]
    assert slurm.counts == (1, 1)
    assert "--jobs 3,4,5" in slurm.calls("sacct")[0]


def test_jobs_in_the_queue_cost_one_call(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING", j2="PENDING")
    states(POLITE, 1, 2)
    assert slurm.counts == (1, 0)


def test_who_keeps_asking_is_told_the_same_for_a_while(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING", j2="PENDING")
    for _ in range(20):
        assert states(POLITE, 1) == ["RUNNING"]
        assert states(POLITE, 2) == ["PENDING"], "squeue's answer has all jobs of the user"
    assert slurm.counts == (1, 0)

    slurm.queue(j1="COMPLETING")
    time.sleep(0.3)
    assert states(0.2, 1) == ["COMPLETING"]
    assert slurm.counts[0] == 2


def test_many_at_once_ask_once(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING")
    slurm.does("squeue", "sleep 0.3; " + "cat $(dirname $0)/rows")
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: states(POLITE, 1)[0], range(20))) == {"RUNNING"}
    assert slurm.counts == (1, 0)


def test_a_failure_is_not_tried_again_at_once_and_forgets_nothing(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING")
    states(0.0, 1)
    slurm.does("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    time.sleep(0.3)
    for max_age in (0.2, POLITE, POLITE, POLITE):
        answer = ask([job(1)], max_age)
        found = answer.job(job(1))
        assert found is not None
        assert (answer.failure, found.state) == ("slurmctld does not answer", "RUNNING")
        assert not answer.in_queue(found)
    assert slurm.counts[0] == 2

    slurm.queue(j1="COMPLETED")
    assert states(0.0, 1) == ["COMPLETED"]


def test_programs_that_hang_are_given_up(slurm: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "QUEUE_TIMEOUT", 0.3)
    monkeypatch.setattr(sightings, "TOTAL_TIMEOUT", 0.5)
    for name in ("squeue", "sacct"):
        slurm.does(name, "exec sleep 60")
    began = time.monotonic()
    answer = ask([job(1)], POLITE)
    assert time.monotonic() - began < 30, "half a second; the rest is for a busy machine"
    assert (answer.failure, answer.accounting_failure) == ("slurmctld does not answer", "slurmdbd does not answer")


def test_what_ended_long_ago_is_never_asked_for_again(slurm: Programs) -> None:
    slurm.accounts(("3", "TIMEOUT", str(int(time.time() - 3600))))
    assert states(0.0, 3) == states(0.0, 3) == ["TIMEOUT"]
    assert slurm.counts == (1, 1)


def test_what_ended_a_moment_ago_may_have_been_requeued(slurm: Programs) -> None:
    slurm.accounts(("3", "NODE_FAIL", str(int(time.time() - 5))))
    assert states(0.0, 3) == ["NODE_FAIL"]
    slurm.queue(j3="PENDING")
    assert states(0.0, 3) == ["PENDING"]


def test_whoever_looks_learns_what_became_of_the_others(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING", j2="RUNNING")
    states(0.0, 1)
    slurm.queue(j1="RUNNING")
    slurm.accounts(("2", "TIMEOUT", "20"))
    states(0.0, 1)
    assert slurm.counts == (2, 1)
    assert states(POLITE, 1, 2) == ["RUNNING", "TIMEOUT"]
    assert slurm.counts == (2, 1)


def test_a_stale_word_of_the_accounting_does_not_bring_a_job_back(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING")
    states(0.0, 1)
    slurm.queue()
    slurm.accounts(("1", "RUNNING", "Unknown"))
    answer = ask([job(1)], 0.0)
    found = answer.job(job(1))
    assert found is not None
    assert not answer.in_queue(found)
    assert found.seen < answer.answered


def test_why_a_job_was_requeued_is_asked_once(slurm: Programs) -> None:
    slurm.queue(j1="PENDING")
    (slurm.folder / "rows").write_text((slurm.folder / "rows").read_text().replace("\x1f0\x1f", "\x1f1\x1f"))
    slurm.accounts(("1", "NODE_FAIL", "20"), ("1", "PENDING", "Unknown"))
    wanted = Wanted(id="1", user=ME, unexplained=0)
    for _ in range(3):
        found = ask([wanted], 0.0).job(wanted)
        assert found is not None
        assert (found.state, found.restarts, found.interruption) == ("PENDING", 1, "NODE_FAIL")
    assert slurm.counts == (3, 1)


def test_who_cancelled_is_asked_once(slurm: Programs) -> None:
    slurm.queue(j1="CANCELLED")
    path = slurm.folder / "rows"
    path.write_text(path.read_text().replace("N/A", str(int(time.time()))))
    slurm.accounts(("1", "CANCELLED by 4242424", str(int(time.time()))))
    for _ in range(3):
        found = ask([job(1)], 0.0).job(job(1))
        assert found is not None
        assert found.by == "user 4242424"
    assert slurm.counts == (3, 1)


def test_a_job_of_which_only_the_name_is_known(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING")
    named = Wanted(name="namej1", user=ME)
    found = ask([named], 0.0).job(named)
    assert found is not None
    assert found.id == "1"
    assert ask([Wanted(name="other", user=ME, since=1000.0)], 0.0).job(Wanted(name="other")) is None
    assert "--name other --starttime 1970-01-01T" in slurm.calls("sacct")[0]


def test_another_users_jobs_need_another_question(slurm: Programs) -> None:
    slurm.queue(j1="RUNNING")
    states(POLITE, 1)
    ask([Wanted(id="1", user="nobody")], POLITE)
    assert states(POLITE, 1) == ["RUNNING"]
    assert slurm.counts[0] == 2
    assert f"--users {','.join(sorted([ME, 'nobody']))}" in slurm.calls("squeue")[1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"asked": 1e12}', '{"asked": "x", "jobs": 3}'])
def test_a_damaged_memory_is_no_memory(slurm: Programs, tmp_path: Path, content: str) -> None:
    slurm.queue(j1="RUNNING")
    states(POLITE, 1)
    (memory,) = (tmp_path / "cache" / "segctl").glob("slurm-*.json")
    memory.write_text(content)
    assert states(POLITE, 1) == states(POLITE, 1) == ["RUNNING"]
    assert slurm.counts[0] == 2


def test_without_a_place_to_remember_it_works_as_well(
    slurm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    slurm.queue(j1="RUNNING")
    assert states(POLITE, 1) == ["RUNNING"]


def test_two_clusters_of_one_home_do_not_mix(slurm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.queue(j1="RUNNING")
    states(POLITE, 1)
    conf = tmp_path / "slurm.conf"
    conf.write_text("# here\nClusterName = Alps  # upper case is not kept\n")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    slurm.queue(j1="PENDING")
    assert states(POLITE, 1) == ["PENDING"]
    assert sightings.cluster_name() == "alps"
