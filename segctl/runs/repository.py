"""What git says of a folder, in bounded time and size. A repository that cannot be asked never stops a submission."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIFF_LIMIT = 2 * 1024 * 1024  # bytes
_STATUS_LIMIT = 1024 * 1024  # bytes: some ten thousand names
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's own name for it, before the first commit

# A repository's configuration must not start a program, nor change how a diff is written; looking must not write.
_CONFIGURATION = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "diff.autoRefreshIndex=false")
_STATUS = (
    "status",
    "--porcelain=v2",
    "--branch",
    "-z",
    "--no-ahead-behind",
    "--no-renames",
    "--untracked-files=normal",
)
_DIFF = (
    *("diff", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
# What is said of a file that was written anew with the same content, where git may not note that in its index.
_UNCHANGED = re.compile(rb"^diff --git [^\n]*\n(?=diff --git |\Z)", re.MULTILINE)
# Set inside of a git hook, where they name that repository and no other.
_OF_A_HOOK = frozenset(("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"))


@dataclass(frozen=True)
class Answer:
    """What git has said.

    Attributes:
        out: Its standard output.
        cut: There was more.
        error: Why there is no (whole) answer; empty otherwise.
    """

    out: bytes = b""
    cut: bool = False
    error: str = ""


@dataclass(frozen=True)
class Status:
    """A working tree against its commit.

    Attributes:
        commit: None before the first one.
        branch: None where none is checked out.
        dirty: Whether tracked files differ from the commit.
        untracked: Names of files and folders that git neither tracks nor ignores; a folder stands for all in it.
    """

    commit: str | None
    branch: str | None
    dirty: bool
    untracked: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """A repository at one moment.

    Attributes:
        root: Its working tree; where there is no repository, the folder that was asked about.
        status: None where git could not say.
        diff: How tracked files differ from the commit, as a patch of at most `DIFF_LIMIT` bytes.
        cut: The patch is longer than that.
        error: What git could not say and why; empty otherwise.
    """

    root: Path
    status: Status | None = None
    diff: bytes = b""
    cut: bool = False
    error: str = ""

    def as_record(self) -> dict[str, Any]:
        """The state as run.json has it, without the patch itself."""
        record: dict[str, Any] = {"root": str(self.root)}
        if self.status is not None:
            record |= {"commit": self.status.commit, "branch": self.status.branch, "dirty": self.status.dirty}
            record |= {"untracked": len(self.status.untracked)}
            if not self.error:
                record |= {"diff_sha256": hashlib.sha256(self.diff).hexdigest(), "diff_cut": self.cut}
        return {**record, "error": self.error} if self.error else record


def root_of(folder: Path) -> Path | None:
    """The working tree that `folder` lies in, or None."""
    return next((path for path in (folder, *folder.parents) if (path / ".git").exists()), None)


def look(folder: Path, deadline: float) -> State:
    """The state of the repository that `folder` lies in; changes nothing in it, not even its index.

    Args:
        folder: Absolute.
        deadline: On the monotonic clock; what is not known by then is an `error`.
    """
    root = root_of(folder)
    if root is None:
        return State(folder, error="in no git repository")
    answer = ask(root, *_STATUS, deadline=deadline, limit=_STATUS_LIMIT)
    if answer.error:
        return State(root, error=answer.error)
    status = read_status(answer.out)
    if not status.dirty:
        return State(root, status)
    patch = ask(root, *_DIFF, status.commit or _EMPTY_TREE, deadline=deadline, limit=DIFF_LIMIT)
    return State(root, status, _UNCHANGED.sub(b"", patch.out), patch.cut, patch.error)


def read_status(out: bytes) -> Status:
    """Reads what ``git status --porcelain=v2 --branch -z`` has said; a last line that is cut off does not count."""
    commit: str | None = None
    branch: str | None = None
    dirty, untracked = False, []
    for line in out.split(b"\0")[:-1]:
        text = os.fsdecode(line)
        if text.startswith("# branch.oid "):
            commit = _unless(text.removeprefix("# branch.oid "), "(initial)")
        elif text.startswith("# branch.head "):
            branch = _unless(text.removeprefix("# branch.head "), "(detached)")
        elif text.startswith("? "):
            untracked.append(text[2:])
        elif not text.startswith("#"):
            dirty = True
    return Status(commit, branch, dirty, tuple(untracked))


def _unless(text: str, nothing: str) -> str | None:
    return None if text == nothing else text


def ask(folder: Path, *arguments: str, deadline: float, limit: int) -> Answer:
    """Runs git in `folder`.

    Args:
        deadline: On the monotonic clock.
        limit: Bytes of its output that are read.
    """
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    try:
        process = subprocess.Popen(
            ["git", *_CONFIGURATION, *arguments],
            cwd=folder,
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    except OSError as error:
        errors.close()
        missing = isinstance(error, FileNotFoundError) and Path(folder).is_dir()
        return Answer(error="git is not installed" if missing else f"git cannot be started: {error}")
    try:
        out, ended = _read(process, deadline, limit)
        if not ended or len(out) > limit:
            _end(process)
            late = "" if ended else f"git {arguments[0]} took too long"
            return Answer(out[:limit], cut=len(out) > limit, error=late)
        code = process.wait(timeout=max(0.2, deadline - time.monotonic()))
        errors.seek(0)
        said = errors.read(4096).decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        _end(process)
        return Answer(error=f"git {arguments[0]} took too long")
    finally:
        errors.close()
        if process.stdout is not None:
            process.stdout.close()
    if code:
        return Answer(error=said.splitlines()[0] if said else f"git {arguments[0]} failed with exit code {code}")
    return Answer(out)


def _read(process: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[bytes, bool]:
    """What it has written so far, and whether it has closed its output or written more than `limit` bytes."""
    assert process.stdout is not None
    out = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(out) <= limit:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return bytes(out), False
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                break
            out += part
    return bytes(out), True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills git and what it has started. A process that a dead network disk holds cannot end; nobody waits for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    # GIT_OPTIONAL_LOCKS: looking at a state must not write to the user's repository.
    kept = {name: value for name, value in environ.items() if name not in _OF_A_HOOK}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
