"""`segctl data check`: it finds what is planted, names it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import camvid_tree
import numpy as np
import psutil
import pytest
from PIL import Image

import segctl
from segctl.cli.app import main
from segctl.data_check.check import DataReport
from segctl.errors import ConfigError, DataError

SEGCTL = str(Path(sys.executable).with_name("segctl"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with CamVid's 701 samples, of which nothing is wrong."""
    root = tmp_path_factory.mktemp("clean")
    camvid_tree.make(root / "camvid")
    return root


@pytest.fixture
def faulty(clean: Path, tmp_path: Path) -> Path:
    """A copy of it with every fault of `camvid_tree.FAULTS`."""
    root = tmp_path / "faulty"
    shutil.copytree(clean, root)
    for _, _, plant in camvid_tree.FAULTS:
        plant(root / "camvid")
    return root


def found(report: DataReport) -> set[tuple[str, str]]:
    return {(finding.kind, case.file) for finding in report.findings for case in finding.cases}


def told(report: DataReport, kind: str) -> list[tuple[str, str, str]]:
    """Split, file and words of each case of a kind."""
    cases = [case for finding in report.findings if finding.kind == kind for case in finding.cases]
    return [(case.split, case.file, case.what) for case in cases]


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


# ---- splits


def make_unions(root: Path) -> Path:
    for index in range(6):
        (root / "files").mkdir(parents=True, exist_ok=True)
        Image.fromarray(camvid_tree.picture(index)).save(root / "files" / f"{index}.png")
        mask = (camvid_tree.labels(index) > 5).astype(np.uint8)
        Image.fromarray(mask).save(root / "files" / f"{index}_mask.png")
    return root


def test_a_split_that_is_made_of_others_leaks_nothing(toys: str, tmp_path: Path) -> None:
    make_unions(tmp_path / "unions")

    assert segctl.check_data("unions", data_root=tmp_path).findings == ()
    asked = segctl.check_data("unions", data_root=tmp_path, splits=["trainval", "val"])
    assert told(asked, "leak") == [
        ("trainval", "files/4.png", "is in val, too"),
        ("trainval", "files/5.png", "is in val, too"),
    ]


def test_a_split_whose_labels_are_not_public_is_looked_at_too(toys: str, tmp_path: Path) -> None:
    files = make_unions(tmp_path / "served") / "files"
    for index in (4, 5):
        (files / f"{index}_mask.png").unlink()

    report = segctl.check_data("served", data_root=tmp_path)

    assert report.findings == ()
    assert [(split.name, split.images, split.masks) for split in report.splits] == [
        ("train", 2, 2),
        ("val", 2, 2),
        ("test", 2, 0),
    ]
    shutil.copy(files / "4.png", files / "0.png")
    (files / "5.png").write_bytes(b"")
    assert found(segctl.check_data("served", data_root=tmp_path)) == {
        ("leak", "files/0.png"),
        ("unreadable-image", "files/5.png"),
    }


def test_the_lists_that_sbd_comes_with_leak_and_the_default_does_not(tmp_path: Path) -> None:
    """SBD's train list holds a photograph of VOC's val, as the reference project's did."""
    savemat = pytest.importorskip("scipy.io").savemat
    voc, sbd = tmp_path / "pascal_voc/VOCdevkit/VOC2012", tmp_path / "pascal_voc/benchmark_RELEASE/dataset"
    for folder in (
        voc / "JPEGImages",
        voc / "SegmentationClass",
        voc / "ImageSets/Segmentation",
        sbd / "img",
        sbd / "cls",
    ):
        folder.mkdir(parents=True)
    mask = np.arange(camvid_tree.HEIGHT * camvid_tree.WIDTH).reshape(camvid_tree.HEIGHT, -1) % 21
    for seed, name in enumerate(("a", "b", "c", "d")):
        picture = Image.fromarray(camvid_tree.picture(seed))
        for path in (voc / "JPEGImages", sbd / "img"):
            picture.save(path / f"{name}.jpg")
        Image.fromarray(mask.astype(np.uint8)).save(voc / "SegmentationClass" / f"{name}.png")
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask.astype(np.uint8)}})
    for path, names in (
        (voc / "ImageSets/Segmentation/train.txt", "a"),
        (voc / "ImageSets/Segmentation/val.txt", "b"),
        (sbd / "train.txt", "bc"),
        (sbd / "val.txt", "d"),
    ):
        path.write_text("\n".join(names) + "\n")

    leaking = segctl.check_data("pascal_aug", data_root=tmp_path, splits=["sbd_train", "val"])
    default = segctl.check_data("pascal_aug", data_root=tmp_path, splits=["trainaug", "val"])

    image = "benchmark_RELEASE/dataset/img/b.jpg"
    assert told(leaking, "leak") == [("sbd_train", image, "is in val, too, as VOCdevkit/VOC2012/JPEGImages/b.jpg")]
    # Of the thousands that are published there are one or two here, which is an error of its own.
    assert {finding.kind for finding in leaking.findings if finding.level == "error"} == {"leak", "incomplete"}
    assert {finding.kind for finding in default.findings if finding.level == "error"} == {"incomplete"}
    assert told(default, "leak") == told(default, "overlap") == []


def test_a_split_that_cannot_be_opened_does_not_keep_from_checking_the_others(faulty: Path) -> None:
    (faulty / "camvid/val.txt").unlink()

    report = segctl.check_data("camvid", data_root=faulty)

    assert [split.name for split in report.splits] == ["train", "test"]
    ((split, _, what),) = told(report, "refused")
    assert split == "val"
    assert "val.txt does not exist" in what
    assert ("missing-image", "train/train_000.png") in found(report)


