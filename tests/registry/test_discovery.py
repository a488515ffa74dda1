"""Plugins of other distributions: found without being imported, told apart, and harmless where they are broken."""

from __future__ import annotations

import subprocess
import sys

import pytest

GOOD = "def toynet(num_classes: int, *, width: int = 32):\n    return ('toynet', num_classes, width)\n"

LIST = """
import json
from segctl.registry import discover
rows = [p for p in discover("models") if p.distribution != "segctl"]
print(json.dumps([[p.name, p.distribution, p.version, p.target, p.qualified] for p in rows]))
"""

TRY = """
import json
from segctl.errors import SegctlError
from segctl.registry import find
try:
    entry = find({kind!r}, {name!r})
    outcome = ["ok", entry.qualified, ""]
    entry.load()
except SegctlError as error:
    outcome = [type(error).__name__, error.message, error.hint]
print(json.dumps(outcome))
"""


def attempt(name, kind="models"):
    return TRY.format(kind=kind, name=name)


def test_a_wheel_that_pip_installed_is_found_and_after_removal_it_is_not(build_wheel, run_python, tmp_path):
    wheel = build_wheel("Acme_Nets", "1.2.3", {"acme_nets.py": GOOD}, models={"toynet": "acme_nets:toynet"})
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)

    assert run_python(LIST, [target]) == [["toynet", "acme-nets", "1.2.3", "acme_nets:toynet", "acme-nets:toynet"]]
    assert run_python(attempt("toynet"), [target]) == ["ok", "acme-nets:toynet", ""]
    assert run_python(LIST, []) == []


def test_discovery_imports_no_plugin_and_nothing_heavy(install, run_python, tmp_path):
    shouting = "raise RuntimeError('imported')\n"
    site = install(tmp_path / "site", "shouting", "1", {"shouting.py": shouting}, models={"loud": "shouting:loud"})
    code = (
        """
import sys
sys.modules.update({"torch": None, "pydantic": None, "submitit": None})
"""
        + LIST
        + "assert 'shouting' not in sys.modules"
    )

    names = [row[0] for row in run_python(code, [site])]

    assert names == ["loud"]


def test_a_name_is_given_in_any_spelling_of_its_distribution(install, run_python, tmp_path):
    site = install(tmp_path, "Acme_Nets", "1", {"acme_nets.py": GOOD}, models={"toynet": "acme_nets:toynet"})

    for name in ("acme-nets:toynet", "Acme_Nets:toynet", "acme.nets:toynet"):
        assert run_python(attempt(name), [site])[:2] == ["ok", "acme-nets:toynet"]


def test_two_distributions_of_one_name_are_refused_by_it_and_found_by_their_qualified_names(
    install, run_python, tmp_path
):
    site = tmp_path / "site"
    for name in ("acme", "zenith"):
        install(site, name, "1", {f"{name}.py": GOOD}, models={"toynet": f"{name}:toynet"})

    kind, message, hint = run_python(attempt("toynet"), [site])

    assert kind == "PluginError"
    assert message == "The model 'toynet' is offered by acme and zenith."
    assert hint == "Say which: acme:toynet or zenith:toynet."
    assert run_python(attempt("acme:toynet"), [site])[:2] == ["ok", "acme:toynet"]
    assert run_python(attempt("zenith:toynet"), [site])[:2] == ["ok", "zenith:toynet"]


def test_a_clash_with_a_shipped_plugin_is_refused_too(install, run_python, tmp_path):
    files = {"acme.py": GOOD.replace("toynet", "enet")}
    site = install(tmp_path / "site", "acme", "1", files, models={"enet": "acme:enet"})

    kind, message, hint = run_python(attempt("enet"), [site])

    assert (kind, message) == ("PluginError", "The model 'enet' is offered by acme and segctl.")
    assert hint == "Say which: acme:enet or segctl:enet."


def test_one_distribution_in_two_folders_is_no_clash_and_the_first_counts(install, run_python, tmp_path):
    old = install(
        tmp_path / "old", "acme", "1", {"acme.py": GOOD}, models={"toynet": "acme:toynet", "gone": "acme:toynet"}
    )
    new = install(tmp_path / "new", "acme", "2", {"acme.py": GOOD}, models={"toynet": "acme:toynet"})

    rows = run_python(LIST, [new, old])

    assert rows == [["toynet", "acme", "2", "acme:toynet", "acme:toynet"]]


