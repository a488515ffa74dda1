from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import install
from programs import Said


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With four more distributions: a loss, one that needs what is not installed, and two that offer the same name."""
    folder = tmp_path / "site"
    module = "class Loss:\n    '''{0}.'''\n\n    def __init__(self, *, smooth: float = 1.0): ...\n"
    for name, loss, source in (
        ("tidy", "tidy", module.format("Tidy")),
        ("needy", "needy", "import not_installed_anywhere\n" + module.format("Needy")),
        ("one", "twin", module.format("The first")),
        ("two", "twin", module.format("The second")),
    ):
        install(folder, name, {f"{name}.py": source}, losses={loss: f"{name}:Loss"})
    return {**os.environ, "PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "100"}


def test_list_names_broken_and_clashing_plugins(program: Callable[..., Said], environment: dict[str, str]) -> None:
    said = program("plugins", "list", "losses", "--json", env=environment)
    assert said.code == 0, said.err
    found = {entry["qualified"]: entry for entry in json.loads(said.out)}
    foreign = {name for name in found if not name.startswith("segctl:")}
    assert foreign == {"needy:needy", "one:twin", "tidy:tidy", "two:twin"}
    assert "segctl:cross_entropy" in found
    assert "not_installed_anywhere" in found["needy:needy"]["problem"]
    assert "two" in found["one:twin"]["problem"]
    assert "one:twin" in found["one:twin"]["problem"]
    assert found["tidy:tidy"]["problem"] == found["segctl:cross_entropy"]["problem"] == ""
    table = program("plugins", "list", env=environment).out.splitlines()
    assert table[0].split() == ["NAME", "KIND", "DISTRIBUTION", "VERSION"]
    assert {"enet", "camvid", "cross_entropy", "needy"} <= {line.split()[0] for line in table}


def test_a_second_name_of_a_plugin_is_listed_as_that(segctl: Callable[..., Said]) -> None:
    listed = json.loads(segctl("plugins", "list", "models", "--json").out)
    found = {entry["name"]: entry["alias_of"] for entry in listed}
    assert (found["psp"], found["pspnet"], found["enet"]) == ("pspnet", "", "")
    (row,) = [line for line in segctl("plugins", "list", "models").out.splitlines() if line.startswith("psp ")]
    assert "alias of pspnet" in row
    listed = json.loads(segctl("plugins", "list", "datasets", "--json").out)
    found = {entry["name"]: entry["alias_of"] for entry in listed}  # their classes are called SBUShadow and so on
    assert (found["sbu"], found["citys"], found["sbu_shadow"], found["cityscapes"]) == (
        "sbu_shadow",
        "cityscapes",
        "",
        "",
    )
    refused = " ".join(segctl("train", "--model", "zzz", "--dataset", "shapes", "--dry-run").err.split())
    assert "psanet, pspnet, segformer" in refused


def test_show_prints_options_as_they_are_typed(segctl: Callable[..., Said]) -> None:
    said = segctl("plugins", "show", "fcn32s")
    assert said.code == 0, said.err
    assert "--model.backbone  vgg16 | vgg16_bn  (default vgg16)" in said.out
    facts = json.loads(segctl("plugins", "show", "camvid", "--json").out)
    assert facts["kind"] == "datasets"
    assert facts["facts"]["ignore_index"] == 11
    assert len(facts["facts"]["classes"]) == 11
    options = {
        option["name"]: option for option in json.loads(segctl("plugins", "show", "fcn32s", "--json").out)["options"]
    }
    assert options["backbone"]["choices"] == ["vgg16", "vgg16_bn"]
    assert options["backbone"]["default"] == "vgg16"


def test_show_tells_the_colours_of_classes(segctl: Callable[..., Said]) -> None:
    facts = json.loads(segctl("plugins", "show", "camvid", "--json").out)["facts"]
    colors = dict(zip(facts["classes"], facts["palette"], strict=True))
    assert (colors["Sky"], colors["Bicyclist"]) == ([128, 128, 128], [0, 128, 192])
    page = segctl("plugins", "show", "camvid").out
    assert "Sky #808080, Building #800000, " in page
    assert "Bicyclist #0080c0\n" in page
    # Of many classes the names alone, and none where only the data know them.
    assert "150: wall, building, " in segctl("plugins", "show", "ade20k").out
    assert "those of your data" in segctl("plugins", "show", "folder").out


def test_show_says_where_data_come_from(segctl: Callable[..., Said]) -> None:
    voc, people = (" ".join(segctl("plugins", "show", name).out.split()) for name in ("pascal_voc", "lip"))
    assert "no labels in test (1456)" in voc
    assert "download VOCtrainval_11-May-2012.tar (2.0 GB) from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/" in voc
    assert "mirrored left arm becomes right arm, left leg becomes right leg, left shoe becomes right shoe" in people
    assert "Fetch TrainVal_images.zip with a browser" in people
    archives = json.loads(segctl("plugins", "show", "cityscapes", "--json").out)["facts"]["archives"]
    assert [(each["file"], each["login"]) for each in archives] == [
        ("gtFine_trainvaltest.zip", "cityscapes"),
        ("leftImg8bit_trainvaltest.zip", "cityscapes"),
    ]


def test_show_and_check_a_broken_or_ambiguous_plugin(program: Callable[..., Said], environment: dict[str, str]) -> None:
    needy = program("plugins", "show", "needy", env=environment)
    assert (needy.code, len(needy.err.splitlines())) == (1, 1)
    assert "not_installed_anywhere" in needy.err
    twin = program("plugins", "show", "twin", env=environment)
    assert (twin.code, len(twin.err.splitlines())) == (1, 1)
    assert "one:twin" in twin.err
    assert "The second" in program("plugins", "show", "two:twin", env=environment).out
    checked = program("plugins", "check", "needy", env=environment)
    assert checked.code == 1
    assert "not_installed_anywhere" in checked.out
    assert "FAILED" in checked.out


def test_check_passes_what_keeps_the_contract(segctl: Callable[..., Said]) -> None:
    said = segctl("plugins", "check", "cross_entropy", "--json")
    (report,) = json.loads(said.out)
    assert (said.code, report["name"], report["passed"]) == (0, "cross_entropy", True)
    assert {check["result"] for check in report["checks"]} <= {"passed", "skipped"}


def test_check_all_tells_of_each_plugin_in_a_line(program: Callable[..., Said], environment: dict[str, str]) -> None:
    said = program("plugins", "check", "--all", "--kind", "losses", env=environment)
    heading, *lines, summary = said.out.splitlines()
    assert (said.code, heading.split()) == (1, ["NAME", "KIND", "RESULT", "TIME"])
    outcomes = {line.split()[0]: line.split()[2] for line in lines if not line.startswith(" ")}
    assert outcomes["cross_entropy"] == outcomes["dice"] == "passed"
    assert outcomes["needy"] == outcomes["tidy"] == "FAILED"
    assert any("not_installed_anywhere" in line for line in lines)
    assert (
        summary
        == f"{len(outcomes) + 1} plugins checked: {len(outcomes) - 3} passed, 4 FAILED (needy, tidy, twin, twin)."
    )


def test_check_all_tries_a_plugin_of_two_names_once(
    segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in model psp is pspnet; what is tried here instead is quicker."""
    from segctl import registry

    again = registry.PluginEntry("losses", "nll", "segctl", "", "segctl_losses.cross_entropy:CrossEntropy")
    entries = (registry.find("losses", "cross_entropy"), again)
    monkeypatch.setattr(registry, "discover", lambda kind: entries)
    said = segctl("plugins", "check", "--all", "--kind", "losses")
    assert said.code == 0, said.err
    assert said.out.splitlines()[2].split() == ["nll", "losses", "passed", "the", "same", "as", "cross_entropy"]
    assert said.out.splitlines()[3] == "1 plugins checked: 1 passed."