# ---- a person's own folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Six images and masks in ``images/`` and ``masks/``."""
    root = tmp_path / "my"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        Image.fromarray(camvid_tree.picture(number)).save(root / "images" / f"p{number}.png")
        Image.fromarray(camvid_tree.labels(number) // 6).save(root / "masks" / f"p{number}.png")
    (root / "classes.yaml").write_text("names: [ground, thing]\n")
    return root


def kinds(root: Path) -> set[tuple[str, str]]:
    return {each for each in found(segctl.check_data("folder", data_root=root)) if each[0] != "notice"}


def test_a_folder_without_faults(own: Path) -> None:
    assert kinds(own) == set()


def remove_mask(root: Path) -> None:
    (root / "masks/p3.png").unlink()


def remove_image(root: Path) -> None:
    (root / "images/p3.png").unlink()


def list_what_is_not_there(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1\nlost\np1\n")
    (root / "val.txt").write_text("p2\n")


def spoil_without_classes(root: Path) -> None:
    """The classes are what the masks hold; one of them cannot be read."""
    (root / "classes.yaml").unlink()
    (root / "masks/p3.png").write_bytes(b"")


def save_mask_as_jpeg(root: Path) -> None:
    Image.open(root / "masks/p3.png").save(root / "masks/p3.jpg", quality=100)
    (root / "masks/p3.png").unlink()


def repeat_over_splits(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1\np2\n")
    (root / "val.txt").write_text("p2\np3\np4\np5\n")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove_mask, {("missing-mask", "masks/p3.png")}),
        (remove_image, {("refused-mask", "masks/p3.png")}),
        (
            list_what_is_not_there,
            {
                ("missing-image", "images/lost"),
                ("missing-mask", "masks/lost.png"),
                ("listed-twice", "images/p1.png"),
                ("unused", "masks/p3.png"),
                ("unused", "masks/p4.png"),
                ("unused", "masks/p5.png"),
            },
        ),
        (spoil_without_classes, {("unreadable-mask", "masks/p3.png")}),
        (repeat_over_splits, {("leak", "images/p2.png")}),
    ],
)
def test_a_folder_with_a_fault(own: Path, spoil: Callable[[Path], None], expected: set[tuple[str, str]]) -> None:
    spoil(own)

    assert {each for each in kinds(own) if each[0] != "refused"} - expected == set()
    assert expected <= kinds(own)


def test_a_mask_in_a_format_that_changes_values(own: Path) -> None:
    save_mask_as_jpeg(own)

    report = segctl.check_data("folder", data_root=own)

    assert ("lossy-mask", "masks/p3.jpg") in found(report)
    ((_, _, what),) = set(told(report, "refused"))
    assert "p3.png" in what
    assert report.count("error") >= 1


# ---- data sets that only keep the contract


def test_a_data_set_without_files_is_checked_too(toys: str, tmp_path: Path) -> None:
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


def test_left_and_right_need_a_flip_pair_and_pairs_must_be_possible(toys: str, tmp_path: Path) -> None:
    assert told(segctl.check_data("plain", data_root=tmp_path), "left-right") == [
        ("", "", "'left_wing' and 'right_wing' (classes 1 and 2) change places in a mirrored image")
    ]
    assert told(segctl.check_data("sides", data_root=tmp_path), "flip-pair") == [
        ("", "", "(3, 9) names class 9, but classes are 0 to 3"),
        ("", "", "(0, 3) names 'tail', which another pair names, too"),
    ]


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


# ---- processes


def test_a_worker_that_is_killed_is_told_with_the_place(toys: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A worker process was killed.* train-0 and train-4 of train"):
        segctl.check_data("hungry", data_root=tmp_path, workers=2)


@pytest.fixture
def under_way(toys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A check that takes its time, once both of its workers are at it."""
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("TOY_MARK", str(marks))
    command = [SEGCTL, "data", "check", "slow", "--data-root", str(tmp_path), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(marks.iterdir())) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def left_of(workers: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    return psutil.wait_procs(workers, timeout=seconds)[1]


def test_ctrl_c_leaves_nothing_behind(under_way: subprocess.Popen[str]) -> None:
    workers = psutil.Process(under_way.pid).children()
    assert len(workers) == 2

    os.killpg(under_way.pid, signal.SIGINT)

    _, said = under_way.communicate(timeout=20)
    assert under_way.returncode == 130
    assert "Traceback" not in said
    assert left_of(workers, 5) == []


def test_workers_end_with_a_check_that_is_killed(under_way: subprocess.Popen[str]) -> None:
    workers = psutil.Process(under_way.pid).children()

    under_way.kill()
    under_way.communicate(timeout=20)

    assert left_of(workers, 10) == []


@pytest.mark.slow
def test_memory_is_bounded_and_time_is_short(toys: str, tmp_path: Path) -> None:
    """What is kept of a sample is its name and digests: some hundred bytes."""
    code = (
        "import sys; import segctl; from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage; "
        "segctl.check_data('plain', data_root='.', workers=2, splits=['train'], options={'many': int(sys.argv[1])}); "
        "print(getrusage(RUSAGE_SELF).ru_maxrss, getrusage(RUSAGE_CHILDREN).ru_maxrss)"
    )

    def peak(samples: int) -> tuple[int, int]:
        done = subprocess.run(
            [sys.executable, "-c", code, str(samples)], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        own, children = done.stdout.split()
        return int(own), int(children)

    (few, few_in_workers), began = peak(1000), time.monotonic()
    many, many_in_workers = peak(31_000)

    assert time.monotonic() - began < 60
    assert many - few < 30_000  # KiB for 30,000 samples
    assert many_in_workers - few_in_workers < 20_000


def test_a_report_is_frozen(clean: Path) -> None:
    report = segctl.check_data("camvid", data_root=clean, splits=["val"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.dataset = "other"  # type: ignore[misc]
