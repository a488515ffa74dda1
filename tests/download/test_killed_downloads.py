"""`segctl download --all` on a bad line, killed again and again: nothing half done looks finished, and no byte that has
reached the disk is fetched a second time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import every_dataset
import pytest
from server import Asked, Server

from segctl import registry
from segctl.config.schema import Plugin

CODE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import patched_facts;"
    "from segctl.cli.app import main; sys.exit(main())"
)
KILLS = 25  # at most; then it may end
HOME = {"coco_stuff": "coco", "pascal_aug": "pascal_voc"}


class Sweep:
    """The command, and what is on disk after each of its ends."""

    def __init__(self, server: Server, folder: Path, expected: dict[str, dict[str, bytes]]) -> None:
        self.server, self.folder, self.data, self.expected = server, folder, folder / "data", expected
        self.floor: dict[str, int] = {}  # bytes of each file that have reached the disk
        self.seen = 0
        user, password = every_dataset.ACCOUNT
        self.environment = {**os.environ, "CITYSCAPES_USERNAME": user, "CITYSCAPES_PASSWORD": password}

    def start(self) -> subprocess.Popen[str]:
        by_hand = str(self.folder / "by_hand")
        words = ["download", "--all", "--data-root", str(self.data), "--from", by_hand]
        command = [sys.executable, "-c", CODE, str(self.folder), *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def is_still_running(self, process: subprocess.Popen[str], seconds: float) -> bool:
        """Waits from the first request on, or from when there might have been one."""
        deadline = time.monotonic() + 1.0
        while process.poll() is None and len(self.server.asked) == self.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        return process.poll() is None

    def look(self) -> None:
        """Everything that may be said after an end at any moment."""
        self.nothing_was_fetched_again()
        self.nothing_looks_finished_that_is_not()
        for part in self.data.glob(".archives/*/*.part"):
            self.floor[part.name.removesuffix(".part")] = part.stat().st_size
        for file in self.server.files:
            whole = list(self.data.glob(f".archives/*{file}"))
            if whole or file[1:] in self._unpacked():
                self.floor[file[1:]] = len(self.server.files[file].content)

    def nothing_was_fetched_again(self) -> None:
        new, self.seen = self.server.asked[self.seen :], len(self.server.asked)
        for asked, file in self._transfers(new):
            assert asked.start >= self.floor.get(file, 0), f"{file} is fetched again from {asked.start}"

    def _transfers(self, new: list[Asked]) -> Iterator[tuple[Asked, str]]:
        for asked in new:
            package = asked.path.partition("/file-handling/?packageID=")[2]
            file = self.server.packages.get(package, asked.path)
            if asked.method == "GET" and asked.status in (200, 206) and file in self.server.files:
                yield asked, file[1:]

    def _unpacked(self) -> set[str]:
        """Archives that are not needed any more: their marker is there, or all of them but the last move."""
        names = set()
        for marker in self.data.glob("*/.download/*.json"):
            text = marker.read_text()
            names |= {file for file in every_dataset.TREES if f'"{file}"' in text}
        return names

    def nothing_looks_finished_that_is_not(self) -> None:
        for name, files in self.expected.items():
            root = self.data / HOME.get(name, name)
            archives = registry.find("datasets", name).load().archives  # type: ignore[attr-defined]
            for path in (path for archive in archives for path in archive.provides if (root / path).exists()):
                below = [file for file in files if file == path or file.startswith(f"{path}/")]
                assert below
                for file in below:
                    assert (root / file).read_bytes() == files[file]

    def all_is_there(self) -> None:
        for name, files in self.expected.items():
            root = self.data / HOME.get(name, name)
            for file, content in files.items():
                assert (root / file).read_bytes() == content, f"{name}: {file}"
            split = getattr(registry.find("datasets", name).load(), "train_split", "train")
            dataset = registry.open_dataset(Plugin(name=name), self.data, split)
            image, mask = dataset[0]
            assert image.shape[:2] == mask.shape


@pytest.fixture
def sweep(server: Server, tmp_path: Path) -> Sweep:
    expected = every_dataset.publish(server, tmp_path, size=500_000, drop=0.3, pace=0.03)
    return Sweep(server, tmp_path, expected)


@pytest.mark.slow
def test_all_data_sets_survive_a_bad_line_and_many_deaths(sweep: Sweep) -> None:
    draw = random.Random(20)
    kills = 0
    while True:
        process = sweep.start()
        if kills < KILLS and sweep.is_still_running(process, draw.uniform(0.0, 0.6)):
            process.send_signal(signal.SIGKILL)
            kills += 1
        out, errors = process.communicate(timeout=120)
        time.sleep(0.05)  # the server notices
        sweep.look()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
    assert kills >= 5
    sweep.all_is_there()
    assert out.count("complete") == len(sweep.expected)
    asked = len(sweep.server.asked)

    last = sweep.start()
    out, errors = last.communicate(timeout=120)

    assert last.returncode == 0, errors
    assert out.count("complete") == len(sweep.expected)
    assert len(sweep.server.asked) == asked  # nothing at all is asked for
    assert not (sweep.data / ".archives").exists()


@pytest.mark.slow
def test_without_deaths_every_file_is_sent_once(server: Server, tmp_path: Path) -> None:
    sweep = Sweep(server, tmp_path, every_dataset.publish(server, tmp_path, size=20_000))

    process = sweep.start()
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
    sweep.all_is_there()
    for file, served in server.files.items():
        packages = [f"/file-handling/?packageID={number}" for number, path in server.packages.items() if path == file]
        sent = sum(asked.sent for asked in server.asked if asked.path in (file, *packages))
        assert sent == len(served.content), file
