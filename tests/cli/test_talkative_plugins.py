"""A plugin that prints: what it says is no result, so a program that reads standard output never sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import install
from programs import TINY, Said

TALKATIVE = '''
import os
import sys

from torch import nn

print("talk: imported")


class Talkative(nn.Module):
    """A convolution that talks."""

    def __init__(self, num_classes):
        super().__init__()
        print("talk: constructed")
        sys.__stdout__.write("talk: past the redirection\\n")
        os.system("echo talk: a program")
        self.head = nn.Conv2d(3, num_classes, 1)

    def forward(self, images):
        print("talk: called")
        return self.head(images)
'''
TRAIN = ["train", "--model", "talkative", *TINY[3:], "--epochs", "1"]


@pytest.fixture(autouse=True)
def talkative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"talkative": "talkative_nets:Talkative"}
    folder = install(tmp_path / "plugins", "talkative", {"talkative_nets.py": TALKATIVE}, models=models)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_what_a_plugin_prints_is_no_part_of_the_json_document(program: Callable[..., Said]) -> None:
    shown = program("plugins", "show", "talkative", "--json")
    assert json.loads(shown.out)["name"] == "talkative"
    planned = program(*TRAIN, "--dry-run", "--json")
    assert json.loads(planned.out)["config"]["model"]["name"] == "talkative"
    for words in ("imported", "constructed", "past the redirection", "a program", "called"):
        assert f"talk: {words}\n" in planned.err


@pytest.mark.slow
def test_a_shell_gets_the_runs_id_alone(program: Callable[..., Said]) -> None:
    said = program(*TRAIN, "--detach")
    assert said.out == f"{next(Path(os.environ['SEGCTL_RUNS']).iterdir()).name}\n"
    assert program("cancel", said.out.strip()).code == 0
