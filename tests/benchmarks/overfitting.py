"""The overfitting test: every model learns one picture by heart, through `segctl train overfit`.

    python tests/benchmarks/overfitting.py --data-root SAMPLES --runs-dir RUNS [--shrink 2] [--small] [--amp bf16]
        [MODEL ...]

SAMPLES holds ``VOCdevkit`` with one picture in its train list. The rows of the table in MODELS.md are printed as they
are done; a model that has completed in RUNS is not trained again, so what was cut off goes on. `--shrink` makes the
picture smaller (image bicubic, mask nearest), for machines without a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import segctl
from segctl.runs import metrics, store
from segctl.runs.run import Run

# What the reference project's own test reached, in 200 epochs of its FCNs, 40 of DenseASPP and 100 of the others.
REFERENCE = {
    "fcn32s": 94.0,
    "fcn16s": 99.2,
    "fcn8s": 99.8,
    "fcn": None,
    "enet": 99.9,
    "pspnet": 99.8,
    "icnet": 98.8,
    "deeplabv3": None,
    "deeplabv3_plus": None,
    "denseaspp": 100.0,
    "encnet": 99.7,
    "bisenet": 99.6,
    "danet": 99.5,
    "ocnet": 99.8,
    "dunet": 98.8,
    "psanet": None,
    "ccnet": None,
    "cgnet": None,
    "espnet": None,
    "espnetv2": None,
    "lednet": None,
    "dfanet": None,
    "hrnet": None,
    "hrnet_ocr": None,
    "unet": None,
    "upernet": None,
    "segformer": None,
    "bisenetv2": None,
    "fast_scnn": None,
    "lraspp": None,
}
# MobileNetV3's batch statistics move by a hundredth a step: they need longer to arrive. The others start from scratch,
# where the reference project's had ImageNet's weights.
STEPS = {
    "lraspp": 1500,
    "icnet": 1200,
    "fcn16s": 560,
    "fcn8s": 360,
    "denseaspp": 300,
    **dict.fromkeys(("pspnet", "ocnet"), 800),
    **dict.fromkeys(("fcn32s", "enet", "bisenet", "hrnet_ocr"), 400),
}
# Smaller backbones than the default ones, for machines without a GPU; for the VGG16 one that learns without ImageNet's
# weights.
SMALL = {
    **dict.fromkeys(("pspnet", "ocnet"), 800),
    **dict.fromkeys(("fcn32s", "fcn16s", "fcn8s"), "vgg16_bn"),
    **dict.fromkeys(("fcn", "pspnet", "deeplabv3", "deeplabv3_plus", "encnet", "dunet", "ocnet"), "resnet18"),
    **dict.fromkeys(("psanet", "ccnet", "upernet"), "resnet18"),
    "danet": "resnet34",  # its multi-grid is for a last stage of three blocks
}
LOCAL = "VOCdevkit/VOC2012"


def shrunk(data_root: Path, factor: int, to: Path) -> Path:
    """A copy of the one-picture data set with sides divided by `factor`."""
    source, target = data_root / LOCAL, to / LOCAL
    lists = Path("ImageSets/Segmentation/train.txt")
    (target / lists).parent.mkdir(parents=True)
    (target / lists).write_text((source / lists).read_text())
    for name in (source / lists).read_text().split():
        for file, method in (
            (f"JPEGImages/{name}.jpg", Image.Resampling.BICUBIC),
            (f"SegmentationClass/{name}.png", Image.Resampling.NEAREST),
        ):
            (target / file).parent.mkdir(exist_ok=True)
            with Image.open(source / file) as picture:
                small = picture.resize((picture.width // factor, picture.height // factor), method)
                small.save(target / file, **({"quality": 95} if file.endswith(".jpg") else {}))
    return to


def train(model: str, data_root: Path, runs_dir: Path, amp: str, backbone: str | None) -> None:
    command = [sys.executable, "-m", "segctl.cli", "train", "overfit", "--model", model, "--name", f"overfit-{model}"]
    options = ["--data-root", str(data_root), "--runs-dir", str(runs_dir), "--set", f"train.amp={amp}", "--json"]
    steps = ["--steps", str(STEPS[model])] if model in STEPS else []
    small = ["--model.backbone", backbone] if backbone else []
    done = subprocess.run([*command, *options, *steps, *small], capture_output=True, text=True)
    if done.returncode:
        print(f"{model}: {done.stderr.strip() or f'exit code {done.returncode}'}", file=sys.stderr, flush=True)


def completed(model: str, runs_dir: Path) -> Run | None:
    for run in store.all_runs(runs_dir):
        if run.id.partition("-")[2].partition("-")[2].startswith(f"overfit-{model}-"):
            (status,) = segctl.status([run])
            if status.state == "COMPLETED":
                return run
    return None


def row(model: str, run: Run) -> str:
    records = list(metrics.read(run))
    start = next(record for record in records if record["event"] == "start")
    evaluation = next(record for record in reversed(records) if record["event"] == "eval")
    seconds = evaluation["time"] - start["time"]
    reference = REFERENCE.get(model)
    said = f"{reference:.1f}" if reference is not None else ""
    backbone = store.record(run).get("backbone") or ""
    return (
        f"| `{model}` | {backbone} | {100 * evaluation['miou']:.1f} | {said} | {evaluation['step']} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(REFERENCE), metavar="MODEL")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="backbones that suit a machine without a GPU")
    parser.add_argument("--amp", default="off")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_root = shrunk(given.data_root, given.shrink, Path(folder)) if given.shrink > 1 else given.data_root
        print("| model | backbone | mIoU | reference project | steps | seconds |", flush=True)
        print("|---|---|---|---|---|---|", flush=True)
        for model in given.models:
            if completed(model, given.runs_dir) is None:
                backbone = SMALL.get(model) if given.small else None
                train(model, data_root.absolute(), given.runs_dir, given.amp, backbone)
            run = completed(model, given.runs_dir)
            print(row(model, run) if run is not None else f"| `{model}` | | did not complete | | | |", flush=True)


if __name__ == "__main__":
    main()
