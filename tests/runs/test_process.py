"""A process number alone is nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from segctl.runs.process import ProcessId, alive, identify, send


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_living_process_is_recognised(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert alive(process) is True
    assert ProcessId.from_record(process.as_record()) == process


def test_a_later_process_with_the_same_number_is_another(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    boot, _, ticks = process.started.rpartition("/")
    earlier = replace(process, started=f"{boot}/{int(ticks) - 1}")

    assert alive(earlier) is False
    assert send(earlier, signal.SIGKILL) is False
    assert sleeper.poll() is None, "it was not hit"


def test_before_a_restart_of_the_machine_is_not_now(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert alive(replace(process, started="another-boot/" + process.started.rpartition("/")[2])) is False


def test_other_hosts_and_containers_cannot_be_seen(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert alive(replace(process, host="castle")) is None
    assert alive(replace(process, namespace="pid:[1]")) is None


def test_a_signal_arrives_and_an_unburied_process_counts_as_gone(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert send(process, signal.SIGKILL) is True
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert alive(process) is False
    assert identify(sleeper.pid) is None
    assert send(process, signal.SIGKILL) is False


def test_records_without_a_process() -> None:
    assert ProcessId.from_record({"host": "castle"}) is None
