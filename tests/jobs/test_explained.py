"""What a job says when a GPU's memory or a disk is full; expected numbers by hand."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from segctl.config.load import resolve
from segctl.config.schema import Config
from segctl.errors import DataError, DeviceMemoryError, DiskFullError
from segctl.runs import error_record
from segctl.runs.fault import of_error
from segctl.runs.files import read_json
from segctl.runs.run import Run
from segctl_jobs.checkpoint import CheckpointWriter
from segctl_jobs.failures import explained, next_accumulate, parts_of_a_step

OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 39.50 GiB of which 1.20 GiB is free."
    " Process 42 has 38.29 GiB memory in use."
)


def config(*settings: str) -> Config:
    return resolve(None, {"model.name": "enet", "dataset.name": "shapes"}, settings)


@pytest.mark.parametrize(
    ("batch", "accumulate", "world", "at_once", "better"),
    [
        (16, 1, 1, 16, 2),
        (16, 2, 1, 8, 4),  # 3 does not divide 16
        (16, 1, 2, 8, 2),
        (12, 1, 2, 6, 2),
        (12, 2, 2, 3, 3),
        (18, 1, 2, 9, 3),
        (14, 1, 2, 7, 7),  # a share of seven divides only by seven
        (7, 1, 2, 4, 2),  # shares of 3 and 4: none divides, but two parts are smaller
        (16, 16, 1, 1, None),
        (8, 1, 8, 1, None),
        (9, 1, 8, 2, None),  # one process has two samples, the others have nothing to divide
        (16, 100, 2, 1, None),  # never more parts than samples
    ],
)
def test_the_next_accumulation_that_helps(
    batch: int, accumulate: int, world: int, at_once: int, better: int | None
) -> None:
    assert parts_of_a_step(batch, accumulate, world)[0] == at_once
    assert next_accumulate(batch, accumulate, world) == better


def test_a_full_gpu_says_what_did_not_fit_and_keeps_the_global_batch(tmp_path: Path) -> None:
    given = config("train.batch_size=16", "augment.crop=[512, 1024]")
    found = explained(OUT_OF_MEMORY, Run(tmp_path), given, 4, training=True)
    assert isinstance(found, DeviceMemoryError)
    assert found.message == (
        "The memory of the GPU (39.50 GiB) does not suffice for 4 images of 512x1024 at a time "
        "(train.batch_size 16, 4 processes, train.accumulate 1)."
    )
    assert f"The same batch in parts of 2: 'segctl train {tmp_path}/config.yaml --set train.accumulate=2'" in found.hint
    assert f"'segctl resume {tmp_path.name} --gpus N'" in found.hint
    assert "augment.crop" in found.hint


def test_a_single_image_that_does_not_fit_has_other_ways_out(tmp_path: Path) -> None:
    found = explained(OUT_OF_MEMORY, Run(tmp_path), config("train.batch_size=1"), 1, training=True)
    assert isinstance(found, DeviceMemoryError)
    assert "1 image of 480x480 at a time" in found.message
    assert "augment.crop" in found.hint
    assert "train.accumulate" not in found.hint


def test_an_evaluation_is_told_of_its_own_settings(tmp_path: Path) -> None:
    found = explained(OUT_OF_MEMORY, Run(tmp_path), config("eval.max_pixels=1000"), 1, training=False)
    assert isinstance(found, DeviceMemoryError)
    assert "eval.max_pixels (it is 1000)" in found.hint


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def full(number: int, file: str | None) -> Exception:
        error = OSError(number, os.strerror(number), *([file] if file else []))
        return explained(error, run, config(), 1, training=True)

    for file in (None, f"{tmp_path}/status.json"):
        found = full(errno.ENOSPC, file)
        assert isinstance(found, DiskFullError)
        assert found.message == f"The disk of the run is full: {tmp_path}."
        assert f"'segctl resume {run.id}'" in found.hint
    assert str(full(errno.ENOSPC, "/scratch/x")).startswith("The disk of /scratch/x is full.")
    assert str(full(errno.EDQUOT, None)).startswith(f"Your quota on the disk of the run is used up: {tmp_path}.")


def test_everything_else_stays_what_it_is(tmp_path: Path) -> None:
    for error in (ValueError("no"), DataError("no"), OSError(errno.EACCES, "no"), RuntimeError("memory of a CUDA")):
        assert explained(error, Run(tmp_path), config(), 1, training=True) is error


def test_a_checkpoint_that_found_no_room_is_a_full_disk_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", no_room)
    writer = CheckpointWriter(tmp_path)
    writer.save({"step": 1})
    with pytest.raises(Exception, match="could not be written") as caught:
        writer.wait()
    error_record.write(Run(tmp_path), caught.value, rank=0)
    record = read_json(tmp_path / "errors" / "rank0.json")
    assert record is not None
    assert (record["type"], record["errno"], of_error(record)) == ("CheckpointError", errno.ENOSPC, "disk")
