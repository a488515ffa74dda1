"""Which files of a project a snapshot copies, and what it refuses."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from projects import git, write

from segctl.code_files import LIMIT_VARIABLE, File, Tree, collect, importable, module_name, project_of, select
from segctl.errors import LaunchError

if TYPE_CHECKING:
    from conftest import MakeProject

SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))  # such as .cpython-311-x86_64-linux-gnu.so
PACKAGE = {"pyproject.toml": "", "src/nets/__init__.py": "", "src/nets/unet.py": "", "src/nets/words.txt": "words"}


def copied(root: Path, *modules: str, leave_out: tuple[Path, ...] = ()) -> dict[str, File]:
    (tree,), _ = collect({root: frozenset(modules)}, leave_out)
    return {file.name: file for file in tree.files}


@pytest.mark.parametrize(
    ("file", "module"),
    [("nets.py", "nets"), (f"nets{SUFFIX}", "nets"), ("nets.so", "nets"), ("also", ""), ("a.txt", "")],
)
def test_a_module_is_known_by_its_file(file: str, module: str) -> None:
    assert module_name(file) == module


def test_what_can_be_imported_from_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "b/__init__.py": "", "data/x.txt": "", "not-a-name.py": "", "c.txt": "", "d.so": ""})

    assert importable(tmp_path) == {"a", "b", "d"}
    assert importable(tmp_path / "none") == frozenset()


def test_files_are_selected_by_name() -> None:
    names = [
        *("nets/a.py", "nets/__pycache__/a.cpython-311.pyc", "nets/b.pyc", "queue.py", "queue/x", "src/queue.py"),
        *("tests/__init__.py", "tests/data/x.bin", "data/image.png", "database/x", "test.py"),
    ]

    kept = select(names, without_modules=["queue", "tests"], without_folders=["data/"])

    assert kept == ["nets/a.py", "src/queue.py", "database/x", "test.py"]


def test_the_project_is_the_nearest_folder_that_looks_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path, {"a/pyproject.toml": "", "a/src/x.py": "", "b/x.py": "", "deep/setup.py": "", "deep/1/2/3/4/x.py": ""}
    )

    assert project_of(tmp_path / "a/src") == tmp_path / "a"
    assert project_of(tmp_path / "b") is None
    assert project_of(tmp_path / "deep/1/2/3") == tmp_path / "deep"
    assert project_of(tmp_path / "deep/1/2/3/4") is None
    monkeypatch.setenv("HOME", str(tmp_path / "a"))
    assert project_of(tmp_path / "a/src") is None, "a home is nobody's project, whatever lies in it"


def test_a_project_is_copied_as_git_sees_it(project: MakeProject) -> None:
    files = {**PACKAGE, ".gitignore": "*.bin\nscratch/\n_*.py\n!__init__.py\n", "configs/a.yaml": "", "gone.py": ""}
    folder = project("lab", files)
    ignored = [
        "src/nets/_version.py",
        "src/nets/big.bin",
        "scratch/notes.py",
        "src/nets/__pycache__/unet.cpython-311.pyc",
    ]
    write(folder, dict.fromkeys((*ignored, "new file.py", ".venv/pyvenv.cfg", ".venv/lib/x.py"), "x"))
    (folder / "gone.py").unlink()

    found = copied(folder / "src", "nets")

    assert set(found) == {*PACKAGE, ".gitignore", "configs/a.yaml", "new file.py", "src/nets/_version.py"}
    assert found["src/nets/words.txt"].size == 5


def test_without_git_everything_that_is_not_hidden_counts(project: MakeProject) -> None:
    folder = project("lab", {**PACKAGE, ".cache/x": "", "node_modules/x.js": "", "data/x": ""}, commit=False)
    (folder / "data" / "more").symlink_to(folder / "src")

    assert set(copied(folder / "src", "nets")) == {*PACKAGE, "data/x", "data/more"}


def test_of_a_folder_that_is_no_project_only_the_modules_count(project: MakeProject) -> None:
    folder = project(
        "home", {"helper.py": "", "nets/a.py": "", "nets/x/b.txt": "", "others.py": "", "data/x": ""}, commit=False
    )

    assert set(copied(folder, "helper", "nets")) == {"helper.py", "nets/a.py", "nets/x/b.txt"}


def test_a_package_that_git_ignores_is_copied_whole(project: MakeProject) -> None:
    folder = project(
        "lab", {"pyproject.toml": "", ".gitignore": "build/", "build/lib/nets/a.py": "", "build/lib/nets/w": ""}
    )

    assert set(copied(folder / "build/lib", "nets")) == {
        *("pyproject.toml", ".gitignore", "build/lib/nets/a.py", "build/lib/nets/w"),
    }


def test_submodules_and_other_repositories_count(project: MakeProject) -> None:
    folder = project("lab", PACKAGE)
    for name in ("vendored", "submodule"):
        write(folder / name, {"x.py": "", ".gitignore": "*.bin", "y.bin": ""})
        git(folder / name, "init", "-q")
        git(folder / name, "add", ".")
        git(folder / name, "commit", "-q", "-m", "first")
    git(folder, "add", "submodule")

    found = copied(folder / "src", "nets")

    assert {name for name in found if name.endswith("x.py")} == {"vendored/x.py", "submodule/x.py"}
    assert not [name for name in found if name.endswith(".bin") or "/.git/" in name]


def test_data_and_runs_are_left_out(project: MakeProject) -> None:
    folder = project("lab", {**PACKAGE, "data/x.png": "", "runs/1/run.json": ""})

    found = copied(folder / "src", "nets", leave_out=(folder / "data", folder / "runs", folder, folder.parent))

    assert set(found) == set(PACKAGE)


def test_modules_that_the_job_imports_from_elsewhere_are_left_out(project: MakeProject) -> None:
    files = {
        "setup.py": "",
        "nets.py": "",
        "queue.py": "",
        "tests/__init__.py": "",
        "tests/a.py": "",
        "configs/a.yaml": "",
    }

    assert set(copied(project("lab", files), "nets")) == {"nets.py", "configs/a.yaml"}


# ---- links


def test_links_inside_of_a_project_stay_inside(project: MakeProject, tmp_path: Path) -> None:
    folder = project("lab", PACKAGE)
    (folder / "src/nets/relative.txt").symlink_to("words.txt")
    (folder / "src/nets/absolute.txt").symlink_to(folder / "src/nets/words.txt")
    (folder / "linked").symlink_to("src/nets", target_is_directory=True)

    (tree,), _ = collect({folder / "src": frozenset(["nets"])}, ())
    tree.copy_to(tmp_path / "copy")

    (tmp_path / "copy").rename(tmp_path / "moved")
    for name in ("src/nets/relative.txt", "src/nets/absolute.txt", "linked/words.txt"):
        copy = tmp_path / "moved" / name
        assert copy.read_text() == "words"
        assert copy.resolve() == tmp_path / "moved/src/nets/words.txt"


def test_a_link_to_data_elsewhere_goes_on_pointing_there(project: MakeProject, tmp_path: Path) -> None:
    folder = project("lab", PACKAGE)
    write(tmp_path / "disk", {"image.png": "pixels"})
    (folder / "data").symlink_to("../disk")

    (tree,), _ = collect({folder / "src": frozenset(["nets"])}, ())
    tree.copy_to(tmp_path / "far" / "copy")

    assert (tmp_path / "far/copy/data/image.png").read_text() == "pixels"


def test_code_that_is_a_link_to_a_file_elsewhere_is_frozen_too(project: MakeProject, tmp_path: Path) -> None:
    folder = project("lab", PACKAGE)
    (folder / "src/nets/shared.py").symlink_to(write(tmp_path / "other", {"shared.py": "x = 1"}) / "shared.py")
    (folder / "src/nets/broken").symlink_to("nowhere")

    found = copied(folder / "src", "nets")

    assert (found["src/nets/shared.py"].link, found["src/nets/shared.py"].size) == (None, 5)
    assert found["src/nets/broken"].link is not None


def test_code_that_is_a_folder_elsewhere_is_refused(project: MakeProject, tmp_path: Path) -> None:
    folder = project("lab", PACKAGE)
    write(tmp_path / "other", {"ops/__init__.py": ""})
    (folder / "src/nets/ops").symlink_to(tmp_path / "other/ops")

    with pytest.raises(LaunchError, match=r"src/nets/ops leads out of .*lab to .*other/ops") as refused:
        copied(folder / "src", "nets")
    assert "git ignore" in refused.value.hint


# ---- too much


def test_too_much_is_refused_and_what_it_is_is_named(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project("lab", PACKAGE)
    write(folder, {"dumps/a.bin": "a" * 900_000, "dumps/b.bin": "b" * 700_000, "c.bin": "c" * 100_000})
    monkeypatch.setenv(LIMIT_VARIABLE, "1")

    with pytest.raises(LaunchError) as refused:
        copied(folder / "src", "nets")

    assert refused.value.message == (
        "The snapshot would hold 7 files, 1.6 MiB; 100 files and 1 MiB are allowed. "
        f"In {folder} most is in dumps/ (2 files, 1.5 MiB); the largest files are dumps/a.bin (0.9 MiB), "
        "dumps/b.bin (0.7 MiB) and c.bin (0.1 MiB)."
    )
    assert f"{folder}/.gitignore" in refused.value.hint
    assert LIMIT_VARIABLE in refused.value.hint
    write(folder, {".gitignore": "dumps/\n"})
    assert "c.bin" in copied(folder / "src", "nets")


def test_too_many_files_are_too_much_as_well(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project("lab", {**PACKAGE, **{f"notes/{number}.txt": "" for number in range(97)}}, commit=False)
    monkeypatch.setenv(LIMIT_VARIABLE, "1")

    with pytest.raises(LaunchError, match=r"hold 101 files, 0.0 MiB; 100 files .* most is in notes/ \(97 files"):
        copied(folder / "src", "nets")
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(LaunchError, match="not a whole number"):
        copied(folder / "src", "nets")


def test_copies_have_names_of_their_own(project: MakeProject) -> None:
    roots = [project(f"{place}/metadata", {"pyproject.toml": "", f"{place}.py": ""}) for place in ("a", "b")]
    roots.append(project("a/metadata/more", {"src/c.py": "", "setup.cfg": ""}) / "src")

    trees, places = collect({root: frozenset([name]) for root, name in zip(roots, "abc", strict=True)}, ())

    assert places == ["metadata-2", "metadata-3", "more/src"]
    assert [tree.name for tree in trees] == ["metadata-2", "metadata-3", "more"]
    assert isinstance(trees[0], Tree)
