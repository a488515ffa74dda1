"""Training samples per second on one core: ours against the usual ways, from the same files, with the same randomness.

Every method reads image and mask, scales them by 0.5 to 2, takes a random crop, mirrors every other one and blurs every
other one. The methods take turns, eight samples each, in one process with one thread, the files in the page cache. The
time is the processor's, so that other processes on the machine count little.

"reference" is what awesome-semantic-segmentation-pytorch does: Pillow decodes, flips, resizes the whole picture, pads,
crops and blurs; then float and normalise, and Cityscapes' ids become classes by a search. "torchvision v2" and
"albumentations" do the same with their own operations. "segctl, CPU" ends like these with normalised float; "segctl,
GPU" is what a data worker does when the device mirrors, blurs and normalises.

albumentations comes with ``pip install -e '.[bench]'``.

    python tests/benchmarks/input_pipeline.py [--data ../shared/data] [--rounds 200] [--only cityscapes]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from segctl.config.schema import Augment, Input
from segctl.plugin import dataset_info
from segctl_datasets.camvid import CamVid
from segctl_datasets.cityscapes import Cityscapes
from segctl_datasets.pairs import PairDataset, pairs_by_stem
from segctl_datasets.pascal_voc import PascalVOC
from segctl_jobs.data import TrainingSamples
from segctl_jobs.inference import normalize

TURN = 8  # samples
MEAN, STD = Input().mean, Input().std
Draw = Callable[[int], object]  # the number of the sample; what it returns is only looked at for its size


@dataclass(frozen=True)
class Workload:
    """A data set's real files, the height and width of the crops, and the short side at scale 1.

    The last is the reference's `base_size`: by default 520 for crops of 480, which all methods then scale to. Of
    Cityscapes that makes a large picture small before it is cropped: nearly all of it is in the crop, and there is less
    to be spared than at base 1024, which its crops of 769 are made of.
    """

    name: str
    dataset: PairDataset
    crop: tuple[int, int]
    base: int

    def files(self, number: int) -> tuple[Path, Path]:
        pair = self.dataset.pairs[number % len(self.dataset)]
        return self.dataset.root / pair.image, self.dataset.root / pair.mask

    def table(self) -> np.ndarray:
        """From a mask's stored value to its class."""
        table = np.full(256, 255, np.uint8)
        for value, index in self.dataset._table.class_of().items():
            table[value] = index
        return table

    def scale(self) -> tuple[float, float]:
        """What the files are scaled by, at least and at most."""
        short = min(Image.open(self.files(0)[0]).size)
        return self.base / 2 / short, self.base * 2 / short


def reference(work: Workload) -> Draw:
    """The reference project's training transform, written from its description."""
    base, (height, width), table = work.base, work.crop, work.table()
    ids = np.arange(34, dtype=np.int32) if isinstance(work.dataset, Cityscapes) else None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def draw(number: int) -> object:
        image_file, mask_file = work.files(number)
        image, mask = Image.open(image_file).convert("RGB"), Image.open(mask_file)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        factor = random.randint(base // 2, base * 2) / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
        missing = (0, 0, max(0, width - size[0]), max(0, height - size[1]))
        if any(missing):
            image, mask = ImageOps.expand(image, missing, fill=0), ImageOps.expand(mask, missing, fill=0)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        box = (left, top, left + width, top + height)
        image, mask = image.crop(box), mask.crop(box)
        if random.random() < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(radius=random.random()))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
        labels = np.array(mask).astype(np.int32)
        if ids is not None:  # Cityscapes: the ids are looked for among all of them, then their classes are looked up
            assert np.isin(np.unique(labels), ids).all()
            labels = table[np.digitize(labels.ravel(), ids, right=True)].reshape(labels.shape)
        return pixels.sub_(mean).div_(std), torch.from_numpy(labels.astype(np.int64))

    return draw


def torchvision_v2(work: Workload) -> Draw:
    from torchvision import tv_tensors
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    base, table = work.base, torch.from_numpy(work.table())
    change = v2.Compose(
        [
            v2.RandomResize(base // 2, base * 2 + 1, antialias=True),
            v2.RandomCrop(work.crop, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255}),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))]),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def draw(number: int) -> object:
        image_file, mask_file = work.files(number)
        image = tv_tensors.Image(decode_image(str(image_file), ImageReadMode.RGB))
        # torchvision turns palette masks into colours.
        mask = tv_tensors.Mask(torch.from_numpy(np.array(Image.open(mask_file)))[None])
        image, mask = change(image, mask)
        return image, table[mask[0].long()].long()

    return draw


