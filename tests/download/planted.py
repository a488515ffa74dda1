"""Archives to serve and to unpack, and data sets, installed as a distribution, that are published as such archives."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import segctl
from segctl.download import Downloaded
from segctl.download.unpack import Unpacked
from segctl.plugin import Archive

Install = Callable[..., str]  # the fixture `published`
Unpack = Callable[..., Unpacked]  # the fixture `run`

_NUMBERS = itertools.count()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no compression makes fewer."""
    return random.Random(seed).randbytes(size)


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(members: Sequence[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(files: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    return tarred([(tarfile.TarInfo(name), content) for name, content in files.items()], mode)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    return tarred([each if isinstance(each, tuple) else (each, b"") for each in members])


def facts(url: str, content: bytes, **more: object) -> Archive:
    """What an honest author publishes of an archive."""
    return Archive(url=url, size=len(content), sha256=hashlib.sha256(content).hexdigest(), **more)  # type: ignore[arg-type]


def plant(
    folder: Path, datasets: Mapping[str, Sequence[Archive]], *, layout: Sequence[str] = (), more: str = ""
) -> str:
    """Makes a folder that, on the import path, has data sets installed. Returns the folder.

    Args:
        folder: Where.
        datasets: Their names, and what they are published as.
        layout: Of all of them.
        more: Further lines of their classes.
    """
    module = f"planted_{next(_NUMBERS)}"
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}:{name.title()}\n" for name in datasets)
    (metadata / "entry_points.txt").write_text(f"[segctl.datasets]\n{points}")
    classes = [
        f"class {name.title()}:\n    classes = ('thing',)\n    layout = {tuple(layout)!r}\n"
        f"    archives = {tuple(archives)!r}\n{more}\n"
        for name, archives in datasets.items()
    ]
    (folder / f"{module}.py").write_text("\n".join(["from segctl.plugin import Archive\n", *classes]))
    return str(folder)


PHOTO = noise(600_000)
ZIP = zipped({"toy/photo.jpg": PHOTO, "toy/list.txt": b"photo\n"})
OTHER = zipped({"toy/photo.jpg": noise(600_000, seed=2), "toy/list.txt": b"photo\n"})


def fetch(data: Path, **how: object) -> Downloaded:
    """Downloads `toy`."""
    (result,) = segctl.download("toy", data_root=data, **how)  # type: ignore[arg-type]
    return result


def is_whole(data: Path) -> bool:
    return (data / "toy/toy/photo.jpg").read_bytes() == PHOTO


def visible(root: Path) -> list[str]:
    """All below the root, but for what segctl keeps there for itself."""
    found = (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")))
    return [path for path in found if not path.startswith(".download")]
