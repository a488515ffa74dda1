"""The shipped recipes hold the published settings and pass the check before a submission.

The check needs data: a little tree of each data set's official layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import segctl
from segctl.config.load import resolve
from segctl.config.schema import Evaluation
from segctl.config.shipped import recipes
from segctl_jobs.inference import window_starts

# What the folder does not name is another's: recipes of a data set begin with the data set's name.
PUBLISHED = {name for name in recipes() if name.startswith(("cityscapes_", "ade20k_", "voc_"))}
SIZE = (96, 64)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 120, 60)).save(path)


def mask(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE, value).save(path)


def cityscapes(root: Path) -> None:
    for split, city in (("train", "bonn"), ("val", "munster")):
        for number in range(64):
            frame = f"{split}/{city}/{city}_{number:06d}_000019"
            picture(root / f"leftImg8bit/{frame}_leftImg8bit.png")
            mask(root / f"gtFine/{frame}_gtFine_labelIds.png", 7)


def ade20k(root: Path) -> None:
    for split in ("training", "validation"):
        for number in range(20):
            picture(root / f"ADEChallengeData2016/images/{split}/ADE_{number:08d}.jpg")
            mask(root / f"ADEChallengeData2016/annotations/{split}/ADE_{number:08d}.png", 3)


def voc(root: Path) -> None:
    folder = root / "VOCdevkit/VOC2012"
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"2007_{split}{number}" for number in range(20)]
        (lists / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            picture(folder / f"JPEGImages/{name}.jpg")
            mask(folder / f"SegmentationClass/{name}.png", 15)


@dataclass(frozen=True)
class Published:
    """What the sources say of a training. None: they do not say, or the recipe's comment says what differs."""

    aims: tuple[str, ...]
    optimizer: str | None = "sgd"
    lr: float | None = 0.01
    weight_decay: float | None = 5e-4
    lowest_lr: float | None = None
    crop: int | tuple[int, int] | None = None
    batch: int | None = None
    steps: int | None = None
    epochs: int | None = None
    class_weights: str | list[float] | None = None
    max_class_share: float | None = None
    scale: tuple[float, float] | None = None
    schedule: str = "poly"
    power: float | None = 0.9
    warmup: int | None = 0
    window: tuple[int, int] | None = None  # its side and its stride; None: whole images are evaluated


# The recipe that most of mmsegmentation's configurations share.
COMMON = Published((), lowest_lr=1e-4, max_class_share=0.75, scale=(0.5, 2.0))


def cityscapes_row(*aims: str, steps: int = 80_000, batch: int = 8, **other: Any) -> Published:
    return replace(COMMON, aims=aims, steps=steps, batch=batch, **{"crop": (512, 1024), **other})


def ade20k_row(*aims: str, **other: Any) -> Published:
    return replace(COMMON, aims=aims, crop=512, batch=16, steps=160_000, **other)


def of_the_reference(*aims: str) -> Published:
    """A row of the reference project's table of results."""
    return Published(aims, optimizer=None, lr=None, weight_decay=None, crop=480, epochs=60, max_class_share=1)


OCNET_WEIGHTS = [
    *(0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037),
    *(1.0865, 1.0955, 1.0865, 1.1529, 1.0507),
]

SEGFORMER = {"optimizer": "adamw", "lr": 6e-5, "weight_decay": 0.01, "lowest_lr": 0, "power": 1.0, "warmup": 1500}

