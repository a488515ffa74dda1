"""The rules of the house that a program can see: who imports whom, who prints, and what is in the wheel.

Each rule is a function that lists what breaks it below a folder. It is applied to this repository, and to a planted
fault, because a rule that finds nothing anywhere would pass as well.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import segctl

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = ("segctl", "plugins/segctl_models", "plugins/segctl_datasets", "plugins/segctl_losses", "jobs/segctl_jobs")

# What each part of segctl may import of the others; parts that are not named (the commands) all but the command line.
WORDS = {"errors", "wording", "plain_data"}
MAY_IMPORT = {
    "errors": set[str](),
    "results": set[str](),
    "plugin": {"errors"},
    "wording": WORDS,
    "plain_data": WORDS,
    "runs": WORDS,
    "options": WORDS,
    "config": WORDS | {"plugin", "options", "registry"},
    "registry": WORDS | {"plugin", "options", "config"},
    "launch": WORDS | {"runs", "config"},
    "conformance": WORDS | {"plugin", "options", "config", "registry"},
}
JOBS_MAY_IMPORT = {"config", "registry", "options", "runs", "plugin", "errors", "results"}
PLUGINS_MAY_IMPORT = {"plugin", "errors"}
PRINTERS = {"print", "sys.stdout.write", "sys.stderr.write"}
TORCH = {"torch", "torchvision"}
TORCH_ALLOWED = "segctl/conformance/"


class Import(NamedTuple):
    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def python_files(root: Path) -> Iterator[Path]:
    for package in SHIPPED:
        yield from sorted((root / package).rglob("*.py"))


@functools.cache
def imports(root: Path) -> tuple[Import, ...]:
    return tuple(each for path in python_files(root) for each in imports_of(path, root))


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Every import, inside functions too. ``from segctl import runs`` counts as ``segctl.runs``."""
    file = path.relative_to(root).as_posix()
    package = package_of(file)
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                is_part = module == "segctl" and not alias.name.startswith("_")
                yield Import(file, node.lineno, f"{module}.{alias.name}" if is_part else module)


def package_of(file: str) -> list[str]:
    parts = Path(file).with_suffix("").parts
    return list(parts[0 if parts[0] == "segctl" else 1 : -1])


def top(module: str) -> str:
    return module.split(".")[0]


def part(module: str) -> str:
    """``"runs"`` for ``"segctl.runs.files"``."""
    return module.split(".")[1] if "." in module else ""


def part_of_file(file: str) -> str:
    return Path(file).parts[1].removesuffix(".py")


def torch_in_the_control_plane(root: Path) -> list[str]:
    found = [each for each in imports(root) if each.file.startswith("segctl/") and top(each.module) in TORCH]
    return [str(each) for each in found if not each.file.startswith(TORCH_ALLOWED)]


def plugins_or_jobs_in_the_control_plane(root: Path) -> list[str]:
    found = [each for each in imports(root) if each.file.startswith("segctl/")]
    return [str(each) for each in found if top(each.module).startswith("segctl_")]


def against_the_direction(root: Path) -> list[str]:
    return [str(each) for each in imports(root) if each.file.startswith("segctl/") and not is_downwards(each)]


def is_downwards(each: Import) -> bool:
    here, there = part_of_file(each.file), part(each.module)
    if top(each.module) != "segctl" or here in ("cli", there):
        return True
    return there != "cli" and (here not in MAY_IMPORT or not there or there in MAY_IMPORT[here])


def plugins_beyond_the_plugin_api(root: Path) -> list[str]:
    return beyond(root, "plugins/", PLUGINS_MAY_IMPORT)


def jobs_beyond_their_parts(root: Path) -> list[str]:
    return beyond(root, "jobs/", JOBS_MAY_IMPORT)


def beyond(root: Path, folder: str, allowed: set[str]) -> list[str]:
    """Imports of ours from outside the importing package, other than the allowed parts of segctl."""
    found = [
        each
        for each in imports(root)
        if each.file.startswith(folder) and re.match(r"segctl\b|segctl_", each.module)
        if top(each.module) != package_of(each.file)[0]
    ]
    return [str(each) for each in found if top(each.module) != "segctl" or part(each.module) not in allowed]


def printing_outside_the_command_line(root: Path) -> list[str]:
    found = [str(each) for each in imports(root) if top(each.module) in {"rich", "typer", "click"}]
    for path in python_files(root):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        file = path.relative_to(root).as_posix()
        found += [f"{file}:{call.lineno} prints" for call in calls if ast.unparse(call.func) in PRINTERS]
    return [each for each in found if not each.startswith("segctl/cli/")]


def drawers_of_odds_and_ends(root: Path) -> list[str]:
    odd = {"util.py", "utils.py", "helper.py", "helpers.py", "misc.py", "common.py"}
    return [str(path.relative_to(root)) for path in python_files(root) if path.name in odd]


def promises(root: Path) -> list[str]:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    return [
        str(path.relative_to(root)) for path in python_files(root) if marks.search(path.read_text(encoding="utf-8"))
    ]


