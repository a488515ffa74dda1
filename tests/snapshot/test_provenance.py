"""What a run records of the repositories that its code comes from, whatever state they and git are in."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from projects import git, write

from segctl import provenance
from segctl.config.schema import Config, Plugin
from segctl.runs.code import changes, told
from segctl.runs.repository import DIFF_LIMIT, look, read_status
from segctl.runs.run import Run

if TYPE_CHECKING:
    from conftest import MakeProject


def soon() -> float:
    return time.monotonic() + 60


def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = write(tmp_path / "bin", {"git": f"#!/bin/sh\n{script}\n"}) / "git"
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def traced(monkeypatch: pytest.MonkeyPatch, here: Path, **modules: Path) -> provenance.Origin:
    monkeypatch.chdir(here)
    monkeypatch.setattr(provenance.local_code, "loaded", lambda: modules)
    config = Config(model=Plugin(name="enet"), dataset=Plugin(name="shapes"), loss=Plugin(name="cross_entropy"))
    return provenance.trace("train", config, argv=["segctl", "train"])


def test_a_clean_repository(project: MakeProject) -> None:
    folder = project("lab", {"a.py": "x = 1\n"})
    state = look(folder / "none" / "such", soon())

    assert state.as_record() == {
        "root": str(folder),
        "commit": git(folder, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "untracked": 0,
        # of nothing
        "diff_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "diff_cut": False,
    }


def test_the_patch_gives_the_changes_back(
    project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"src/a.py": "x = 1\n", "gone.py": "", "same.py": "y = 1\n", ".gitignore": "data/\n"}
    folder = project("my lab", files)
    git(folder, "config", "diff.noprefix", "true")
    git(folder, "config", "diff.external", "false")
    before = (folder / ".git/index").stat().st_mtime_ns
    write(folder, {"src/a.py": "x = 2\n", "new/b.py": "", "new/c.py": "", "ünlisted": "", "data/1.png": ""})
    os.utime(folder / "same.py", (1, 1))
    (folder / "gone.py").unlink()
    run = Run(tmp_path / "run")
    run.path.mkdir()

    origin = traced(monkeypatch, folder, nets=folder / "src", others=tmp_path)
    origin.keep_patches(run)

    (here, elsewhere) = origin.record["repositories"]
    assert (here["dirty"], here["untracked"], here["holds"]) == (True, 2, ["working directory", "nets"])
    assert here["diff"] == "changes/my-lab.diff"
    assert elsewhere == {"root": str(tmp_path), "error": "in no git repository", "holds": ["others"]}
    assert (folder / ".git/index").stat().st_mtime_ns == before, "looking writes nothing into the repository"
    text = (run.path / here["diff"]).read_text()
    assert "same.py" not in text, "touched, not changed"
    assert "#   new/\n" in text
    assert "#   ünlisted\n" in text
    git(folder, "stash", "-q")
    git(folder, "apply", str(run.path / here["diff"]))
    assert (folder / "src/a.py").read_text() == "x = 2\n"
    assert not (folder / "gone.py").exists()


def test_the_record_says_what_ran_it(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    import segctl

    record = traced(monkeypatch, project("lab", {"a.py": ""})).record

    assert record["python"] == sys.executable
    assert record["segctl"] == str(Path(segctl.__file__).parent)
    assert record["versions"]["segctl"] == segctl.__version__
    assert record["plugins"]["models"]["target"] == "segctl_models.enet:enet"


def test_repositories_of_one_name_have_a_patch_each(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [project(f"{place}/lab", {"a.py": ""}) for place in "abc"]
    for folder in folders:
        write(folder, {"a.py": folder.parent.name})

    origin = traced(monkeypatch, folders[0], b=folders[1], c=folders[2])

    assert list(origin.patches) == ["lab.diff", "lab-2.diff", "lab-3.diff"]
    assert [b"+b" in patch for patch in origin.patches.values()] == [False, True, False]


def test_before_the_first_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", str(write(tmp_path, {"a.py": "x = 1\n"}) / "a.py"))

    state = look(tmp_path, soon())

    assert state.error == ""
    assert state.as_record()["commit"] is None
    assert b"+x = 1" in state.diff


def test_a_long_patch_is_cut_and_a_disk_of_untracked_data_costs_nothing(project: MakeProject) -> None:
    folder = project("lab", {"a.txt": ""})
    write(folder, {"a.txt": "a line of text\n" * 500_000, **{f"data/{number}.png": "" for number in range(2000)}})
    with (folder / "data/big").open("wb") as big:
        big.truncate(2**40)

    state = look(folder, soon())

    assert (len(state.diff), state.cut, state.error) == (DIFF_LIMIT, True, "")
    assert state.status is not None
    assert state.status.untracked == ("data/",)


@pytest.mark.parametrize(
    ("script", "error", "patience"),
    [
        (
            "echo 'fatal: detected dubious ownership in repository' >&2; exit 128",
            "fatal: detected dubious ownership in repository",
            60,
        ),
        ("exit 3", "git status failed with exit code 3", 60),
        ("sleep 100", "git status took too long", 0.5),
        ("printf '# branch.oid 12\\0'; exec sleep 100", "git status took too long", 0.5),
        ("exec 1>&-; sleep 100 & wait", "git status took too long", 0.5),
    ],
)
def test_a_repository_that_cannot_be_asked_is_recorded_as_that(
    project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str, patience: float
) -> None:
    folder = project("lab", {"a.py": ""})
    fake_git(tmp_path, monkeypatch, script)
    began = time.monotonic()

    state = look(folder, began + patience)

    assert state.as_record() == {"root": str(folder), "error": error}
    assert time.monotonic() - began < 50, "of the 100 s that it would take; it is given up after half a second"


def test_without_git_that_is_said(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project("lab", {"a.py": ""})
    monkeypatch.setenv("PATH", str(folder))

    assert look(folder, soon()).as_record() == {"root": str(folder), "error": "git is not installed"}


def test_a_hooks_environment_names_no_other_repository(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, other = project("lab", {"a.py": ""}), project("other", {"b.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))

    assert look(lab, soon()).as_record()["dirty"] is False


def test_gits_status_is_read_up_to_where_it_was_cut() -> None:
    said = b"# branch.oid 1234\0# branch.head (detached)\0# stash 1\0? a b\0? \xff\0? cut of"

    status = read_status(said)

    assert (status.commit, status.branch, status.dirty) == ("1234", None, False)
    assert [os.fsencode(name) for name in status.untracked] == [b"a b", b"\xff"]
    assert read_status(b"1 .M N... 100644 100644 100644 0 0 a.py\0").dirty
    assert read_status(b"u UU N... 1 1 1 1 0 0 0 a.py\0").dirty


# ---- what has changed since


RECORD: dict[str, Any] = {
    "versions": {"python": "3.11.2", "torch": "2.5.0"},
    "plugins": {
        "models": {"distribution": "my-nets", "version": "1.0"},
        "losses": {"distribution": "old", "version": ""},
    },
    "repositories": [
        {"root": "/lab", "commit": "a" * 40, "diff_sha256": "1"},
        {"root": "/slow", "commit": "b" * 40, "error": "git diff took too long"},
        {"root": "/home", "error": "in no git repository"},
    ],
}
SAME = {"python": "3.11.2", "torch": "2.5.0", "my-nets": "1.0", "other": "7"}


@pytest.mark.parametrize(
    ("now", "repository", "expected"),
    [
        (SAME, {"root": "/lab", "commit": "a" * 40, "diff_sha256": "1"}, []),
        (SAME, {"root": "/lab", "error": "git status took too long"}, []),
        (SAME, {"root": "/lab", "commit": "a" * 40, "error": "git diff took too long"}, []),
        (SAME, {"root": "/slow", "commit": "b" * 40, "diff_sha256": "9"}, []),
        (SAME, {"root": "/new", "commit": "c" * 40, "diff_sha256": "9"}, []),
        (SAME, {"root": "/lab", "commit": "a" * 40, "diff_sha256": "2"}, ["/lab has other uncommitted changes"]),
        (
            {**SAME, "torch": "2.6.0"},
            {"root": "/lab", "commit": "c" * 40, "diff_sha256": "2"},
            ["torch was 2.5.0, is 2.6.0", "/lab was at commit aaaaaaaaaa, is at commit cccccccccc"],
        ),
        (
            {"python": "3.11.2", "torch": "2.5.0"},
            {"root": "/lab", "commit": None, "diff_sha256": "1"},
            ["my-nets was 1.0, is no longer installed", "/lab was at commit aaaaaaaaaa, is at no commit"],
        ),
    ],
)
def test_what_differs_from_the_submission_is_said(
    now: dict[str, str], repository: dict[str, Any], expected: list[str]
) -> None:
    assert changes(RECORD, now, [repository]) == expected


def told_of(run: Path, record: dict[str, Any]) -> list[str]:
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text(json.dumps({**record, "versions": {}, "plugins": {}}))
    return told(Run(run))[1]


def test_files_that_git_does_not_track_are_told_apart_too(
    project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = project("lab", {"nets/__init__.py": "x = 1", "nets/words.txt": "", ".gitignore": "drafts.py"})
    write(lab, {"drafts.py": "x = 1"})
    loose = project("loose", {"helper.py": "x = 1", "other.py": ""}, commit=False)
    folders = {"nets": lab, "drafts": lab, "helper": loose, "other": loose}
    record = dict(traced(monkeypatch, tmp_path, **folders, gone=tmp_path).record)
    assert set(record["modules"]) == set(folders)
    assert told_of(tmp_path / "run", record) == []

    write(lab, {"nets/words.txt": "no code", "nets/__pycache__/a.py": "x = 2", "drafts.py": "x = 2"})
    write(loose, {"helper.py": "x = 2", "new.py": ""})
    files = [f"the files of drafts in {lab} have changed", f"the files of helper in {loose} have changed"]
    git_says = [f"{lab} has other uncommitted changes"]
    assert told_of(tmp_path / "run", record) == [*git_says, files[1]], "words.txt is tracked: git has said it"

    write(lab, {"nets/words.txt": ""})
    assert told_of(tmp_path / "run", record) == files
    assert told_of(tmp_path / "run", {**record, "snapshot": {"python_path": []}}) == []


def test_nothing_is_left_of_a_git_that_was_given_up(
    project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project("lab", {"a.py": ""})
    fake_git(tmp_path, monkeypatch, f"sleep 4321 & echo $! > {tmp_path}/pid; wait")

    assert look(folder, time.monotonic() + 10).error

    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
