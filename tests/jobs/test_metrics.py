"""Counts against a plain loop, measures against cases worked out by hand and against reference numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from segctl_jobs.metrics import confusion_matrix, summarize


def count_by_hand(target: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.zeros((num_classes, num_classes), np.int64)
    for truth, predicted in zip(target.ravel(), prediction.ravel(), strict=True):
        if 0 <= truth < num_classes:
            counts[truth, predicted] += 1
    return counts


@pytest.fixture
def reference(reference_vectors: dict) -> dict:
    return reference_vectors["metrics"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_counts_what_a_plain_loop_counts(dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    target = generator.choice([0, 1, 2, 3, 4, 99], size=(3, 17, 5))
    prediction = generator.integers(0, 5, size=(3, 17, 5))
    counted = confusion_matrix(torch.from_numpy(target).to(dtype), torch.from_numpy(prediction).to(dtype), 5)
    assert counted.dtype == torch.int64
    assert np.array_equal(counted.numpy(), count_by_hand(target, prediction, 5))


def test_rows_are_the_truth() -> None:
    counted = confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1]), 2)
    assert counted.tolist() == [[1, 2], [0, 1]]


@pytest.mark.parametrize("ignored", [-1, 2, 255])
def test_ignored_pixels_are_not_counted(ignored: int) -> None:
    target = torch.tensor([0, 1, ignored, ignored])
    assert confusion_matrix(target, torch.tensor([0, 0, 0, 1]), 2).tolist() == [[1, 0], [1, 0]]


def test_an_ignored_value_among_the_classes_is_not_counted() -> None:
    counted = confusion_matrix(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), 3, ignore_index=0)
    assert counted.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_uint8_products_do_not_wrap() -> None:
    # 149 * 150 + 149 does not fit into eight bits
    target = torch.full((4,), 149, dtype=torch.uint8)
    counted = confusion_matrix(target, target, 150)
    assert counted[149, 149] == 4
    assert counted.sum() == 4


def test_nothing_valid_counts_nothing() -> None:
    assert confusion_matrix(torch.full((8,), 255), torch.zeros(8, dtype=torch.long), 3).tolist() == [[0] * 3] * 3


def test_measures_of_a_case_worked_out_by_hand() -> None:
    # truth 0: 6 right, 2 as class 1;  truth 1: 1 as class 0, 3 right;  class 2 is predicted twice (for class 0) but
    # never true; class 3 is neither.
    confusion = np.array([[6, 2, 2, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    measures = summarize(confusion, ["road", "car", "dog", "unicorn"])
    assert [row["name"] for row in measures["per_class"]] == ["road", "car", "dog", "unicorn"]
    assert [row["iou"] for row in measures["per_class"]] == [6 / 11, 3 / 6, 0.0, None]
    assert [row["accuracy"] for row in measures["per_class"]] == [6 / 10, 3 / 4, None, None]
    assert [row["dice"] for row in measures["per_class"]] == [12 / 17, 6 / 9, 0.0, None]
    assert [row["pixels"] for row in measures["per_class"]] == [10, 4, 0, 0]
    assert [row["predicted_pixels"] for row in measures["per_class"]] == [7, 5, 2, 0]
    assert measures["miou"] == pytest.approx((6 / 11 + 3 / 6 + 0) / 3, abs=1e-15)
    assert measures["mean_dice"] == pytest.approx((12 / 17 + 6 / 9 + 0) / 3, abs=1e-15)
    assert measures["mean_accuracy"] == pytest.approx((6 / 10 + 3 / 4) / 2, abs=1e-15)
    assert measures["pixel_accuracy"] == pytest.approx(9 / 14, abs=1e-15)
    assert measures["frequency_weighted_iou"] == pytest.approx(10 / 14 * 6 / 11 + 4 / 14 * 3 / 6, abs=1e-15)
    assert measures["pixels"] == 14


def test_a_perfect_prediction_is_one_everywhere_although_a_class_is_absent() -> None:
    measures = summarize(np.diag([5, 0, 7]), ["a", "b", "c"])
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice"):
        assert measures[name] == 1.0, name


def test_without_a_single_counted_pixel_everything_is_undefined_and_still_json() -> None:
    measures = json.loads(json.dumps(summarize(np.zeros((2, 2), np.int64), ["a", "b"]), allow_nan=False))
    assert measures["miou"] is None
    assert measures["pixel_accuracy"] is None
    assert measures["frequency_weighted_iou"] is None
    assert measures["per_class"][0]["iou"] is None


def test_counts_beyond_float32_are_exact() -> None:
    # 2**24 + 1 is the first integer that float32 cannot hold; a large data set has far more pixels of a class
    many = 10 * 2**32 + 1
    measures = summarize(np.array([[many, 1], [0, many]]), ["a", "b"])
    assert measures["per_class"][0]["pixels"] == many + 1
    assert measures["pixel_accuracy"] == pytest.approx(2 * many / (2 * many + 1), abs=1e-16)
    assert measures["pixel_accuracy"] < 1


@pytest.mark.parametrize("label", ["label", "label_255"])
def test_reference_vectors(reference: dict, label: str) -> None:
    count, expected = reference["nclass"], reference["expected"]
    total = sum(confusion_matrix(batch[label], batch["logits"].argmax(dim=1), count) for batch in reference["batches"])
    assert torch.equal(total, expected["confusion"])
    measures = summarize(total, [str(index) for index in range(count)])
    for ours, theirs in [
        ("miou", "mIoU"),
        ("pixel_accuracy", "pixAcc"),
        ("mean_accuracy", "mAcc"),
        ("frequency_weighted_iou", "fwIoU"),
        ("mean_dice", "mDice"),
        ("pixels", "n_valid"),
    ]:
        assert measures[ours] == pytest.approx(expected[theirs], abs=1e-12), ours
    for ours, theirs in [("iou", "IoU"), ("accuracy", "class_acc"), ("dice", "Dice")]:
        values = [float("nan") if row[ours] is None else row[ours] for row in measures["per_class"]]
        assert values == pytest.approx(expected[theirs], abs=1e-12, nan_ok=True), ours
