"""Each wrong setting is one sentence: the path, the wrong value, what is allowed, the nearest name."""

from __future__ import annotations

import pytest

from segctl.config import load_config, resolve
from segctl.errors import ConfigError, PluginError

REFUSED_SETS = [
    ("train.epochs=abc", "train.epochs: 'abc' is not a number above 0."),
    ("train.epochs=0", "train.epochs: 0 is not a number above 0."),
    ("train.epochs=true", "train.epochs: true is not a number above 0."),
    ("train.epochs=.inf", "train.epochs: inf is not a number above 0."),
    ("train.batch_size=2.5", "train.batch_size: 2.5 is not a whole number above 0."),
    ("train.batch_size=null", "train.batch_size: null is not a whole number above 0."),
    ("train.clip_norm=-1", "train.clip_norm: -1 is not a number above 0 or null."),
    ("train.ema=1", "train.ema: 1 is not a number above 0 and below 1 or null."),
    ("train.amp=of", "train.amp: 'of' is not one of auto, bf16, fp16, off. Did you mean 'off'?"),
    ("train.sync_bn=maybe", "train.sync_bn: 'maybe' is not true or false."),
    ("optimizer.betas=[0.9]", "optimizer.betas: [0.9] is not a list of 2 numbers of at least 0 and below 1."),
    ("optimizer.betas=0.9", "optimizer.betas: 0.9 is not a list of 2 numbers of at least 0 and below 1."),
    ("augment.flip=1.5", "augment.flip: 1.5 is not a number from 0 to 1."),
    ("augment.scale=[2, 1]", "augment.scale: [2, 1] is not a list of two numbers above 0, the smaller first."),
    (
        "augment.crop=[256, x]",
        "augment.crop: [256, 'x'] is not a list of 2 whole numbers above 0, a whole number above 0 or null.",
    ),
    ("eval.scales=[]", "eval.scales: [] is not a list of numbers above 0, at least 1 of them."),
    ("eval.mode=slid", "eval.mode: 'slid' is not one of whole, slide. Did you mean 'slide'?"),
    ("seed=-1", "seed: -1 is not a whole number from 0 to 4294967295."),
    (
        "name=a b",
        "name: 'a b' is not a letter or digit, followed by at most 79 letters, digits, dots, hyphens and underscores.",
    ),
    ("train=5", "train: 5 is not a section."),
    ("seed.x=1", "seed.x: seed is a single value, with nothing below it."),
    ("train.epoch=5", "train.epoch: there is no such setting. Did you mean 'train.epochs'?"),
    ("trian.epochs=5", "trian: there is no such setting. Did you mean 'train'?"),
    ("epochs=5", "epochs: there is no such setting. Did you mean 'train.epochs'?"),
    ("lr=1", "lr: there is no such setting. Did you mean 'optimizer.lr'?"),
    ("model.width=wide", "model.width: 'wide' is not a whole number."),
    ("model.backbone=lareg", "model.backbone: 'lareg' is not one of small, large. Did you mean 'large'?"),
    ("model.widht=3", "model.widht: toy_plain has no option 'widht'. Did you mean 'width'?"),
    ("loss.aux_wait=1", "loss.aux_wait: cross_entropy has no option 'aux_wait'. Did you mean 'aux_weight'?"),
    ("dataset.year=[1]", "dataset.year: [1] is not a whole number."),
    ("model.a.b=1", "model.a: toy_plain has no option 'a'."),
    ("epochs", "--set 'epochs' is not of the form KEY=VALUE."),
    ("=5", "--set '=5' is not of the form KEY=VALUE."),
    ("train..epochs=5", "'train..epochs' is not the path of a setting."),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED_SETS, ids=[text for text, _ in REFUSED_SETS])
def test_a_wrong_set_is_refused_in_a_sentence(text, sentence, recipe):
    with pytest.raises(ConfigError) as caught:
        resolve(recipe, {}, [text])

    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model=toy_plan", "model.name: there is no model 'toy_plan'. Did you mean 'toy_plain'?"),
        ("dataset=toy_raods", "dataset.name: there is no data set 'toy_raods'. Did you mean 'toy_roads'?"),
        ("loss=toy_dcie", "loss.name: there is no loss 'toy_dcie'. Did you mean 'toy_dice'?"),
        ("model=toys:plain", "model.name: there is no model 'toys:plain'. Did you mean 'toys:toy_plain'?"),
        ("dataset=toy_plain", "dataset.name: there is no data set 'toy_plain', but a model of that name."),
    ],
)
def test_an_unknown_plugin_is_refused_with_the_nearest_name(text, sentence, recipe):
    with pytest.raises(PluginError) as caught:
        resolve(recipe, {}, [text])

    assert caught.value.message.startswith(sentence)