def albumentations(work: Workload) -> Draw:
    import albumentations
    import cv2

    cv2.setNumThreads(1)
    height, width = work.crop
    table, (least, most) = work.table(), work.scale()
    change = albumentations.Compose(
        [
            albumentations.RandomScale((least - 1, most - 1), p=1),
            albumentations.PadIfNeeded(height, width, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=255),
            albumentations.RandomCrop(height, width),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.GaussianBlur(blur_limit=5, sigma_limit=(0.1, 2.0), p=0.5),
            albumentations.Normalize(MEAN, STD),
            albumentations.ToTensorV2(),
        ]
    )

    def draw(number: int) -> object:
        image_file, mask_file = work.files(number)
        image = cv2.cvtColor(cv2.imread(str(image_file)), cv2.COLOR_BGR2RGB)
        # OpenCV turns palette masks into colours.
        changed = change(image=image, mask=np.array(Image.open(mask_file)))
        return changed["image"], torch.from_numpy(table[changed["mask"].numpy()].astype(np.int64))

    return draw


def ours(work: Workload, *, on_gpu: bool) -> Draw:
    info = dataset_info(work.dataset)
    # The others take every crop.
    settings = Augment(crop=work.crop, scale=work.scale(), blur=0.5, max_class_share=1)
    samples = TrainingSamples(work.dataset, info, 0, settings, Input(), finished=not on_gpu)

    def draw(number: int) -> object:
        pixels, labels, *_ = samples[(number, number % len(work.dataset))]
        if on_gpu:
            return pixels, labels
        return normalize(pixels.permute(2, 0, 1), Input()), labels.long()

    return draw


METHODS: dict[str, Callable[[Workload], Draw]] = {
    "reference": reference,
    "torchvision v2": torchvision_v2,
    "albumentations": albumentations,
    "segctl, CPU": partial(ours, on_gpu=False),
    "segctl, GPU": partial(ours, on_gpu=True),
}


def workloads(data: Path, only: str) -> list[Workload]:
    samples = data / "samples"
    voc = PascalVOC(samples, "train")
    more = "labelme_voc_format"  # three more photographs of VOC, whose masks are stored as VOC's are
    voc.pairs += tuple(pairs_by_stem(samples, f"{more}/JPEGImages", ".jpg", f"{more}/SegmentationClass", ".png"))
    camvid = CamVid(data / "camvid", "train")
    camvid.pairs = camvid.pairs[::37]
    cityscapes = Cityscapes(samples / "cityscapes", "train")
    all_of_them = [
        Workload("VOC 500x375 JPEG, crop 480", voc, (480, 480), 520),
        Workload("CamVid 480x360 PNG, crop 480", camvid, (480, 480), 520),
        Workload("Cityscapes 2048x1024 PNG, base 520, crop 480", cityscapes, (480, 480), 520),
        Workload("Cityscapes 2048x1024 PNG, crop 769", cityscapes, (769, 769), 1024),
        Workload("Cityscapes 2048x1024 PNG, crop 512x1024", cityscapes, (512, 1024), 1024),
    ]
    return [work for work in all_of_them if only.lower() in work.name.lower()]


def measure(work: Workload, rounds: int) -> dict[str, list[float] | str]:
    """Seconds for each sample of each method, or why it cannot be had."""
    random.seed(0)
    torch.manual_seed(0)
    draws: dict[str, Draw] = {}
    seconds: dict[str, list[float] | str] = {}
    for name, make in METHODS.items():
        try:
            draws[name] = make(work)
            draws[name](0)
            seconds[name] = []
        except ImportError as error:
            seconds[name] = f"not installed ({error.name})"
    for start in range(0, rounds, TURN):
        for name, draw in draws.items():
            for number in range(start, start + TURN):
                began = time.thread_time()
                draw(number)
                seconds[name].append(time.thread_time() - began)  # type: ignore[union-attr]
    return seconds


def table(seconds: dict[str, list[float] | str]) -> Iterator[str]:
    """Lines of figures; samples a second from the mean, since samples differ and all of them have to be made."""
    yield f"{'method':18}{'samples/s':>11}{'mean ms':>10}{'median ms':>11}{'min ms':>9}{'x reference':>13}"
    usual = statistics.mean(value for value in seconds["reference"] if isinstance(value, float))
    for name, values in seconds.items():
        if isinstance(values, str):
            yield f"{name:18}  {values}"
            continue
        mean, median, least = statistics.mean(values), statistics.median(values), min(values)
        yield f"{name:18}{1 / mean:11.1f}{1e3 * mean:10.2f}{1e3 * median:11.2f}{1e3 * least:9.2f}{usual / mean:13.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside, help="folder with camvid/ and samples/")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", default="", help="part of a workload's name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for work in workloads(arguments.data, arguments.only):
        print(f"\n{work.name}", *table(measure(work, arguments.rounds)), sep="\n")


if __name__ == "__main__":
    main()
