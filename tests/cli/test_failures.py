from __future__ import annotations

import errno
import os
import subprocess

import pytest
from programs import SEGCTL

from segctl import __version__
from segctl.cli.failures import guarded
from segctl.errors import DataError


def _raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("There is no mask.", "Draw one."), 1, "error: There is no mask. Draw one.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/runs/x"), 1, "error: '/runs/x': No space left on device."),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 1, "error: '/root/x': Permission denied."),
        (OSError(errno.EIO, "Input/output error"), 1, "error: Input/output error."),
        (MemoryError(), 1, "error: The memory of this machine is used up."),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exceptions_become_exit_codes(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: _raising(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said)
    assert len(captured.err.splitlines()) == (1 if said else 0)


@pytest.mark.parametrize("error", [ZeroDivisionError("one"), FileNotFoundError(errno.ENOENT, "No such file", "x")])
def test_what_nobody_expected_is_a_bug_with_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: _raising(error)) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert any(type(error).__name__ in line for line in lines)
    assert f"bug in segctl {__version__}" in lines[-1]
    assert "report" in lines[-1]


def test_success_is_what_the_command_says() -> None:
    assert guarded(lambda: 0) == 0


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen([SEGCTL, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)


def test_version_and_bare_call(capfd: pytest.CaptureFixture[str]) -> None:
    assert subprocess.run([SEGCTL, "--version"], check=False).returncode == 0
    assert capfd.readouterr().out == f"segctl {__version__}\n"
    bare = subprocess.run([SEGCTL], check=False, env={**os.environ, "COLUMNS": "100"})
    assert bare.returncode == 0
    assert "Usage" in capfd.readouterr().out
