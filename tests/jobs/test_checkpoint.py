"""Checkpoints survive what happens to files: cut off, flipped bits, full disks, kills between two renames."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from segctl.errors import CheckpointError
from segctl_jobs import checkpoint


def state(step: int, **more: object) -> dict[str, object]:
    weights = {"weight": torch.full((50, 50), float(step)), "bias": torch.arange(8.0)}
    return {"step": step, "best_step": None, "model": weights, "ema": None, **more}


def write(folder: Path, *steps: int, best: int | None = None, keep: dict[int, str] | None = None) -> None:
    writer = checkpoint.CheckpointWriter(folder)
    for step in steps:
        writer.save(state(step), best=step == best, keep_as=(keep or {}).get(step))
    writer.wait()


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    write(tmp_path, 7)
    read = checkpoint.newest(tmp_path)
    assert read is not None
    assert read["step"] == 7
    assert torch.equal(read["model"]["weight"], torch.full((50, 50), 7.0))


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "absent") is None


def test_newest_two_best_and_periodic_ones_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4, 5, best=2, keep={3: "epoch-0001.pt"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.pt",
        "epoch-0001.pt",
        "step-00000004.pt",
        "step-00000005.pt",
    ]
    assert checkpoint.read(tmp_path / "best.pt")["step"] == 2
    assert checkpoint.read(tmp_path / "epoch-0001.pt")["step"] == 3


def test_a_cut_file_is_passed_over_at_any_length(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002.pt"
    content = newest.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        newest.write_bytes(content[:length])
        read = checkpoint.newest(tmp_path)
        assert read is not None
        assert read["step"] == 1, f"cut to {length} bytes"


def test_flipped_bits_in_the_weights_are_found(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002.pt"
    content = bytearray(newest.read_bytes())
    place = content.find(torch.full((16,), 2.0).numpy().tobytes())
    content[place + 3] ^= 0x10
    newest.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-00000002\.pt is damaged"):
        checkpoint.read(newest)
    read = checkpoint.newest(tmp_path)
    assert read is not None
    assert read["step"] == 1


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="None of the 2 checkpoints"):
        checkpoint.newest(tmp_path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        checkpoint.read(tmp_path / "none.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this segctl"):
        checkpoint.read(tmp_path / "foreign.pt")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/segctl-was-here",)


def test_reading_runs_no_code(tmp_path: Path) -> None:
    torch.save({"format": 1, "payload": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.read(tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="is damaged: File is not a zip file"):
        checkpoint.read(tmp_path / "plain.pt")
    assert not Path("/tmp/segctl-was-here").exists()


def test_another_models_weights_are_refused_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, 1)
    weights = checkpoint.read(tmp_path / "step-00000001.pt")["model"]
    with pytest.raises(CheckpointError, match=r"are not this model's: Missing key.*running_mean"):
        checkpoint.fit(torch.nn.BatchNorm2d(8), weights, tmp_path / "step-00000001.pt")


def test_the_state_is_copied_before_save_returns(tmp_path: Path) -> None:
    weights = torch.zeros(1000)
    writer = checkpoint.CheckpointWriter(tmp_path)
    writer.save(state(1, model={"weight": weights}))
    weights.fill_(9)  # what the next optimizer step does
    writer.wait()
    assert torch.equal(checkpoint.read(tmp_path / "step-00000001.pt")["model"]["weight"], torch.zeros(1000))


def test_a_view_does_not_drag_its_storage_along(tmp_path: Path) -> None:
    writer = checkpoint.CheckpointWriter(tmp_path)
    writer.save(state(1, model={"weight": torch.zeros(1_000_000)[:4]}))
    writer.wait()
    assert (tmp_path / "step-00000001.pt").stat().st_size < 10_000


@pytest.mark.parametrize("kib", [4, 8, 16])
def test_a_full_disk_is_said_in_the_systems_words_and_the_old_checkpoint_stays(kib: int, tmp_path: Path) -> None:
    """Wherever in the file the room ends: torch reports that in words about its own zip file."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with little_room(folder, kib) as reason:
        writer = checkpoint.CheckpointWriter(folder)
        writer.save({"step": 1})
        writer.save(state(2, more=[torch.zeros(500)] * 20))
        with pytest.raises(CheckpointError) as told:
            writer.wait()
        assert [path.name for path in folder.iterdir()] == ["step-00000001.pt"]
    assert told.value.message == f"The checkpoint could not be written to {folder}: {reason}."


@contextmanager
def little_room(folder: Path, kib: int) -> Iterator[str]:
    """A small disk, or where none can be mounted files that cannot grow far; gives the system's words for it."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield os.strerror(errno.ENOSPC)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, hard))
    try:
        yield os.strerror(errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)


def test_best_is_mended_after_a_kill_between_writing_and_naming(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, best=1)
    checkpoint.relink_best(tmp_path, {"step": 2, "best_step": 1})
    assert checkpoint.read(tmp_path / "best.pt")["step"] == 1
    checkpoint.relink_best(tmp_path, {"step": 2, "best_step": 2})
    assert checkpoint.read(tmp_path / "best.pt")["step"] == 2


WRITER = """
import sys, torch
from pathlib import Path
from segctl_jobs import checkpoint
writer = checkpoint.CheckpointWriter(Path(sys.argv[1]))
for step in range(1, 100000):
    weights = {"weight": torch.full((3_000_000,), float(step))}
    writer.save({"step": step, "best_step": step, "model": weights, "ema": None}, best=step % 3 == 0)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while int(process.stdout.readline()) < 3:
            pass
        time.sleep(0.013 * attempt)
        process.kill()
        process.wait()
        read = checkpoint.newest(folder)
        assert read is not None
        assert read["step"] >= 2
        assert (read["model"]["weight"] == read["step"]).all()
        for path in [folder / "best.pt"] if (folder / "best.pt").exists() else []:
            assert checkpoint.read(path)["step"] % 3 == 0
