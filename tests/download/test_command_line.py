"""`segctl download` as its user sees it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from planted import ZIP, Install, facts, is_whole
from server import Server

from segctl.cli.app import main
from segctl.cli.download_progress import amount, sentence
from segctl.download import Event

COMMAND = [sys.executable, "-m", "segctl.cli", "download"]


@pytest.fixture
def toy(server: Server, published: Install, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("PYTHONPATH", published(facts(server.serve("/toy.zip", ZIP), ZIP)))
    return server


def test_the_table_and_the_lines(toy: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "toy", "--data-root", str(data)]) == 0

    out, err = capsys.readouterr()
    assert re.split(r"\s{2,}", out.splitlines()[0].strip()) == ["DATA SET", "STATE", "FETCHED", "FOLDER"]
    assert re.split(r"\s{2,}", out.splitlines()[1].strip()) == ["toy", "complete", "600.4 kB", str(data / "toy")]
    assert err == "toy.zip: fetching, 0.0 of 600.4 kB (0 %)\n"


def test_json(toy: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "toy", "--data-root", str(data), "--json"]) == 0

    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["complete"], told["files"][0]["size"]) == ("toy", True, len(ZIP))


def test_what_is_not_complete(toy: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.files["/toy.zip"].always = (404, {})

    assert main(["download", "toy", "lip", "--data-root", str(data), "--json"]) == 1

    out, err = capsys.readouterr()
    assert [(each["name"], each["complete"]) for each in json.loads(out)] == [("toy", False), ("lip", False)]
    assert "error: Not complete: toy and lip. toy: toy.zip cannot be fetched: " in err
    assert "lip: Fetch TrainVal_images.zip and TrainVal_parsing_annotations.zip with a browser" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cityscape"], "There is no data set 'cityscape'. Did you mean 'cityscapes'?"),
        (["folder"], "declares nothing to download"),
        ([], "No data set was named. There are ade20k, camvid"),
        (["toy", "--all"], "Both toy and --all were given."),
        (["toy", "--at-once", "0"], "--at-once"),
        (["toy", "--mirror", "gopher://x"], "neither http nor https"),
    ],
)
def test_wrong_words(toy: Server, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", *words]) == 1
    assert told in capsys.readouterr().err


def test_what_is_drawn_needs_no_download(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "shapes", "--data-root", str(data)]) == 0
    assert "nothing to fetch" in capsys.readouterr().out
    assert not data.exists()


def test_neither_torch_nor_numpy_is_needed(toy: Server, data: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'submitit', 'numpy', 'pydantic_core']));"
        "import segctl; segctl.download('toy', data_root=sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(data)], check=True, timeout=60)
    assert (data / "toy/toy/photo.jpg").is_file()


def test_ctrl_c_ends_it_and_the_same_command_goes_on(toy: Server, data: Path) -> None:
    toy.files["/toy.zip"].pace = 0.2  # seven seconds for all of it
    words = [*COMMAND, "toy", "--data-root", str(data)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in data.glob(".archives/*/toy.zip.part")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert said.endswith("Stopped. The same command goes on where it stopped.\n")
    (part,) = data.glob(".archives/*/toy.zip.part")
    have = part.stat().st_size
    assert have > 0
    toy.files["/toy.zip"].pace = 0.0
    assert subprocess.run(words, check=False, timeout=60).returncode == 0
    assert toy.asked[-1].start == have


class Screen:
    """The command at a terminal of 120 columns, with somebody who types."""

    def __init__(self, *words: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self._text = ""

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self._text):
            assert self._read(), self._text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_until_it_echoes_no_more(self) -> None:
        deadline = time.monotonic() + 60
        while termios.tcgetattr(self._master)[3] & termios.ECHO:
            assert time.monotonic() < deadline, self._text
            time.sleep(0.02)

    def end(self) -> str:
        """All that was to be seen."""
        while self._read():
            pass
        os.close(self._master)
        assert self.process.wait(timeout=60) == 0, self._text
        return self._text

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 60)[0]:
            return False
        try:
            new = os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # the command has ended
            return False
        self._text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", new)
        return True


def test_a_terminal_sees_a_bar_with_rate_and_time_left(toy: Server, data: Path) -> None:
    toy.files["/toy.zip"].pace = 0.2  # seven seconds for all of it

    seen = Screen("toy", "--data-root", str(data)).end()

    assert re.search(r"toy\.zip fetching .* of 600\.4 kB \(\d+ %\) .*[kM]B/s 00:0", seen), seen
    assert "complete" in seen


def test_who_sits_at_the_terminal_is_asked_for_name_and_password(
    server: Server, published: Install, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.account = ("somebody", "correct horse")
    server.serve("/toy.zip", ZIP)
    server.packages["3"] = "/toy.zip"
    address = f"{server.url}/file-handling/?packageID=3"
    monkeypatch.setenv("PYTHONPATH", published(facts(address, ZIP, file="toy.zip", login="cityscapes")))
    monkeypatch.setenv("NETRC", os.devnull)

    screen = Screen("toy", "--data-root", str(data))
    screen.wait_for("Name at 127.0.0.1")
    screen.type("somebody\n")
    screen.wait_for("Password")
    screen.wait_until_it_echoes_no_more()
    screen.type("correct horse\n")
    seen = screen.end()

    assert is_whole(data)
    assert "correct horse" not in seen


def test_what_a_line_says() -> None:
    event = Event("a.zip", "fetching", 1_500_000_000, 3_000_000_000)
    assert sentence(event, 10.0, 1_000_000_000) == "a.zip: fetching, 1.5 of 3.0 GB (50 %), 50.0 MB/s, 30s left"
    assert sentence(event, 0.0, 0) == "a.zip: fetching, 1.5 of 3.0 GB (50 %)"
    assert sentence(Event("coco", "preparing", 30, 90), 10.0, 10) == "coco: preparing, 30 of 90, 30s left"
    assert sentence(Event("a.zip", "fetching", 5_000_000), 0.0, 0) == "a.zip: fetching, 5.0 MB"
    assert amount(12_345, None) == "12.3 kB"
