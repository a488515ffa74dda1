"""`segctl data show`: a contact sheet of a data set, before and after augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segctl import bridge, registry
from segctl.config.load import resolve
from segctl.errors import ConfigError, listing
from segctl.plain_data import absolute
from segctl.plugin import dataset_info
from segctl.runs.outputs import refuse_in_a_run

__all__ = ["ContactSheet", "show_data"]

# What a sheet depends on; all else of a configuration is for jobs.
KEYS = ("augment", "input", "seed", "dataset", "data_root")


@dataclass(frozen=True)
class ContactSheet:
    """A picture of samples.

    Attributes:
        file: The PNG.
        dataset: The plugin's name.
        split: The split.
        samples: The samples' names, from top to bottom.
        shares: Of each class that occurs in their masks, its share of the pixels, the largest first.
        ignored: The share of ignored pixels.
    """

    file: Path
    dataset: str
    split: str
    samples: tuple[str, ...]
    shares: Mapping[str, float]
    ignored: float


def show_data(
    dataset: str,
    samples: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    split: str | None = None,
    count: int = 6,
    draws: int | None = None,
    recipe: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> ContactSheet:
    """Draws samples with their masks and a legend, as they are stored and as a training would get them.

    Args:
        dataset: The plugin's name.
        samples: Names of the samples to show; none: `count` of them, drawn with the configuration's seed.
        out: The PNG; default: the data set's and the split's name in the working directory. A file that segctl has
            not written is not replaced.
        split: The split; default: the one that is trained on.
        count: How many samples, where they are not named.
        draws: How often each is augmented; default: twice in the training split, elsewhere not at all.
        recipe: Whose augmentation, input and seed hold.
        flags: Configuration keys and values that go before the recipe's, as in ``{"augment.crop": 512}``.
        sets: The same as assignments, as in ``"augment.crop=512"``.

    Raises:
        SegctlError: The data are missing or faulty, there is no such sample, a setting is not acceptable, or `out` is
            somebody's file or among a run's own.
    """
    for name, number, least in (("count", count, 1), ("draws", draws or 0, 0)):
        if number < least:
            raise ConfigError(f"{name}: {number} is less than {least}.")
    given = {**(flags or {}), "dataset": dataset}
    _refuse_other_keys([*given, *(text.partition("=")[0] for text in sets)])
    if recipe is None:
        given["model"] = "none"  # no model is looked for: any name does
    config = resolve(recipe, given, sets, find_plugins=False)
    plugin = registry.resolve_plugin("datasets", config.dataset)
    config = config.model_copy(update={"dataset": plugin, "data_root": absolute(config.data_root)})
    split = split or dataset_info(registry.find("datasets", plugin.name).load()).train_split
    file = Path(out or f"{dataset.rpartition(':')[2]}-{split}.png")  # without the distribution of a qualified name
    if file.suffix.lower() != ".png":
        raise ConfigError(f"{file}: a sheet is a PNG file.", f"Call it {file.with_suffix('.png')}.")
    refuse_in_a_run(file)
    sheet = bridge.draw_sheet(config, split, tuple(samples), count, draws, file)
    return ContactSheet(file, dataset, split, tuple(sheet.names), dict(sheet.shares), sheet.ignored)


def _refuse_other_keys(keys: Sequence[str]) -> None:
    for key in keys:
        if key.strip().split(".")[0] not in KEYS:
            raise ConfigError(f"{key}: what is shown does not depend on it.", f"It depends on {listing(KEYS)}.")