REFUSED_RECIPES = [
    ("model: toy_plain\n", "dataset is missing: no data set is named."),
    ("", "model is missing: no model is named."),
    ("model: {width: 3}\ndataset: toy_roads\n", "model.name is missing."),
    ("model: 5\ndataset: toy_roads\n", "model: 5 is not a plugin's name, or a mapping with its name and options."),
    ("model: toy_plain\ndataset: [toy_roads]\n",
     "dataset: ['toy_roads'] is not a plugin's name, or a mapping with its name and options."),
    ("model: toy_plain\ndataset: toy_roads\ntrain: fast\n", "train: 'fast' is not a section."),
    ("model: toy_plain\ndataset: toy_roads\ntrain: {epochs: fast}\n", "train.epochs: 'fast' is not a number above 0."),
    ("model: toy_plain\ndataset: toy_roads\nepoch: 3\n",
     "epoch: there is no such setting."),
    ("model: toy_plain\ndataset: toy_roads\nname: 7\n",
     "name: 7 is not a letter or digit, followed by at most 79 letters, digits, dots, hyphens and underscores."),
    ("model: toy_plain\ndataset: toy_roads\ntrain: {epochs: no, steps: x}\n",
     "train.epochs: 'no' is not a number above 0.\ntrain.steps: 'x' is not a whole number above 0 or null."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), REFUSED_RECIPES)
def test_a_wrong_recipe_is_refused_in_a_sentence(text, sentence, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        resolve(path)

    assert caught.value.message == sentence


def test_the_recipe_is_named_where_the_wrong_value_stands_in_it_and_not_where_it_was_typed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: toy_plain\ndataset: toy_roads\ntrain: {epochs: -1}\n")

    with pytest.raises(ConfigError) as caught:
        resolve(path)
    assert caught.value.hint == f"See {path}."

    with pytest.raises(ConfigError) as caught:
        resolve(path, {}, ["train.epochs=-2"])
    assert (caught.value.message, caught.value.hint) == ("train.epochs: -2 is not a number above 0.", "")


def test_unknown_settings_are_told_which_there_are(recipe):
    with pytest.raises(ConfigError) as caught:
        resolve(recipe, {}, ["launch.where=here"])

    assert caught.value.hint.startswith("launch has gpus, ")


def test_epochs_and_steps_together_are_refused(recipe):
    with pytest.raises(ConfigError, match=r"^train\.epochs and train\.steps are both given"):
        resolve(recipe, {"train.epochs": 3, "train.steps": 30})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quickstrat", "There is no recipe 'quickstrat'. Did you mean 'quickstart'?"),
        ("nowhere/mine.yaml", "There is no recipe file nowhere/mine.yaml."),
        ("~nobody-of-that-name/mine.yml", "There is no recipe file ~nobody-of-that-name/mine.yml."),
        ("mine.yml", "There is no recipe file mine.yml."),
    ],
)
def test_a_missing_recipe_is_refused_with_those_there_are(name, message):
    with pytest.raises(ConfigError) as caught:
        resolve(name)

    assert caught.value.message == message
    assert "quickstart" in caught.value.hint


def test_no_model_and_no_data_set_say_what_is_installed():
    with pytest.raises(ConfigError) as caught:
        resolve()
    assert caught.value.message == "model is missing: no model is named."
    assert "--model" in caught.value.hint
    assert "toy_plain" in caught.value.hint


def test_a_recipe_with_a_tab_is_refused_with_its_place(recipe):
    recipe.write_text("train:\n\tepochs: 3\n")

    with pytest.raises(ConfigError) as caught:
        resolve(recipe)
    assert caught.value.message == f"{recipe}:2:1: the line is indented with a tab."


def test_a_damaged_saved_configuration_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match=r"There is no file .*config\.yaml"):
        load_config(path)

    path.write_text("model: toy_plain\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: dataset is missing"):
        load_config(path)


@pytest.mark.parametrize("model", ["cgnet", "espnet", "espnetv2"])
def test_a_models_own_input_is_refused_beside_another_section_input(model):
    own = {"model": model, "dataset": "shapes", "model.mean": [72.4, 82.9, 73.2], "model.std": [1, 1, 1]}
    changed = {"input.mean": [0.5, 0.5, 0.5]}

    assert resolve(None, {**own, "input.std": [0.229, 0.224, 0.225]}).model.options["std"] == [1, 1, 1]
    assert resolve(None, {"model": model, "dataset": "shapes", "model.channel_order": "bgr", **changed})
    with pytest.raises(ConfigError, match=r"^model\.mean and model\.std can only be had with .* another input\.mean\."):
        resolve(None, {**own, **changed})


def test_a_choice_that_other_models_have_names_them():
    with pytest.raises(ConfigError, match=r"^model\.backbone: 'swin_t' is not one of resnet18, ") as caught:
        resolve(None, {"model": "deeplabv3", "dataset": "shapes", "model.backbone": "swin_t"})
    assert caught.value.hint == "swin_t is for bisenet, unet and upernet."

    with pytest.raises(ConfigError, match=r"Did you mean 'resnet50'\?$"):
        resolve(None, {"model": "deeplabv3", "dataset": "shapes", "model.backbone": "resnet5"})
