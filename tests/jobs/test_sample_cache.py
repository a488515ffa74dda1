"""The cache of decoded samples: the same bits, made once, never half, and anew when the data change."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segctl.config.load import resolve
from segctl.config.schema import Config
from segctl.errors import ConfigError, DataError, DiskFullError
from segctl_jobs.build import open_split
from segctl_jobs.data import StepSampler, TrainingSamples, training_batches
from segctl_jobs.distributed import World
from segctl_jobs.sample_cache import CachedSamples, cached, refuse_uncachable

ALONE = World(0, 1, 0, 1, torch.device("cpu"))
SAMPLES = 12

# Opens the cache of sys.argv[1] in sys.argv[2] and says so; a builder takes sys.argv[3] seconds for a sample.
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[4])
import test_sample_cache as here
from segctl_datasets.pairs import PairDataset
read = PairDataset.__getitem__
def slowly(self, index):
    print("reads", flush=True)
    time.sleep(float(sys.argv[3]))
    return read(self, index)
PairDataset.__getitem__ = slowly
here.opened(here.configuration(sys.argv[1], sys.argv[2]))
print("done", flush=True)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder data set of pictures of different sizes."""
    generator = np.random.default_rng(0)
    for number in range(SAMPLES):
        size = (20 + number, 30)
        for folder, pixels in (("images", (*size, 3)), ("masks", size)):
            (tmp_path / "my" / folder).mkdir(parents=True, exist_ok=True)
            values = generator.integers(0, 256 if folder == "images" else 3, pixels, dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "my" / folder / f"{number:02}.png")
    (tmp_path / "my" / "train.txt").write_text("".join(f"{number:02}\n" for number in range(SAMPLES)))
    (tmp_path / "my" / "val.txt").write_text("00\n")
    return tmp_path / "my"


def configuration(data: Path | str, cache: Path | str, dataset: str = "folder") -> Config:
    names = {"model.name": "enet", "dataset.name": dataset, "data_root": str(data)}
    return resolve(None, names, [f"data.cache={cache}", "augment.crop=16"])


def opened(config: Config) -> CachedSamples:
    dataset, info = open_split(config, None, training=True)
    samples = cached(dataset, info, config, "train", ALONE)
    assert isinstance(samples, CachedSamples)
    return samples


