"""`segctl data check` of data sets that only keep the contract: no files, and what a class declares."""

from __future__ import annotations

from pathlib import Path

from check_reports import told

import segctl


def test_a_data_set_without_files_is_checked_too(toys: None, tmp_path: Path) -> None:
    assert segctl.check_data("plain", data_root=tmp_path).count("error") == 0

    report = segctl.check_data("plain", data_root=tmp_path, options={"faulty": "true"})

    assert told(report, "contract") == [
        (
            "train",
            "train-0",
            "the image is of shape (40, 40, 3) and type float32, not an array of shape (H, W, 3) of uint8",
        ),
        ("train", "train-3", "RuntimeError: no index"),
    ]
    assert told(report, "size-mismatch") == [("train", "train-1", "is 40 x 40 pixels, its image 40 x 39")]
    assert told(report, "mask-value") == [
        ("train", "train-2", "holds 77 on 400 of its 1600 pixels; classes are 0 to 3, ignored is 255")
    ]
    assert told(report, "leak") == [("train", "train-4", "is in val, too, as val-1")]


def test_left_and_right_need_a_flip_pair_and_pairs_must_be_possible(toys: None, tmp_path: Path) -> None:
    assert told(segctl.check_data("plain", data_root=tmp_path), "left-right") == [
        ("", "", "'left_wing' and 'right_wing' (classes 1 and 2) change places in a mirrored image")
    ]
    assert told(segctl.check_data("sides", data_root=tmp_path), "flip-pair") == [
        ("", "", "(3, 9) names class 9, but classes are 0 to 3"),
        ("", "", "(0, 3) names 'tail', which another pair names, too"),
    ]
