"""`segctl data check`: it finds what is planted, names it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import camvid_tree
import numpy as np
import pytest
from check_reports import found, told
from PIL import Image

import segctl
from segctl.cli.app import main
from segctl.errors import ConfigError, DataError, PluginError

# ---- all that can be wrong


def test_nothing_is_found_where_nothing_is_wrong(clean: Path) -> None:
    report = segctl.check_data("camvid", data_root=clean)

    assert report.findings == ()
    assert {split.name: (split.samples, split.images) for split in report.splits} == {
        name: (count, count) for name, count in camvid_tree.SPLITS.items()
    }


def test_every_planted_fault_is_found_and_nothing_else(faulty: Path) -> None:
    report = segctl.check_data("camvid", data_root=faulty)

    assert len(camvid_tree.FAULTS) >= 15
    assert found(report) == {(kind, file) for kind, file, _ in camvid_tree.FAULTS}
    # Two that have the same cause are both there.
    assert {finding.kind: finding.count for finding in report.findings if finding.count > 1} == {
        "unreadable-image": 2,
        "leak": 2,
    }
    assert told(report, "mask-value") == [
        (
            "train",
            "trainannot/train_007.png",
            "holds the value 200 on 3 of its 1440 pixels, which the data set does not declare. Declared are 0 to 11",
        )
    ]
    assert told(report, "never-occurs") == [("train", "", "'Bicyclist' is in no mask")]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_result_does_not_depend_on_the_number_of_workers(faulty: Path, workers: int) -> None:
    assert segctl.check_data("camvid", data_root=faulty, workers=workers) == segctl.check_data(
        "camvid", data_root=faulty, workers=2
    )


def test_training_still_refuses_what_a_check_goes_through(faulty: Path) -> None:
    with pytest.raises(DataError, match=r"train_000\.png, listed in .*train\.txt, does not exist"):
        segctl.train(None, flags={"model": "enet", "dataset": "camvid", "data_root": str(faulty)}, dry_run=True)


def test_many_faults_of_a_kind_are_counted_and_the_first_ones_named(
    clean: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(clean, tmp_path / "data")
    for path in sorted((tmp_path / "data/camvid/trainannot").iterdir())[:40]:
        path.unlink()

    code = main(["data", "check", "camvid", "--data-root", str(tmp_path / "data")])

    said = capfd.readouterr().out
    assert code == 1
    assert "missing mask (40)\n  trainannot/train_000.png (train) does not exist\n" in said
    assert "trainannot/train_004.png" in said
    assert "trainannot/train_005.png" not in said
    assert "and 35 more" in said
    assert said.rstrip().endswith("40 errors, no warnings, no notes.")


def test_a_part_of_a_data_set_is_an_error(clean: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """40 of CamVid's 367 frames, all of them sound; a frame too many is only worth a warning."""
    shutil.copytree(clean, tmp_path / "data")
    root = tmp_path / "data/camvid"
    lines = (root / "train.txt").read_text().splitlines(keepends=True)
    (root / "train.txt").write_text("".join(lines[:40]))
    for path in [*sorted((root / "train").iterdir())[40:], *sorted((root / "trainannot").iterdir())[40:]]:
        path.unlink()
    Image.fromarray(camvid_tree.picture(8000)).save(root / "val/val_101.png")
    Image.fromarray(camvid_tree.labels(0)).save(root / "valannot/val_101.png")
    with (root / "val.txt").open("a") as file:
        file.write("/SegNet/CamVid/val/val_101.png /SegNet/CamVid/valannot/val_101.png\n")

    code = main(["data", "check", "camvid", "--data-root", str(tmp_path / "data")])

    said = capfd.readouterr().out
    assert code == 1
    assert "error: split with fewer samples than published" in said
    assert "has 40 samples here, 367 are published" in said
    assert "warning: split with more samples than published" in said
    assert "has 102 samples here, 101 are published" in said
    assert said.rstrip().endswith("1 error, 1 warning, no notes.")


