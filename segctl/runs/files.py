"""Files that may be cut off at any byte and read while written: they are replaced atomically, or get whole lines."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path`, which is flushed to disk and renamed over it if the block ends well.

    A reader sees the old content or the new, never a part; an interrupted writer leaves at most a hidden ``.tmp-*``
    file.

    Raises:
        OSError: The folder cannot be written or the disk is full; `path` is then unchanged.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".tmp-{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, path)
        sync(path.parent)  # before anything that the rename replaces is removed
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Makes what a file or a folder holds survive a power failure, where there is one and its file system can do so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def current_umask() -> int:
    # The process's umask can only be read by setting it, which other threads would see; Linux also shows it in /proc.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def write_text(path: Path, text: str) -> None:
    with replacing(path, "w") as file:
        file.write(text)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The object in `path`, or None where there is no such file or it holds no JSON object."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def cache_folder() -> Path:
    """Where segctl keeps what it can compute anew: ``$XDG_CACHE_HOME/segctl``, by default ``~/.cache/segctl``."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not folder.is_absolute():  # a container's user may have no home
        folder = Path(tempfile.gettempdir())
    return folder / "segctl"


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Appends one line in a single write. A torn line of a killed writer is closed off first: it spoils only itself."""
    line = json.dumps(value, allow_nan=False).encode() + b"\n"
    with path.open("ab") as file:
        if file.tell() > 0 and _last_byte(path) != b"\n":
            line = b"\n" + line
        file.write(line)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a file of JSON lines; torn lines are left out. Empty where there is no such file."""
    try:
        content = path.read_text(errors="replace")
    except OSError:
        return []
    records = []
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