# Rule, and a file that breaks it: what is planted where.
RULES: list[tuple[Callable[[Path], list[str]], str, str]] = [
    (torch_in_the_control_plane, "segctl/runs/state.py", "def f():\n    import torch.nn"),
    (torch_in_the_control_plane, "segctl/status.py", "from torchvision import models"),
    (plugins_or_jobs_in_the_control_plane, "segctl/bridge.py", "from segctl_jobs import main"),
    (against_the_direction, "segctl/runs/state.py", "from segctl import launch"),
    (against_the_direction, "segctl/launch/plan.py", "from ..status import status"),
    (against_the_direction, "segctl/submit.py", "import segctl.cli.render"),
    (against_the_direction, "segctl/errors.py", "def f():\n    from segctl.wording import shown"),
    (plugins_beyond_the_plugin_api, "plugins/segctl_losses/dice.py", "from segctl.options import describe"),
    (plugins_beyond_the_plugin_api, "plugins/segctl_losses/dice.py", "import segctl"),
    (plugins_beyond_the_plugin_api, "plugins/segctl_models/unet.py", "from segctl_losses.outputs import logits_maps"),
    (jobs_beyond_their_parts, "jobs/segctl_jobs/train.py", "from segctl.launch import plan"),
    (jobs_beyond_their_parts, "jobs/segctl_jobs/train.py", "import segctl_models.enet"),
    (printing_outside_the_command_line, "segctl/status.py", "print('done')"),
    (printing_outside_the_command_line, "jobs/segctl_jobs/train.py", "import sys\nsys.stdout.write('done')"),
    (printing_outside_the_command_line, "segctl/runs/store.py", "import rich.table"),
    (drawers_of_odds_and_ends, "plugins/segctl_models/layers/utils.py", ""),
    (promises, "segctl/status.py", "# TODO: later"),
]


@pytest.mark.parametrize("rule", list(dict.fromkeys(rule for rule, _, _ in RULES)), ids=lambda rule: rule.__name__)
def test_rule_is_kept(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


@pytest.mark.parametrize(("rule", "file", "text"), RULES)
def test_rule_finds_what_breaks_it(rule: Callable[[Path], list[str]], file: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)

    assert len(rule(tmp_path)) == 1


def test_what_is_allowed_is_not_found(tmp_path: Path) -> None:
    allowed = {
        "segctl/conformance/models.py": "import torch\nfrom segctl import registry",
        "segctl/cli/app.py": "import rich\nfrom segctl.status import status\nprint('done')",
        "segctl/runs/store.py": "from segctl.errors import RunError\nfrom segctl.runs.files import read_json",
        "plugins/segctl_losses/dice.py": "import torch\nfrom .outputs import maps\nfrom segctl.plugin import model",
        "jobs/segctl_jobs/train.py": "import torch\nfrom segctl import registry\nfrom segctl_jobs import data",
    }
    for file, text in allowed.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)

    assert [found for rule, _, _ in RULES for found in rule(tmp_path)] == []


# ---- what is shipped


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    assert file.name == f"segctl-{segctl.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def test_the_wheel_installs_prefixed_names_only(wheel: list[str]) -> None:
    """A user's own folder called `plugins` or `jobs` must not be shadowed."""
    assert {name.split("/")[0] for name in wheel} == {
        "segctl",
        "segctl_models",
        "segctl_datasets",
        "segctl_losses",
        "segctl_jobs",
        f"segctl-{segctl.__version__}.dist-info",
    }


def test_the_wheel_holds_all_that_is_not_code_too(wheel: list[str]) -> None:
    recipes = {f"segctl_jobs/recipes/{path.name}" for path in (REPOSITORY / "jobs/segctl_jobs/recipes").glob("*.yaml")}
    assert recipes
    assert recipes <= set(wheel)
    assert "segctl/py.typed" in wheel
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_the_wheel_holds_every_module_and_nothing_that_was_left_over(wheel: list[str]) -> None:
    here = {path.relative_to(REPOSITORY).as_posix() for path in python_files(REPOSITORY)}

    assert {name for name in wheel if name.endswith(".py")} == {
        file.removeprefix("plugins/").removeprefix("jobs/") for file in here
    }
    assert not [name for name in wheel if "__pycache__" in name or name.endswith(".pyc")]


def test_the_version_is_told_once() -> None:
    stated = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)

    assert stated is not None
    assert stated[1] == segctl.__version__


# ---- what is written


def files_of_the_project() -> list[Path]:
    """What git would hold; never what is built or downloaded."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := REPOSITORY / name).is_file()]


def test_no_file_names_a_package_registry_or_locks_versions() -> None:
    """Where packages come from is the user's own setting; what versions fit, the project file says."""
    # Put together here, so that this file does not name them either.
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"))]
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "pixi.lock", "Pipfile.lock", "conda-lock.yml", "requirements.lock"}

    files = files_of_the_project()

    assert not [path for path in files if path.name in locks]
    named = [(path.name, host) for path in files for host in hosts if host in path.read_text("utf-8", errors="ignore")]
    assert named == []


@pytest.mark.parametrize("arguments", [["check", "."], ["format", "--check", "."]], ids=["lint", "format"])
def test_ruff_has_nothing_to_say(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", *arguments], cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_mypy_has_nothing_to_say() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