def test_one_picture_with_two_masks_is_an_error(clean: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(clean, tmp_path / "data")
    train = tmp_path / "data/camvid/train"
    shutil.copy(train / "train_011.png", train / "train_012.png")

    code = main(["data", "check", "camvid", "--data-root", str(tmp_path / "data")])

    said = capfd.readouterr().out
    assert code == 1
    assert "error: image that is there twice, with different masks" in said
    assert said.rstrip().endswith("1 error, no warnings, no notes.")


# ---- figures


def test_figures_are_those_of_the_files(tmp_path: Path) -> None:
    """Two pictures of 32 x 32 whose values are known: reds are 0 and 255, greens 51 throughout, blues 0."""
    root = tmp_path / "folder"
    for number, red in enumerate((0, 255)):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = red, 51
        pixels[0, 0, 2] = number  # not of one colour, nor the same
        mask = np.zeros((32, 32), np.uint8)
        mask[:8], mask[8:16] = 1, 255 if number else 2
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / folder / f"{number}.png")
    (root / "classes.yaml").write_text("names: [ground, road, car]\n")
    (root / "train.txt").write_text("0\n1\n")
    (root / "val.txt").write_text("1\n")

    report = segctl.check_data("folder", data_root=tmp_path, splits=["train"])

    (split,) = report.splits
    assert split.mean == pytest.approx((0.5, 0.2, 1 / 255 / 2048), abs=1e-9)
    assert split.deviation is not None
    assert split.deviation == pytest.approx((0.5, 0.0, (1 / 2048 * (1 - 1 / 2048)) ** 0.5 / 255), abs=1e-7)
    assert {name: (count.pixels, count.images) for name, count in split.classes.items()} == {
        "ground": (2 * 512, 2),
        "road": (2 * 256, 2),
        "car": (256, 1),
    }
    assert (split.ignored, split.smallest, split.largest) == (256, (32, 32), (32, 32))


def test_real_frames_that_look_alike_are_no_duplicates(test_data: Path) -> None:
    """CamVid's frames are a second of video apart."""
    report = segctl.check_data("camvid", data_root=test_data)

    assert {finding.kind for finding in report.findings} <= {"not-here"}  # the test split is not in the sample
    val = next(split for split in report.splits if split.name == "val")
    frames = (np.asarray(Image.open(path)).astype(np.int64) for path in (test_data / "camvid/val").iterdir())
    sums = sum(np.stack([frame.sum(axis=(0, 1)), (frame**2).sum(axis=(0, 1))]) for frame in frames)
    mean, square = sums / (101 * 360 * 480)
    assert val.mean == pytest.approx(mean / 255, abs=1e-9)
    assert val.deviation == pytest.approx(np.sqrt(square - mean**2) / 255, abs=1e-9)


# ---- the command


def test_the_command_for_programs(faulty: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["data", "check", "camvid", "--data-root", str(faulty), "--json", "--split", "val"])

    document = json.loads(capfd.readouterr().out)
    assert code == 1
    assert document["counts"]["error"] == 2
    missing, fewer = [finding for finding in document["findings"] if finding["level"] == "error"]
    assert missing["cases"] == [
        {"kind": "missing-mask", "split": "val", "file": "valannot/val_001.png", "what": "does not exist"}
    ]
    assert fewer["cases"] == [
        {"kind": "incomplete", "split": "val", "file": "", "what": "has 100 samples here, 101 are published"}
    ]
    assert [split["name"] for split in document["splits"]] == ["val"]


def test_the_command_leaves_with_0_where_there_is_no_error(clean: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "camvid", "--data-root", str(clean)]) == 0
    assert "no errors, no warnings, no notes." in capfd.readouterr().out


def test_what_cannot_be_checked_is_refused_in_one_sentence(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"camvid has no split 'trian'; it has train, val and test\. Did you mean 'train'"
    ):
        segctl.check_data("camvid", data_root=clean, splits=["trian"])
    with pytest.raises(PluginError, match=r"^There is no data set 'camvidd'\. Did you mean 'camvid'\?"):
        segctl.check_data("camvidd", data_root=clean)
    with pytest.raises(DataError, match="there is no folder"):
        segctl.check_data("camvid", data_root=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="workers: 0"):
        segctl.check_data("camvid", data_root=clean, workers=0)


def test_it_needs_no_torch(clean: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision'])); "
        "from segctl.cli.app import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "check", "camvid", "--data-root", str(clean)], capture_output=True
    )
    assert done.returncode == 0, done.stderr