def test_recipes_are_listed_with_what_they_are(segctl: Callable[..., Said]) -> None:
    found = {recipe["name"]: recipe for recipe in json.loads(segctl("recipes", "--json").out)}
    assert found["quickstart"]["description"]
    assert Path(found["quickstart"]["path"]).is_file()
    assert "quickstart" in segctl("recipes").out


def test_dry_run_shows_plan_and_configuration_and_writes_nothing(
    segctl: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    argv = ["train", "--model", "enet", "--dataset", "shapes", "--gpus", "0", "--procs", "3", "--dry-run"]
    said = segctl(*argv)
    assert said.code == 0, said.err
    assert "# processes    3" in said.out
    config = yaml.safe_load(said.out)
    assert config["model"]["name"] == "enet"
    result = json.loads(segctl(*argv, "--json", "--epochs", "3").out)
    assert result["plan"]["procs_per_node"] == 3
    assert result["config"]["train"]["epochs"] == 3
    assert list(tmp_path.iterdir()) == []


def test_the_data_root_is_the_flags_then_the_recipes_then_the_environments(
    segctl: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGCTL_DATA", str(tmp_path / "environment"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: enet\ndataset: shapes\ndata_root: {tmp_path / 'recipe'}\n")

    def root(*argv: str) -> str:
        return str(json.loads(segctl("train", *argv, "--gpus", "0", "--dry-run", "--json").out)["config"]["data_root"])

    assert root("--model", "enet", "--dataset", "shapes") == str(tmp_path / "environment")
    assert root(str(recipe)) == str(tmp_path / "recipe")
    assert root(str(recipe), "--data-root", str(tmp_path / "flag")) == str(tmp_path / "flag")
    monkeypatch.delenv("SEGCTL_DATA")
    monkeypatch.chdir(tmp_path)
    assert root("--model", "enet", "--dataset", "shapes") == str(tmp_path / "data")
