"""The kit on data sets: it passes what is right, and finds each fault by the check that is named for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toy_datasets as toys
from toy_torch_datasets import ImportsTorch

from segctl.conformance import assert_dataset, check_dataset

# Fault, the one check that must fail, and what its detail must say.
FAULTS: list[tuple[type[toys.Good], str, str]] = [
    (toys.TakesOptionsByPosition, "signature", "height"),
    (toys.UndocumentedOption, "documented options", "width has no line"),
    (ImportsTorch, "imports without torch", "toy_torch_datasets cannot be imported where torch is not"),
    (toys.WordForIgnored, "declares", "void"),
    (toys.ShortPalette, "facts", "palette has 2 colours for 3 classes"),
    (toys.PaletteOutOfRange, "facts", "(0, 0, 256)"),
    (toys.TwiceTheSameClass, "facts", "classes names left twice"),
    (toys.IgnoresAClass, "facts", "ignore_index 2 is also a class, 'right'"),
    (toys.TooFewLabels, "facts", "labels must be 3 different values"),
    (toys.MisnamedSplit, "facts", "eval_split 'vall' is not one of the splits train and val. Did you mean 'val'?"),
    (toys.LabelledAndNot, "facts", "val is named among both splits and unlabelled_splits"),
    (toys.NoLicence, "facts", "licence"),
    (toys.FlipsTheUnknown, "flip pairs", "class 3, but classes are 0 to 2"),
    (toys.FlipsTwice, "flip pairs", "class 1 twice"),
    (toys.CannotBeOpened, "opens", "RuntimeError: no such index"),
    (toys.Empty, "opens", "the split train and val is empty"),
    (toys.BadClassesOnceOpen, "facts once open", "classes names a twice"),
    (toys.BadFlipPairsOnceOpen, "flip pairs once open", "class 3"),
    (toys.AnySplit, "unknown split", "opened without an error"),
    (toys.GreyImages, "items", "the image of sample 0 of train is ndarray of shape (6, 8), uint8"),
    (toys.FloatImages, "items", "float64"),
    (toys.FloatMasks, "items", "the mask of sample 0 of train is ndarray of shape (6, 8), float32"),
    (toys.TransposedMasks, "items", "has the shape (8, 6), its image (6, 8)"),
    (toys.ThreeParts, "items", "not a tuple (image, mask)"),
    (toys.UndeclaredValue, "mask values", "sample 4 of train holds 3"),
    (toys.NegativeValue, "mask values", "sample 0 of train holds -1"),
    (toys.Augments, "repeatable", "when it is read again"),
    (toys.DrawsOnOpening, "repeatable", "when the data set is opened again"),
    (toys.MasksOfOthers, "shortcuts", "mask(0) is not the mask of sample 0 of train"),
    (toys.FingerprintOfTheMoment, "shortcuts", "the data are the same"),
    (toys.OneFileForTheServer, "shortcuts", "submission_path of train gives 'result.png'"),
    (toys.SubmitsElsewhere, "shortcuts", "submission_path of train gives '../"),
    (toys.GivesItsCache, "own arrays", "give out a copy"),
    (toys.NamesTwice, "names", "samples 1 and 3 of train have one name, 'a'"),
    (toys.NamesWithFolders, "names", "it contains '/'"),
    (toys.NamesByNumber, "names", "it is int, not a string"),
    (toys.WrapsAround, "index range", "index 5 of train gives a sample, but there are 5"),
    (toys.KeyErrorAtTheEnd, "index range", "KeyError: 5"),
    (toys.HoldsAFunction, "workers", "cannot be sent to a data worker"),
    (toys.ForgetsWhenPickled, "workers", "another one in a data worker"),
]


@pytest.mark.parametrize("factory", [toys.Good, toys.KnowsItsClassesOnceOpen])
def test_a_good_data_set_passes_every_check(factory: type[toys.Good], tmp_path: Path) -> None:
    checks = check_dataset(factory, tmp_path)

    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(("factory", "name", "detail"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_fault_is_found_by_its_check_alone(factory: type[toys.Good], name: str, detail: str, tmp_path: Path) -> None:
    failed = {check.name: check.detail for check in check_dataset(factory, tmp_path) if check.failed}

    assert list(failed) == [name], failed
    assert detail in failed[name]


def test_every_check_has_a_fault_that_it_finds(tmp_path: Path) -> None:
    names = {
        check.name
        for factory in (toys.Good, toys.KnowsItsClassesOnceOpen)
        for check in check_dataset(factory, tmp_path)
    }

    assert names == {name for _, name, _ in FAULTS}


def test_data_that_are_not_on_disk_are_skipped_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()

    checks = {check.name: check for check in check_dataset(toys.NeedsFiles, tmp_path)}

    assert not any(check.failed for check in checks.values())
    assert checks["facts"].passed
    assert checks["opens"].skipped
    assert not checks["opens"].passed
    assert checks["opens"].detail == f"the data are not on disk: {tmp_path} lacks masks"
    assert checks["mask values"].detail == "not tried, because 'opens' was skipped"


def test_a_split_that_is_not_on_disk_is_said_and_the_other_one_tried(tmp_path: Path) -> None:
    checks = {check.name: check for check in check_dataset(toys.NeedsALaterSplit, tmp_path)}

    assert all(check.passed for check in checks.values())
    assert checks["opens"].detail == "train: 5 samples; val is not on disk: val.txt does not exist"
    assert checks["items"].detail.startswith("5 samples")


def test_one_split_may_be_chosen_and_options_reach_the_data_set(tmp_path: Path) -> None:
    checks = {
        check.name: check for check in check_dataset(toys.Good, tmp_path, "val", options={"height": 9}, samples=2)
    }

    assert checks["opens"].detail == "val: 5 samples"
    assert checks["items"].detail == "2 samples of 9x8 to 9x12"


def test_the_assertion_fails_skips_or_passes(tmp_path: Path) -> None:
    assert_dataset(toys.Good, tmp_path)
    with pytest.raises(
        AssertionError, match="the data set NoLicence fails 1 of 16 conformance checks:\n  failed   facts"
    ):
        assert_dataset(toys.NoLicence, tmp_path)
    with pytest.raises(pytest.skip.Exception, match="lacks images and masks"):
        assert_dataset(toys.NeedsFiles, tmp_path)


def test_a_data_set_is_tried_without_torch(tmp_path: Path) -> None:
    """A data set's author may not have it installed."""
    code = (
        "import sys; sys.modules['torch'] = None; import toy_datasets; from segctl.conformance import check_dataset; "
        f"print(sum(check.passed for check in check_dataset(toy_datasets.Good, {str(tmp_path)!r})))"
    )
    environment: dict[str, Any] = {"PYTHONPATH": str(Path(__file__).parent), "PATH": ""}

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    assert (done.returncode, done.stdout.strip()) == (0, "16"), done.stderr
