"""Several downloads at once, and what those leave that die: locks, and what `prepare` has begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from planted import ZIP, Install, facts, is_whole
from server import Server

import segctl
from segctl.download.lock import Timing, held
from segctl.download.stopping import Stop, StoppedError
from segctl.errors import DataError, DownloadError, SegctlError

QUICK = Timing(look=0.02, beat=0.05, silent=0.5)


def test_two_at_once_fetch_every_byte_once(
    server: Server, published: Install, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", published(facts(server.serve("/toy.zip", ZIP, pace=1.0), ZIP)))
    command = [sys.executable, "-m", "segctl.cli", "download", "toy", "--data-root", str(data)]
    files = [data.with_name(f"said-{number}") for number in range(3)]

    def waiting() -> int:
        return sum("toy.zip is being fetched by process" in file.read_text() for file in files)

    def start(file: Path) -> subprocess.Popen[bytes]:
        with file.open("w") as said:
            return subprocess.Popen(command, stderr=said)

    processes = [start(file) for file in files]
    deadline = time.monotonic() + 60
    while waiting() < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    server.files["/toy.zip"].pace = 0.0  # all three are there
    codes = [process.wait(60) for process in processes]

    assert codes == [0, 0, 0], [file.read_text() for file in files]
    assert waiting() == 2
    assert server.sent("/toy.zip") == len(ZIP)
    assert is_whole(data)
    assert not (data / ".archives").exists()


def wait(path: Path, told: list[str] | None = None, seconds: float = 60.0, timing: Timing = QUICK) -> float:
    """Takes a lock and gives it back; returns how long that took."""
    began = time.monotonic()
    deadline = began + seconds
    with held(path, Stop(lambda: time.monotonic() > deadline), (told if told is not None else []).append, timing):
        return time.monotonic() - began


def test_a_lock_is_given_back_and_nothing_is_left(tmp_path: Path) -> None:
    wait(tmp_path / "lock")
    wait(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_excludes_also_threads(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(5):
            with held(tmp_path / "lock", Stop(), lambda owner: None, QUICK):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 20


def test_who_waits_for_himself_does_not_say_so(tmp_path: Path) -> None:
    told: list[str] = []
    with held(tmp_path / "lock", Stop(), told.append, QUICK), pytest.raises(StoppedError):
        wait(tmp_path / "lock", told, seconds=0.2)
    assert told == []


def test_a_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from segctl.download.lock import held;"
        "from segctl.download.stopping import Stop\n"
        "with held(Path(sys.argv[1]), Stop(), print): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoppedError):
            wait(tmp_path / "lock", seconds=0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "lock.owner").exists()
    assert wait(tmp_path / "lock", timing=replace(QUICK, silent=600.0)) < 30


def test_what_a_kill_leaves_before_the_removal_is_removed_later(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    segctl.download("toy", data_root=data, keep_archives=True)
    (note,) = data.glob(".archives/*/wanted.json")
    note.write_text(note.read_text().replace("true", "false"))  # as a call without --keep-archives has it
    (note.parent / "lock.owner.killed").touch()

    segctl.download("toy", data_root=data)

    assert not (data / ".archives").exists()


def test_what_was_once_kept_stays(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    segctl.download("toy", data_root=data, keep_archives=True)
    segctl.download("toy", data_root=data)
    assert len(list(data.glob(".archives/*/toy.zip"))) == 1


def test_what_another_still_wants_is_not_removed(server: Server, published: Install, data: Path) -> None:
    """Two data sets in one file; the first could be unpacked, the second was not."""
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(archive)
    published(archive, name="toy2")
    (data / "toy2/.download").mkdir(parents=True)
    (data / "toy2/.download/lock").mkdir()  # it cannot be locked
    with pytest.raises(SegctlError):
        segctl.download(["toy", "toy2"], data_root=data)
    segctl.download("toy", data_root=data)
    (data / "toy2/.download/lock").rmdir()
    server.asked.clear()

    segctl.download("toy2", data_root=data)

    assert server.asked == []
    assert not (data / ".archives").exists()


def test_an_owner_on_another_machine_counts_as_long_as_it_gives_signs_of_life(tmp_path: Path) -> None:
    """Where flock does not reach from one machine to another, only the owner's file tells."""
    owner = tmp_path / "lock.owner"
    owner.write_text(json.dumps({"host": "n7", "pid": 7, "pid_started": "boot/1", "pid_namespace": "x", "token": "t"}))
    began = time.monotonic()

    def beats_for_a_while() -> bool:
        """Asked before each look at the lock, so that no look comes too late for a sign of life."""
        os.utime(owner)
        return time.monotonic() > began + 3 * QUICK.silent

    told: list[str] = []
    with pytest.raises(StoppedError), held(tmp_path / "lock", Stop(beats_for_a_while), told.append, QUICK):
        pass
    assert told == ["process 7 on n7"]
    assert wait(tmp_path / "lock") >= QUICK.silent


PREPARE = """
    @classmethod
    def prepare(cls, root, progress):
        made = root / "made"
        if made.exists():
            return
        assert (root / "toy/photo.jpg").exists()
        for step in range(3):
            progress(step, 3)
        {then}
        made.write_text("all")
"""


def test_what_the_archives_lack_is_made_once(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP), more=PREPARE.format(then=""), layout=["toy", "made"])
    steps: list[tuple[str, int]] = []

    segctl.download(
        "toy",
        data_root=data,
        on_event=lambda event: steps.append((event.subject, event.done)) if event.phase == "preparing" else None,
    )

    assert (data / "toy/made").read_text() == "all"
    assert steps == [("toy", 0), ("toy", 1), ("toy", 2)]
    steps.clear()
    segctl.download("toy", data_root=data)
    assert steps == []


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("raise ValueError('no polygons')", "fails to prepare its files: ValueError: no polygons"),
        ("from segctl.errors import DataError; raise DataError('odd')", "odd"),
    ],
)
def test_a_preparation_that_fails_is_told(
    server: Server, published: Install, data: Path, then: str, words: str
) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP), more=PREPARE.format(then=then))

    with pytest.raises(DownloadError, match=words):
        segctl.download("toy", data_root=data)
    server.asked.clear()
    with pytest.raises(DownloadError, match=words):
        segctl.download("toy", data_root=data)
    assert server.asked == []  # what was fetched stays


def test_an_archive_that_is_not_what_the_plugin_expects(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP), layout=["images", "masks"])

    with pytest.raises(DownloadError, match=r"unpacked in .*, but there is no images and masks"):
        segctl.download("toy", data_root=data)


def test_a_folder_that_cannot_be_written(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    data.write_text("a file")

    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        segctl.download("toy", data_root=data)
