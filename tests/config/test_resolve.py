"""Precedence, replay, and what a change of plugin or of the length of training takes with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segctl.config import dump, load_config, recipe_description, recipes, resolve
from segctl.config.schema import Config, Plugin
from segctl.errors import ConfigError, PluginError

FLAGS = {"model": "toy_plain", "dataset": "toy_roads"}


def test_plugin_defaults_then_recipe_then_flags_then_sets(recipe):
    recipe.write_text("model: {name: toy_plain, width: 2, backbone: large}\ndataset: {name: toy_roads, year: 1999}\n")
    flags = {"model.width": "3", "model.backbone": "small"}

    config = resolve(recipe, flags, ["model.width=4"])

    assert config.model == Plugin(name="toy_plain", options={"backbone": "small", "width": 4, "tag": ""})
    assert config.dataset.options == {"year": 1999}
    assert config.train == Config(model="x", dataset="y").train


def test_no_recipe_is_needed():
    config = resolve(None, {**FLAGS, "optimizer.lr": 0.0001, "train.epochs": 50, "launch.procs": 2, "seed": "7"})

    assert (config.optimizer.lr, config.train.epochs, config.launch.procs, config.seed) == (1e-4, 50, 2, 7)


def test_yaml_numbers_and_switches_are_what_they_look_like(recipe):
    recipe.write_text(
        "model: toy_plain\ndataset: toy_roads\noptimizer: {lr: 1e-3, nesterov: off}\n"
        "train: {amp: off, compile: yes, sync_bn: no, ema: 9.9e-1}\n"
    )

    config = resolve(recipe)

    assert config.optimizer.lr == 0.001
    assert (config.optimizer.nesterov, config.train.compile, config.train.sync_bn) == (False, True, False)
    assert (config.train.amp, config.train.ema) == ("off", 0.99)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("train.epochs=5", lambda config: (config.train.epochs, 5)),
        ("train.steps=null", lambda config: (config.train.steps, None)),
        ("model.backbone=small", lambda config: (config.model.options["backbone"], "small")),
        ("augment.crop=[256,320]", lambda config: (config.augment.crop, (256, 320))),
        ("augment.crop=null", lambda config: (config.augment.crop, None)),
        ("augment.crop=96", lambda config: (config.augment.crop, 96)),
        ("optimizer.lr=1e-5", lambda config: (config.optimizer.lr, 1e-5)),
        ("train.sync_bn=off", lambda config: (config.train.sync_bn, False)),
        ("train.amp=off", lambda config: (config.train.amp, "off")),
        ("name=007", lambda config: (config.name, "007")),
        ("name=1e3", lambda config: (config.name, "1e3")),
        ("model.tag=1e3", lambda config: (config.model.options["tag"], "1e3")),
        ("model.tag=[a]", lambda config: (config.model.options["tag"], "[a]")),
        ("model.tag=a=b", lambda config: (config.model.options["tag"], "a=b")),
        ("loss.weights=[1, 2.5]", lambda config: (config.loss.options["weights"], [1.0, 2.5])),
        ("loss.weights=auto", lambda config: (config.loss.options["weights"], "auto")),
        ("model={name: toy_special, depth: 5}", lambda config: (config.model.options["depth"], 5)),
    ],
)
def test_values_of_set(text, read, recipe):
    value, wanted = read(resolve(recipe, {"loss": "toy_dice"}, [text]))

    assert value == wanted


def test_later_sets_win(recipe):
    assert resolve(recipe, {}, ["seed=1", "seed=2"]).seed == 2


def test_an_epochs_flag_takes_back_the_recipes_steps(recipe):
    assert resolve(recipe).train.steps == 100
    for config in (resolve(recipe, {"train.epochs": 3}), resolve(recipe, {}, ["train.epochs=3"])):
        assert (config.train.epochs, config.train.steps) == (3, None)


def test_a_steps_flag_overrides_the_recipes_epochs(recipe):
    recipe.write_text(recipe.read_text().replace("steps: 100", "epochs: 7"))

    config = resolve(recipe, {"train.steps": 20})

    assert (config.train.epochs, config.train.steps) == (7, 20)


def test_set_overrides_a_flag_also_in_how_long_to_train(recipe):
    assert resolve(recipe, {"train.steps": 20}, ["train.epochs=3"]).train.steps is None
    assert resolve(recipe, {"train.epochs": 3}, ["train.steps=20"]).train.steps == 20


def test_another_model_drops_the_options_of_the_recipes_model(recipe):
    config = resolve(recipe, {"model": "toy_special"})

    assert config.model == Plugin(name="toy_special", options={"depth": 3, "weights": None})


def test_options_are_given_with_the_other_model_in_any_order(recipe):
    for flags in (
        {"model": "toy_special", "model.depth": 9},
        {"model.depth": 9, "model": "toy_special"},
        {"model.depth": 9, "model.name": "toy_special"},
    ):
        assert resolve(recipe, flags).model.options["depth"] == 9


def test_the_same_model_by_its_qualified_name_keeps_the_options(recipe):
    config = resolve(recipe, {"model": "toys:toy_plain"})

    assert config.model == Plugin(name="toys:toy_plain", options={"backbone": "large", "width": 8, "tag": ""})


def test_the_loss_is_the_models_own_with_the_options_it_declares():
    special = resolve(None, {**FLAGS, "model": "toy_special"})
    assert special.loss == Plugin(name="toy_dice", options={"smooth": 2.0, "weights": None})

    assert resolve(None, FLAGS).loss.name == "cross_entropy"


def test_options_of_the_loss_are_set_without_naming_it():
    config = resolve(None, {**FLAGS, "model": "toy_special", "loss.weights": "auto"})
    assert config.loss == Plugin(name="toy_dice", options={"smooth": 2.0, "weights": "auto"})

    named = resolve(None, {**FLAGS, "model": "toy_special", "loss": "toy_dice", "loss.weights": "auto"})
    assert named == config


def test_what_a_model_declares_holds_for_another_loss_with_such_an_option():
    flags = {**FLAGS, "model": "toy_special"}

    assert resolve(None, {**flags, "loss": "toy_jaccard"}).loss.options == {"smooth": 2.0, "power": 1}
    assert resolve(None, {**flags, "loss": "toy_jaccard", "loss.power": 3}).loss.options == {"smooth": 2.0, "power": 3}
    assert resolve(None, {**flags, "loss": "toy_jaccard", "loss.smooth": 1}).loss.options == {"smooth": 1.0, "power": 1}
    assert resolve(None, {**flags, "loss": "toy_blur"}).loss.options == {"smooth": False}, "of another type"
    with pytest.raises(PluginError, match=r"^loss\.name: there is no loss 'toy_dise'"):
        resolve(None, {**flags, "loss": "toy_dise"})


def test_a_named_loss_is_kept():
    assert resolve(None, {**FLAGS, "loss": "toy_dice"}).loss.options == {"smooth": 1.0, "weights": None}


def test_a_saved_configuration_replays_exactly(recipe, tmp_path, monkeypatch):
    config = resolve(recipe, {"data_root": "data"}, ["augment.scale=[0.5, 1.5]", "name=007"])
    saved = tmp_path / "config.yaml"
    saved.write_text(dump(config))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert resolve(saved) == config
    assert load_config(saved) == config
    assert dump(load_config(saved)) == saved.read_text()


def test_another_model_over_a_saved_configuration_brings_its_own_loss(tmp_path):
    saved = tmp_path / "config.yaml"
    saved.write_text(dump(resolve(None, {**FLAGS, "model": "toy_special"})))
    assert resolve(saved, {"model": "toy_plain"}).loss.name == "cross_entropy"

    saved.write_text(dump(resolve(None, {**FLAGS, "model": "toy_special", "loss.smooth": 5})))
    assert resolve(saved, {"model": "toy_plain"}).loss == Plugin(
        name="toy_dice", options={"smooth": 5.0, "weights": None}
    )


def test_the_data_root_is_absolute_and_defaults_to_the_environments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve(None, FLAGS).data_root == str(tmp_path / "data")
    assert resolve(None, {**FLAGS, "data_root": "../sets"}).data_root == str(tmp_path.parent / "sets")
    assert resolve(None, {**FLAGS, "data_root": "~/sets"}).data_root == "/home/someone/sets"

    monkeypatch.setenv("SEGCTL_DATA", "/srv/data")
    assert resolve(None, FLAGS).data_root == "/srv/data"
    assert resolve(None, {**FLAGS, "data_root": "/other"}).data_root == "/other"


def test_relative_paths_in_options_are_those_of_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    config = resolve(None, {**FLAGS, "model": "toy_special", "model.weights": "w.pth"})

    assert config.model.options["weights"] == str(tmp_path / "w.pth")


def test_a_configuration_made_by_hand_survives_its_file(tmp_path):
    config = Config(
        model=Plugin(name="x", options={"rates": (1, 2), "file": Path("/w"), "sizes": {1: "a"}, "text": "off\x85"}),
        dataset="y",
        augment={"crop": (3, 4), "scale": (1e-7, 1e22)},
        train={"epochs": 0.1, "ema": 0.9999},
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump(config), encoding="utf-8")

    assert load_config(path) == config


def test_the_saved_configuration_is_readable(recipe):
    text = dump(resolve(recipe))

    assert text.startswith("name: roads\nseed: 0\ndata_root: ")
    assert "\nmodel:\n  name: toy_plain\n  backbone: large\n  width: 8\n  tag: ''\ndataset:\n" in text
    assert "\n  scale: [0.5, 2.0]\n" in text


def test_shipped_recipes_are_found_by_name_and_resolve():
    assert {"quickstart", "camvid_enet"} <= set(recipes())
    for name, path in recipes().items():
        assert resolve(name) == resolve(path)
        assert len(recipe_description(path)) > 20


def test_a_recipes_first_comment_describes_it(recipe):
    assert recipe_description(recipe) == "Toy roads. Only for tests."


def test_a_run_folder_is_not_taken_for_a_recipe(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")

    with pytest.raises(ConfigError, match="is a run, not a recipe"):
        resolve(tmp_path)


def test_listing_recipes_and_reading_yaml_import_nothing_heavy():
    code = """
import json, sys
sys.modules.update({"torch": None, "pydantic": None, "submitit": None})
from segctl.config import recipe_description, recipes
print(json.dumps([recipe_description(path) for path in recipes().values()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert all(json.loads(done.stdout))