def test_a_source_tree_beside_its_editable_installation_is_no_clash(install, run_python, tmp_path):
    """As setuptools leaves it: an .egg-info without a version in the folder's name, in the tree that a .pth names."""
    site = install(tmp_path / "site", "acme-nets", "1", {"acme.py": GOOD}, models={"toynet": "acme:toynet"})
    tree = tmp_path / "tree"
    (tree / "acme_nets.egg-info").mkdir(parents=True)
    (tree / "acme_nets.egg-info" / "entry_points.txt").write_text("[segctl.models]\ntoynet = acme:toynet\n")
    (tree / "acme_nets.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: acme-nets\nVersion: 1.1\n")

    assert run_python(LIST, [site, tree]) == [["toynet", "acme-nets", "1", "acme:toynet", "acme-nets:toynet"]]
    assert run_python(LIST, [tree, site])[0][:2] == ["toynet", "acme-nets"]
    assert run_python(LIST, [tree]) == [["toynet", "acme-nets", "1.1", "acme:toynet", "acme-nets:toynet"]]


def test_a_wheel_on_the_import_path_itself_is_found(build_wheel, run_python):
    wheel = build_wheel("acme", "3", {"acme.py": GOOD}, models={"toynet": "acme:toynet"})

    assert run_python(LIST, [wheel]) == [["toynet", "acme", "3", "acme:toynet", "acme:toynet"]]
    assert run_python(attempt("toynet"), [wheel])[0] == "ok"


@pytest.mark.parametrize(
    "damage",
    ["toynet = acme:toynet\n", "[segctl.models]\nnonsense\n[segctl.models", "[segctl.models]\na = \xff\n"],
    ids=["no section", "torn", "not UTF-8"],
)
def test_damaged_metadata_cost_only_their_own_distribution(damage, install, run_python, tmp_path):
    site = install(tmp_path / "site", "acme", "1", {"acme.py": GOOD}, models={"toynet": "acme:toynet"})
    (site / "broken-1.dist-info").mkdir()
    (site / "broken-1.dist-info" / "entry_points.txt").write_bytes(damage.encode("latin-1"))
    stderr: list[str] = []

    rows = run_python(LIST, [site], stderr=stderr)

    assert rows == [["toynet", "acme", "1", "acme:toynet", "acme:toynet"]]
    assert "broken-1" in stderr[0]


@pytest.mark.parametrize(
    ("source", "target", "message", "hint"),
    [
        (
            "import no_such_library\ndef toynet(num_classes): ...\n",
            "acme:toynet",
            "Cannot import the model 'toynet' of acme 1: ModuleNotFoundError: No module named 'no_such_library'.",
            "Install what provides 'no_such_library' into this environment.",
        ),
        (
            "1 / 0\n",
            "acme:toynet",
            "Cannot import the model 'toynet' of acme 1: ZeroDivisionError: division by zero.",
            "Reinstall or update acme, or report this to its authors.",
        ),
        (
            "raise SystemExit('bye')\n",
            "acme:toynet",
            "Cannot import the model 'toynet' of acme 1: SystemExit: bye.",
            "Reinstall or update acme, or report this to its authors.",
        ),
        (
            "",
            "acme:toynet",
            "Cannot import the model 'toynet' of acme 1: AttributeError: module 'acme' has no attribute 'toynet'.",
            "Reinstall or update acme, or report this to its authors.",
        ),
        (
            "",
            "acme.nets:toynet",
            "Cannot import the model 'toynet' of acme 1: ModuleNotFoundError: "
            "No module named 'acme.nets'; 'acme' is not a package.",
            "Reinstall or update acme, or report this to its authors.",
        ),
        (
            "toynet = 3\n",
            "acme:toynet",
            "acme:toynet, which is the model 'toynet' of acme 1, is of type int, not a function or class.",
            "",
        ),
        (
            "",
            "acme",
            "The entry point of the model 'toynet' of acme 1, 'acme', is not of the form 'module:function'.",
            "",
        ),
    ],
)
def test_a_broken_plugin_is_found_and_says_why_when_it_is_used(
    source, target, message, hint, install, run_python, tmp_path
):
    site = install(tmp_path / "site", "acme", "1", {"acme.py": source}, models={"toynet": target})

    assert run_python(LIST, [site]) == [["toynet", "acme", "1", target, "acme:toynet"]]
    assert run_python(attempt("toynet"), [site]) == ["PluginError", message, hint]
    assert run_python(attempt("shapes", "datasets"), [site])[0] == "ok"


def test_a_missing_name_is_refused_with_the_nearest_one(run_python):
    kind, message, hint = run_python(attempt("deeplabv4"))

    assert (kind, message) == ("PluginError", "There is no model 'deeplabv4'. Did you mean 'deeplabv3'?")
    assert "enet" in hint


def test_a_name_of_another_kind_says_so(run_python):
    assert run_python(attempt("shapes"))[1].startswith("There is no model 'shapes', but a data set of that name.")
