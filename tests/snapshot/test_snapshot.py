"""A snapshot is what Python then imports: tried with a fresh Python each time, on code that is found by PYTHONPATH."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from projects import write

from segctl.code_files import File, Tree
from segctl.errors import LaunchError, RunError
from segctl.local_code import folder_of, is_installed
from segctl.runs.code import refuse_other_code, snapshot_lines, snapshot_path, with_snapshot
from segctl.runs.files import write_json
from segctl.runs.run import Run
from segctl.snapshot import Seen, Snapshot, import_roots, preflight, take

if TYPE_CHECKING:
    from conftest import MakeProject, RunPython

TAKE = """
    import json, sys
    from pathlib import Path
    from types import SimpleNamespace
    import {modules}
    from segctl.runs.files import write_json
    from segctl.runs.run import Run
    from segctl.snapshot import survey, take
    run = Run(Path({run!r}))
    run.path.mkdir(parents=True)
    snapshot = survey(SimpleNamespace(data_root="data"), run.path.parent)
    take(snapshot, run)
    write_json(run.run_file, {{"snapshot": snapshot.as_record()}})
    print(json.dumps({{**snapshot.as_record(), "notice": snapshot.notice}}))
"""
LOOK = "import json, {modules}; print(json.dumps([{modules}.WORDS, {modules}.__file__]))"


def run_in(folder: Path, record: dict[str, Any] | None = None) -> Run:
    folder.mkdir(parents=True)
    write_json(folder / "run.json", record or {})
    return Run(folder)


def path_of(run: Run, *path: Path) -> list[Path]:
    environ = with_snapshot({"PYTHONPATH": os.pathsep.join(map(str, path))}, run)
    return [Path(entry) for entry in environ["PYTHONPATH"].split(os.pathsep)]


def test_edits_do_not_reach_what_was_frozen(project: MakeProject, run_python: RunPython, tmp_path: Path) -> None:
    words = "WORDS = (Path(__file__).parent / '../configs/w').read_text() + helper.W"
    nets = f"from pathlib import Path\nimport helper\n{words}"
    files = {"pyproject.toml": "", "nets/__init__.py": nets, "configs/w": "old", "helper.py": "W = ' and old'"}
    folder = project("lab", {**files, ".gitignore": "secret\n"})
    write(folder, {"secret": "", "broken.py": "not Python"})
    run = Run(tmp_path / "runs" / "one")

    taken = run_python(TAKE.format(modules="nets", run=str(run.path)), folder)

    assert {"nets", "helper"} <= set(taken["modules"])
    assert str(folder) in taken["notice"]
    assert next(tree["files"] for tree in taken["trees"] if tree["source"] == str(folder)) == 6
    write(folder, {"nets/__init__.py": "WORDS = 'new'", "configs/w": "new", "helper.py": "W = ' and new'"})
    assert run_python(LOOK.format(modules="nets"), folder) == ["new", str(folder / "nets/__init__.py")]
    frozen = run_python(LOOK.format(modules="nets"), *path_of(run, folder))
    assert frozen == ["old and old", str(run.path / "code/lab/nets/__init__.py")]

    moved = Run(run.path.rename(tmp_path / "elsewhere"))
    assert run_python(LOOK.format(modules="nets"), *path_of(moved, folder)) == [
        "old and old",
        str(moved.path / "code/lab/nets/__init__.py"),
    ]


def test_a_copy_hides_no_module_of_somebody_else(project: MakeProject, run_python: RunPython, tmp_path: Path) -> None:
    first = project("first", {"setup.py": "", "nets.py": "import extras\nWORDS = extras.WORDS", "colours.py": ""})
    second = project("second", {"setup.py": "", "extras.py": "WORDS = 'right'", "nets.py": "", "colours.py": ""})
    run = Run(tmp_path / "runs" / "one")

    taken = run_python(TAKE.format(modules="nets", run=str(run.path)), first, second)

    places = [entry for entry in taken["python_path"] if entry in ("code/first", "code/second")]
    assert places == ["code/first", "code/second"]
    assert sorted(path.name for path in (run.path / "code/second").glob("*.py")) == ["extras.py"]
    assert sorted(path.name for path in (run.path / "code/first").glob("*.py")) == ["colours.py", "nets.py", "setup.py"]


def test_a_namespace_package_is_frozen_part_by_part(
    project: MakeProject, run_python: RunPython, tmp_path: Path
) -> None:
    first = project("first", {"setup.py": "", "acme/nets.py": "WORDS = 'old'"})
    second = project("second", {"setup.py": "", "acme/losses.py": "WORDS = 'old'"})
    run = Run(tmp_path / "runs" / "one")

    run_python(TAKE.format(modules="acme.nets, acme.losses", run=str(run.path)), first, second)
    write(first, {"acme/nets.py": "WORDS = 'new'"})
    write(second, {"acme/losses.py": "WORDS = 'new'"})

    for module in ("acme.nets", "acme.losses"):
        words, file = run_python(LOOK.format(modules=module), *path_of(run, first, second))
        assert words == "old"
        assert file.startswith(str(run.code))


def test_plugins_keep_the_names_they_had(project: MakeProject, run_python: RunPython, tmp_path: Path) -> None:
    points = "[segctl.models]\nthin = nets:thin\n"
    files = {
        "setup.py": "",
        "nets.py": "WORDS = 'old'\ndef thin(num_classes): ...",
        "lab.egg-info/PKG-INFO": "Name: lab\nVersion: 1.0\n",
    }
    folder = project("lab", {**files, "lab.egg-info/entry_points.txt": points, ".gitignore": "*.egg-info\n"})
    run = Run(tmp_path / "runs" / "one")
    find = """
        import json
        from segctl.registry import find
        plugin = find("models", "thin")
        print(json.dumps([plugin.version, plugin.load().__code__.co_filename]))
    """

    run_python(TAKE.format(modules="nets", run=str(run.path)), folder)
    write(folder, {"lab.egg-info/entry_points.txt": "[segctl.models]\nthick = nets:thin\n"})

    assert "no model 'thin'" in run_python(find, folder, refused=True)
    assert run_python(find, *path_of(run, folder)) == ["1.0", str(run.code / "lab/nets.py")]


def test_an_import_that_cannot_be_turned_is_refused(
    project: MakeProject, run_python: RunPython, tmp_path: Path
) -> None:
    """As the editable installations of some compiled packages have it: a finder that goes before all others."""
    finder = """
        import sys
        from importlib.util import spec_from_file_location
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                return spec_from_file_location(name, {file!r}) if name == "nets" else None
        sys.meta_path.insert(0, Finder)
    """
    folder = project("lab", {"setup.py": "", "nets.py": "WORDS = 'old'"})
    hook = write(
        tmp_path / "hook", {"sitecustomize.py": finder.replace("\n        ", "\n").format(file=str(folder / "nets.py"))}
    )

    said = run_python(TAKE.format(modules="nets", run=str(tmp_path / "runs/one")), hook, refused=True)

    assert f"nets cannot be frozen: Python would import it from {folder} all the same." in said


def test_a_folder_that_no_import_path_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"a folder with ':' in its name, such as .*a:b"):
        take(Snapshot((Tree("x", tmp_path, ()),), ("code/x",), ("x",), {}), Run(tmp_path / "a:b"))


def test_a_file_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    with pytest.raises(LaunchError, match=r"gone\.py: No such file"):
        take(Snapshot((Tree("x", tmp_path, (File("gone.py", 1),)),), ("code/x",), ("x",), {}), run)


# ---- which folders


def test_folders_that_an_installer_keeps_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, {"target/torch-2.0.dist-info/RECORD": "", "mine/x.py": "", "lib/python3.11/site-packages/y.py": ""})

    assert is_installed(Path(os.__file__).parent)
    assert is_installed(Path(pytest.__file__).parents[1])
    assert is_installed(tmp_path / "target")
    assert is_installed(tmp_path / "lib/python3.11/site-packages")
    assert not is_installed(tmp_path / "mine")


def test_where_a_module_comes_from(tmp_path: Path) -> None:
    write(tmp_path, {"lab/nets/__init__.py": "", "cache/deep/one.py": "", "site/.keep": ""})
    (tmp_path / "site/nets").symlink_to(tmp_path / "lab/nets")
    (tmp_path / "site/one.py").symlink_to(tmp_path / "cache/deep/one.py")
    site = tmp_path / "site"

    # A link to a package is somebody's project; a link to a file is an installer's.
    assert folder_of(str(site / "nets/__init__.py"), [str(site / "nets")]) == (tmp_path / "lab",)
    assert folder_of(str(site / "one.py"), []) == (site,)
    assert folder_of(None, [str(tmp_path / "lab/nets"), str(site / "none")]) == (tmp_path / "lab",)
    assert folder_of("built-in", []) == ()


def test_only_folders_with_a_needed_module_are_frozen_in_the_order_of_the_import_path(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    seen = Seen(
        (b, tmp_path / "other", a),
        {"x": (a,), "y": (b,), "z": (c,), "extra": (a,), "torch": (Path(pytest.__file__).parents[1],)},
    )

    found = import_roots(seen, ["x", "y", "torch", "nowhere"])

    assert list(found.items()) == [(b, {"y"}), (a, {"x", "extra"})]


# ---- a process of the run


def test_the_frozen_code_goes_before_the_users_import_path(tmp_path: Path) -> None:
    run = run_in(tmp_path / "my run", {"snapshot": {"python_path": ["code/a", "code/b"]}})
    for name in "ab":
        (run.code / name).mkdir(parents=True)
    frozen = f"{run.code}/a:{run.code}/b"

    assert with_snapshot({"X": "1"}, run) == {"X": "1", "PYTHONPATH": frozen}
    assert with_snapshot({"PYTHONPATH": "/mine"}, run) == {"PYTHONPATH": f"{frozen}:/mine"}
    assert with_snapshot({"PYTHONPATH": f"{frozen}:/mine"}, run) == {"PYTHONPATH": f"{frozen}:/mine"}
    assert with_snapshot({"PYTHONPATH": "/mine"}, run_in(tmp_path / "other")) == {"PYTHONPATH": "/mine"}
    for given, expected in (({}, frozen), ({"PYTHONPATH": "/my own"}, f"{frozen}:/my own")):
        script = "\n".join([*snapshot_lines(run), 'printf %s "$PYTHONPATH"'])
        done = subprocess.run(["bash", "-euc", script], env=given, capture_output=True, text=True, check=True)
        assert done.stdout == expected
    assert snapshot_lines(run_in(tmp_path / "third")) == ()


def test_a_process_that_would_run_other_code_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(tmp_path / "run", {"snapshot": {"python_path": ["code/a"]}})
    with pytest.raises(RunError, match=r"code/a is gone"):
        snapshot_path(run)
    (run.code / "a").mkdir(parents=True)
    with pytest.raises(RunError, match="would not run the frozen code"):
        refuse_other_code(run)
    monkeypatch.setattr(sys, "path", [str(run.code / "a"), *sys.path])
    refuse_other_code(run)


def test_a_frozen_configuration_is_tried_with_the_frozen_code(tmp_path: Path) -> None:
    """A stand-in for segctl_jobs says what it was asked; a plugin that the working copy has lost is no matter."""
    run = run_in(tmp_path / "run", {"snapshot": {"python_path": ["code/jobs"]}})
    check = """
from segctl.errors import DataError
def check(config, *, processes, from_checkpoint):
    return (f"{config.model.name} on {processes}, from checkpoint: {from_checkpoint}",)
def check_evaluation(config, checkpoint):
    raise DataError(f"There is no {checkpoint}.", "Look for it.")
"""
    write(run.code, {"jobs/segctl_jobs/__init__.py": "", "jobs/segctl_jobs/preflight.py": check})
    run.config_file.write_text("{model: {name: lost}, dataset: {name: lost}}")

    notices = preflight(run, processes=3, from_checkpoint=True, checkpoint=None)
    assert notices[1:] == ("lost on 3, from checkpoint: True",)
    assert str(run.code) in notices[0]
    with pytest.raises(LaunchError, match=r"There is no best\.pt\. Look for it\."):
        preflight(run, processes=1, from_checkpoint=False, checkpoint=Path("best.pt"))
    write(run.code, {"jobs/segctl_jobs/preflight.py": "raise RuntimeError('broken')"})
    with pytest.raises(LaunchError, match=r"cannot try the frozen code of run: RuntimeError: broken"):
        preflight(run, processes=1, from_checkpoint=False, checkpoint=None)