# Transcribed by hand from the tables and releases that the recipes' comments name; mIoU as these print it.
TABLE = {
    "voc_fcn32s": of_the_reference("47.5"),
    "voc_fcn16s": of_the_reference("49.2"),
    "voc_fcn8s": of_the_reference("48.9"),
    "voc_pspnet": of_the_reference("63.44", "89.78"),
    "voc_deeplabv3": of_the_reference("60.15", "88.36"),
    "voc_dunet": Published(("88.1",), lr=7e-3, weight_decay=1e-4, batch=16, epochs=100),
    # mmsegmentation's: configs/*/README.md, and the configurations that the rows name.
    "cityscapes_fcn": cityscapes_row("75.13", "75.94"),
    "cityscapes_pspnet": cityscapes_row("79.76", "81.01"),
    "cityscapes_deeplabv3": cityscapes_row("80.20", "81.21"),
    "cityscapes_deeplabv3_plus": cityscapes_row("80.97", "82.03"),
    "cityscapes_encnet": cityscapes_row("78.55", "79.47"),
    "cityscapes_ccnet": cityscapes_row("78.87", "79.90"),
    "cityscapes_psanet": cityscapes_row("79.31", "80.53"),
    "cityscapes_upernet": cityscapes_row("79.40", "80.46"),
    "cityscapes_hrnet": cityscapes_row("79.93", "80.72"),
    "cityscapes_hrnet_ocr": cityscapes_row("80.70", "81.87"),
    "cityscapes_danet": cityscapes_row("80.47", "82.02", crop=769, window=(769, 513)),
    "cityscapes_icnet": cityscapes_row("73.82", "75.67", "76.29", "78.09", crop=832, steps=160_000),
    "cityscapes_unet": cityscapes_row("69.10", "71.05", batch=16, steps=160_000),
    "cityscapes_lraspp": cityscapes_row("69.54", "70.89", batch=16, steps=320_000),
    "cityscapes_fast_scnn": cityscapes_row("70.96", "72.65", batch=32, steps=160_000, lr=0.12, weight_decay=4e-5),
    "cityscapes_bisenetv2": cityscapes_row("73.21", "75.74", crop=1024, batch=16, steps=160_000, lr=0.05, warmup=1000),
    "cityscapes_segformer": cityscapes_row("76.54", "78.22", crop=1024, steps=160_000, window=(1024, 768), **SEGFORMER),
    "cityscapes_cgnet": cityscapes_row(
        "68.27", "70.33", optimizer="adam", lr=1e-3, batch=32, steps=60_000, class_weights="erfnet"
    ),
    "ade20k_fcn": ade20k_row("39.91", "41.40"),
    "ade20k_pspnet": ade20k_row("44.39", "45.35"),
    "ade20k_deeplabv3": ade20k_row("45.00", "46.66"),
    "ade20k_deeplabv3_plus": ade20k_row("45.47", "46.35"),
    "ade20k_encnet": ade20k_row("42.61", "44.01", "44.65"),
    "ade20k_ccnet": ade20k_row("43.71", "45.04"),
    "ade20k_danet": ade20k_row("44.17", "45.02"),
    "ade20k_psanet": ade20k_row("43.74", "45.38"),
    "ade20k_upernet": ade20k_row("43.82", "44.85"),
    "ade20k_hrnet": ade20k_row("42.02", "43.86"),
    "ade20k_hrnet_ocr": ade20k_row("43.25", "44.88"),
    "ade20k_segformer": ade20k_row("45.58", "47.03", **SEGFORMER),
    # The authors', or who else the comments name.
    "cityscapes_bisenet": Published(
        ("75.44", "77.45"), lowest_lr=0, crop=1024, batch=16, steps=80_000, scale=(0.75, 2.0), warmup=1000
    ),
    "cityscapes_ocnet": Published(
        ("79.49",), lowest_lr=0, crop=769, batch=8, steps=40_000, class_weights=OCNET_WEIGHTS, scale=(0.5, 2.1)
    ),
    "cityscapes_enet": Published(
        ("59.5", "58.3", "67.42"), "adam", 1e-3, 2e-4, lowest_lr=0, batch=8, epochs=300, class_weights="enet"
    ),
    "cityscapes_denseaspp": Published(
        ("79.9", "80.6"), "adam", 3e-4, 1e-5, crop=512, batch=8, epochs=80, scale=(0.5, 2.0)
    ),
    "cityscapes_dfanet": Published(
        ("71.9", "71.3"), lr=0.2, weight_decay=1e-5, lowest_lr=0, crop=1024, batch=48, scale=(0.75, 1.75), warmup=None
    ),
    "cityscapes_espnet": Published(
        ("60.3",), "adam", 5e-4, 5e-4, batch=6, epochs=300, class_weights="erfnet", schedule="step", power=None
    ),
    "cityscapes_espnetv2": Published(
        ("66.2",), "adam", 5e-4, 5e-4, lowest_lr=0, batch=10, epochs=300, class_weights="erfnet"
    ),
    "cityscapes_lednet": Published(
        ("70.6",), "adam", 5e-4, 1e-4, lowest_lr=0, batch=5, epochs=300, class_weights="erfnet"
    ),
}

TREES: dict[str, Callable[[Path], None]] = {"cityscapes": cityscapes, "ade20k": ade20k, "pascal_voc": voc}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, build in TREES.items():
        build(root / name)
    return root


def test_every_model_has_a_recipe() -> None:
    models = {resolve(name, {}, ()).model.name for name in recipes()}
    from segctl.registry import discover

    ours = {entry.name for entry in discover("models") if entry.distribution == "segctl"}
    assert ours - models == {"psp"}  # another name of pspnet


def window(settings: Evaluation) -> tuple[int, int] | None:
    """Side and stride of the windows that images of Cityscapes are evaluated in, across."""
    if settings.mode == "whole":
        return None
    assert isinstance(settings.window, int)
    return settings.window, window_starts(2048, settings.window, settings.overlap)[1]


def comment(name: str) -> str:
    return " ".join(line.strip("# ") for line in recipes()[name].read_text().splitlines() if line[0] == "#")


def test_every_recipe_of_a_published_data_set_is_in_the_table_and_says_what_it_aims_at() -> None:
    assert TABLE.keys() == PUBLISHED
    for name in PUBLISHED:
        assert "mIoU" in comment(name), name


@pytest.mark.parametrize("name", TABLE)
def test_it_has_the_settings_that_were_published(name: str) -> None:
    config, published = resolve(name, {}, ()), TABLE[name]
    found = {
        "optimizer": config.optimizer.name,
        "lr": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "lowest_lr": round(config.optimizer.lr * config.schedule.min_factor, 7),
        "crop": config.augment.crop,
        "max_class_share": config.augment.max_class_share,
        "batch": config.train.batch_size,
        "steps": config.train.steps,
        "epochs": config.train.epochs,
        "scale": config.augment.scale,
        "schedule": config.schedule.name,
        "power": config.schedule.power,
        "warmup": config.schedule.warmup_steps,
    }
    named = {key: value for key in found if (value := getattr(published, key)) is not None}

    assert {key: found[key] for key in named} == named
    assert config.loss.options.get("class_weights") == published.class_weights
    assert window(config.eval) == published.window
    for aim in published.aims:
        rounded = Decimal(aim).quantize(Decimal("0.1"), ROUND_HALF_UP)
        assert str(rounded) in comment(name), f"{aim} is not in the comment"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_it_passes_the_check_before_a_submission(name: str, data_root: Path) -> None:
    flags: dict[str, object] = {"data_root": str(data_root)}
    if "pretrained" in resolve(name, {}, ()).model.options:
        # The check fetches the weights that the job would start from, and fails where they cannot be had, as the job
        # would. No test downloads anything.
        flags["model.pretrained"] = False
    submitted = segctl.train(name, flags=flags, dry_run=True)
    assert submitted.run is None
    assert submitted.plan.world_size == 1