def process(data: Path, cache: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(data), str(cache), str(seconds), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.samples"))


def test_samples_are_those_of_the_files(data: Path, tmp_path: Path) -> None:
    samples = opened(configuration(data, tmp_path / "cache"))
    assert len(samples) == SAMPLES
    for number in range(SAMPLES):
        image, mask = samples[number]
        assert samples.name(number) == f"{number:02}"
        assert np.array_equal(image, np.array(Image.open(data / "images" / f"{number:02}.png")))
        assert np.array_equal(mask, np.array(Image.open(data / "masks" / f"{number:02}.png")))
        assert np.array_equal(samples.mask(number), mask)
    image[...] = 0  # whoever writes into a sample spoils nobody else's
    assert opened(configuration(data, tmp_path / "cache"))[SAMPLES - 1][0].any()


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_batches_are_the_same_with_and_without_it(data: Path, tmp_path: Path, workers: int) -> None:
    config = configuration(data, tmp_path / "cache")
    dataset, info = open_split(config, None, training=True)
    batches = [
        list(
            training_batches(
                TrainingSamples(source, info, 0, config.augment, config.input),
                StepSampler(SAMPLES, 4, 0, start=0, total=4),
                ALONE,
                workers,
            )
        )
        for source in (dataset, opened(config))
    ]
    for direct, out_of_it in zip(*batches, strict=True):
        assert direct.names == out_of_it.names
        assert torch.equal(direct.images, out_of_it.images)
        assert torch.equal(direct.masks, out_of_it.masks)


def test_it_can_be_sent_to_a_worker(data: Path, tmp_path: Path) -> None:
    samples = opened(configuration(data, tmp_path / "cache"))
    sent = pickle.dumps(samples)
    assert len(sent) < 10_000
    assert np.array_equal(pickle.loads(sent)[3][0], samples[3][0])
    caches(tmp_path / "cache")[0].unlink()
    with pytest.raises(DataError, match="is gone"):
        pickle.loads(sent)


def test_it_is_made_once_and_anew_when_a_file_changes(data: Path, tmp_path: Path) -> None:
    config = configuration(data, tmp_path / "cache")
    before = opened(config)
    (file,) = caches(tmp_path / "cache")
    made = file.stat().st_mtime_ns
    opened(config)
    assert file.stat().st_mtime_ns == made
    for folder, value in (("images", 9), ("masks", 1)):
        path = data / folder / "03.png"
        picture = Image.open(path)
        Image.new(picture.mode, picture.size, (value,) * len(picture.getbands())).save(path)
        opened_again = opened(config)
        assert (opened_again[3][0 if folder == "images" else 1] == value).all()
    assert caches(tmp_path / "cache") == [file]
    assert not (before[3][1] == 1).all(), "a run that goes on keeps what it began with"


def test_torn_and_foreign_files_are_made_anew(data: Path, tmp_path: Path) -> None:
    config = configuration(data, tmp_path / "cache")
    opened(config)
    (file,) = caches(tmp_path / "cache")
    whole = file.read_bytes()
    for torn in (b"", whole[:10], whole[:-1], whole[: len(whole) // 2], b"x" + whole[1:], whole + b"x"):
        file.write_bytes(torn)
        assert len(opened(config)) == SAMPLES
        assert file.read_bytes() == whole


def test_two_builders_make_one(data: Path, tmp_path: Path) -> None:
    both = [process(data, tmp_path / "cache", 0.02) for _ in range(2)]
    outputs = [builder.communicate(timeout=120)[0] for builder in both]
    assert all(output.endswith("done\n") for output in outputs)
    # Sixteen samples at most are read to tell the size, then each is read once.
    assert sorted(output.count("reads") for output in outputs) == [0, 2 * SAMPLES]
    assert len(caches(tmp_path / "cache")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("reads", [1, SAMPLES + 1, 2 * SAMPLES - 1, 2 * SAMPLES])
def test_a_killed_builder_leaves_nothing_that_looks_finished(data: Path, tmp_path: Path, reads: int) -> None:
    builder = process(data, tmp_path / "cache", 0.02)
    assert builder.stdout is not None
    for _ in range(reads):
        assert builder.stdout.readline() == "reads\n"
    waiting = process(data, tmp_path / "cache", 0)
    time.sleep(0.01)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert waiting.communicate(timeout=120)[0].endswith("done\n")
    samples = opened(configuration(data, tmp_path / "cache"))
    assert np.array_equal(samples[7][0], np.array(Image.open(data / "images" / "07.png")))
    assert not list((tmp_path / "cache").glob(".tmp-*"))


def test_a_full_disk_is_refused_before_and_during(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration(data, tmp_path / "cache")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match=r"GiB are needed in .*cache, 0\.0 GiB are free"):
        opened(config)
    monkeypatch.undo()

    def fsync(descriptor: int) -> None:  # where a quota speaks up at last
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFullError, match=r"cannot take all of the .* GiB: Disk quota exceeded"):
        opened(config)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_folders_that_cannot_be_used_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    assert len(opened(configuration(data, "$NODE_DISK/cache"))) == SAMPLES
    assert caches(tmp_path / "disk" / "cache")
    with pytest.raises(ConfigError, match=r"\$NOT_SET/cache names a variable that is not set"):
        opened(configuration(data, "$NOT_SET/cache"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/cache cannot be made: Not a directory"):
        opened(configuration(data, tmp_path / "file" / "cache"))


def test_data_that_are_made_on_the_fly_are_refused(tmp_path: Path) -> None:
    config = configuration(tmp_path, tmp_path / "cache", "shapes")
    dataset, _ = open_split(config, None, training=True)
    with pytest.raises(ConfigError, match=r"data\.cache: the data set shapes does not say which files it reads"):
        refuse_uncachable(config, dataset)
    assert not (tmp_path / "cache").exists()


def test_faulty_samples_are_named(data: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((27, 30), 9, np.uint8)).save(data / "masks" / "07.png")
    (data / "classes.yaml").write_text("names: [a, b, c]\n")
    with pytest.raises(DataError, match=r"07\.png holds the value 9"):
        opened(configuration(data, tmp_path / "cache"))
    assert not caches(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(".tmp-*"))
