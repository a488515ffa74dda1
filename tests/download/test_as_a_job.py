"""`segctl download --on PLACE`: a run like others, on this machine's own queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted import ZIP, Install, facts, is_whole
from server import Server

import segctl
from segctl.cli.app import main

SEGCTL = [sys.executable, "-m", "segctl.cli"]


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*SEGCTL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def toy(server: Server, published: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", published(facts(server.serve("/toy.zip", ZIP, pace=0.01), ZIP)))


@pytest.mark.slow
def test_a_job_is_followed_to_its_end(toy: None, server: Server, data: Path) -> None:
    done = program("download", "toy", "--data-root", data, "--on", "local")

    assert done.returncode == 0, done.stderr
    assert is_whole(data)
    (run,) = segctl.status()
    assert (run.kind, run.state, run.dataset) == ("download", "COMPLETED", "download-toy")
    assert any("toy is complete in" in line for line in segctl.logs(run.id))
    assert server.sent("/toy.zip") == len(ZIP)

    again = program("download", "toy", "--data-root", data, "--on", "local", "--detach")

    assert again.returncode == 0
    assert again.stdout.splitlines()[1].split()[:2] == ["toy", "complete"]  # at once, and no second run
    assert len(segctl.status()) == 1


@pytest.mark.slow
def test_a_job_that_is_cancelled_is_gone_on_with_by_the_same_command(toy: None, server: Server, data: Path) -> None:
    server.files["/toy.zip"].pace = 0.5  # eighteen seconds for all of it
    run = program("download", "toy", "--data-root", data, "--on", "local", "--detach").stdout.strip()
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in data.glob(".archives/*/toy.zip.part")):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert program("cancel", run).returncode == 0

    (status,) = segctl.status()
    assert status.state == "CANCELLED"
    command = f"segctl download toy --data-root {data} --on local"
    assert command in status.hint
    refused = program("resume", run)
    assert refused.returncode == 1
    assert f"'{command}' goes on where it stopped." in refused.stderr
    (part,) = data.glob(".archives/*/toy.zip.part")
    have = part.stat().st_size
    assert have > 0
    server.files["/toy.zip"].pace = 0.0
    assert program(*command.split()[1:]).returncode == 0
    assert server.asked[-1].start == have


@pytest.mark.slow
def test_what_fails_in_a_job_is_the_users_to_mend(toy: None, server: Server, data: Path) -> None:
    server.files["/toy.zip"].always = (403, {})

    done = program("download", "toy", "--data-root", data, "--on", "local")

    assert done.returncode == 1
    assert "toy.zip cannot be fetched: " in done.stderr
    assert "the server answers 403" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_succeed_is_refused_before(toy: None, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "lip", "--data-root", str(data), "--on", "local"]) == 1

    assert "with a browser" in capsys.readouterr().err
    assert not Path(os.environ["SEGCTL_RUNS"]).exists()


def test_a_profile_that_is_not_there_is_told(toy: None, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "toy", "--data-root", str(data), "--on", "datanode"]) == 1
    assert "datanode" in capsys.readouterr().err


def test_only_a_job_can_be_detached(toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "toy", "--detach"]) == 1
    assert capsys.readouterr().err == "error: --detach: without --on the download is not a job. Add --on local.\n"


@pytest.mark.slow
def test_json_of_a_job(toy: None, data: Path) -> None:
    done = program("download", "toy", "--data-root", data, "--on", "local", "--json")

    assert json.loads(done.stdout)["state"] == "COMPLETED"
