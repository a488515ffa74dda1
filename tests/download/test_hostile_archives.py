"""Hostile, damaged and wrong archives are refused with a reason, and leave nothing."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import Unpack, member, noise, tar, tar_of, tarred, visible, zipped

from segctl.download.members import Bounds, UnsafeError, clean_name, folded, refuse_link
from segctl.errors import DownloadError

BOMB = 70_000_000  # bytes, of zeros; more than is let out of any small archive


def zip_with(*members: tuple[str, bytes], mode: int = 0, flags: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            file.writestr(info, content)
    content = buffer.getvalue()
    if flags:  # the bit of an encrypted member, where the central directory has it
        at = content.index(b"PK\x01\x02") + 8
        content = content[:at] + bytes([flags]) + content[at + 1 :]
    return content


HOSTILE: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "tar: up": (tar((member("toy/../../evil"), b"x")), "out of its folder"),
    "tar: absolute": (tar((member("/tmp/segctl-evil"), b"x")), "absolute"),
    "tar: symbolic link out": (tar(member("toy/link", tarfile.SYMTYPE, "../../outside")), "a link to"),
    "tar: absolute link": (tar(member("link", tarfile.SYMTYPE, "/etc/passwd")), "a link to '/etc/passwd'"),
    "tar: out by way of a link": (
        tar(member("here", tarfile.SYMTYPE, "."), member("out", tarfile.SYMTYPE, "here/../outside")),
        "a link to 'here/../outside'",
    ),
    "tar: through a link": (
        tar(member("sub", tarfile.DIRTYPE), member("link", tarfile.SYMTYPE, "sub"), (member("link/evil"), b"x")),
        "through a link",
    ),
    "tar: hard link out": (tar(member("link", tarfile.LNKTYPE, "../../secret")), "hard link"),
    "tar: hard link to nothing": (tar(member("link", tarfile.LNKTYPE, "/etc/passwd")), "hard link to '/etc/passwd'"),
    "tar: device": (tar(member("toy/null", tarfile.CHRTYPE)), "a device or a pipe"),
    "tar: pipe": (tar(member("toy/pipe", tarfile.FIFOTYPE)), "a device or a pipe"),
    "tar: bomb": (lambda: tar((member("toy/zeros"), bytes(BOMB))), "an archive of its size may hold"),
    "tar: as done": (tar((member(".download/0123456789ab.json"), b"{}")), "keeps account"),
    "tar: as done, in capitals": (tar((member("toy/.DownLoad/x.ready/evil"), b"x")), "keeps account"),
    "tar: as fetched": (tar((member(".archives/0123456789ab/toy.zip"), b"x")), "keeps account"),
    "tar: link to what is done": (tar(member("toy", tarfile.SYMTYPE, ".download")), "a link to '.download'"),
    "tar: as a link that is done": (tar(member(".download", tarfile.SYMTYPE, "toy")), "keeps account"),
    "tar: long name": (tar((member("toy/" + "n" * 256), b"x")), "a name of more than 255 bytes"),
    "zip: as done": (zip_with(("a", b"1"), ("./.download/0123456789ab.json", b"{}")), "keeps account"),
    "tar: two contents": (tar((member("a"), b"1"), (member("a"), b"2")), "'a' twice"),
    "tar: a file as a folder": (tar((member("a"), b"1"), (member("a/b"), b"2")), "as a file and as a folder"),
    "zip: up": (zip_with(("../evil", b"x")), "out of its folder"),
    "zip: absolute": (zip_with(("/tmp/segctl-evil", b"x")), "absolute"),
    "zip: drive": (zip_with(("C:/evil", b"x")), "absolute"),
    "zip: link out": (zip_with(("link", b"../../outside"), mode=stat.S_IFLNK | 0o777), "a link to"),
    "zip: device": (zip_with(("null", b""), mode=stat.S_IFCHR | 0o666), "a device or a pipe"),
    "zip: bomb": (lambda: zipped({"zeros": bytes(BOMB)}), "an archive of its size may hold"),
    "zip: two contents": (lambda: zip_with(("a", b"1"), ("a", b"2")), "'a' twice"),
    "zip: encrypted": (zip_with(("a", b"1"), flags=1), "encrypted"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path: Path, root: Path, run: Unpack, what: str) -> None:
    content, reason = HOSTILE[what]
    before = set(tmp_path.rglob("*"))

    with pytest.raises(DownloadError, match="is not unpacked: it holds") as refused:
        run(content if isinstance(content, bytes) else content())

    assert reason in refused.value.message
    assert set(tmp_path.rglob("*")) - before <= {root.parent, root, root / ".download", tmp_path / "toy.archive"}
    assert not Path("/tmp/segctl-evil").exists()


def test_too_many_members_are_refused(run: Unpack) -> None:
    many = {f"{number}": b"" for number in range(11)}
    bounds = Bounds(members=10)

    with pytest.raises(DownloadError, match="more than 10"):
        run(tar_of(many), bounds=bounds)
    with pytest.raises(DownloadError, match="11 members, which is more than 10"):
        run(zipped(many), bounds=bounds)


def test_a_zip_that_lies_about_a_size_is_damaged(run: Unpack, root: Path) -> None:
    content = zipped({"toy/photo": noise(1000)})
    at = content.index(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    with pytest.raises(DownloadError, match="is damaged"):
        run(content[:at] + (500).to_bytes(4, "little") + content[at + 4 :])
    assert visible(root) == []


@pytest.mark.parametrize("mode", ["w:", "w:gz", "zip"])
def test_a_damaged_archive_leaves_nothing(run: Unpack, root: Path, mode: str) -> None:
    files = {"a/1": noise(50_000), "a/2": noise(50_000)}
    content = zipped(files) if mode == "zip" else tar_of(files, mode)

    with pytest.raises(DownloadError, match="is damaged"):
        run(content[:60_000])
    assert visible(root) == []


def test_what_is_no_archive_is_told(run: Unpack) -> None:
    with pytest.raises(DownloadError, match="is damaged, or no archive"):
        run(b"<html>Not found</html>" * 100)


def with_size(field: bytes) -> bytes:
    """A tar whose member has this in the place of its size."""
    content = bytearray(tar_of({"a": b""}, "w:"))
    content[124:136], content[148:156] = field, b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def pax(headers: dict[str, str], content: bytes = b"") -> bytes:
    info = member("a")
    info.pax_headers = headers
    return tarred([(info, content)], "w:")


MANGLED: dict[str, Callable[[], bytes]] = {
    "zip: a name that is no UTF-8": lambda: zipped({"\u00e9.png": b"x"}).replace("\u00e9".encode(), b"\xff\xfe"),
    "tar: a negative size": lambda: with_size(b"\xff" * 8 + (-1024).to_bytes(4, "big", signed=True)),
    "tar: another negative size": lambda: pax({"size": "-512"}),
    "tar: sparse, of version 1.0": lambda: pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, b"zzzz"),
    "tar: sparse, of version 0.1": lambda: pax({"GNU.sparse.map": "0,1,x,y", "GNU.sparse.size": "4000"}),
}


@pytest.mark.parametrize("what", MANGLED)
def test_what_is_mangled_is_damaged_and_leaves_nothing(run: Unpack, root: Path, what: str) -> None:
    with pytest.raises(DownloadError, match="is damaged"):
        run(MANGLED[what]())
    assert list(root.rglob("*")) == [root / ".download"]


@pytest.mark.parametrize("mode", ["w:", "w:gz", "zip"])
def test_whatever_bytes_are_changed_it_is_unpacked_or_refused(run: Unpack, root: Path, mode: str) -> None:
    draw = random.Random(mode)
    files = {"a/1": noise(700), "b/" + "n" * 120 + "\u00e9": b"", "c": bytes(2000)}
    content = zipped(files) if mode == "zip" else tar_of(files, mode)
    ends: list[bool] = []
    for number in range(100):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 1, 2, 8])):
            changed[draw.randrange(len(changed))] = draw.choice([0, 255, 0x2D, draw.randrange(256)])
        if draw.random() < 0.2:
            del changed[draw.randrange(len(changed)) :]
        try:
            run(bytes(changed), key=f"k{number}")
            ends.append(True)
        except DownloadError:
            ends.append(False)
        assert not list(root.glob(".download/*.*ing")) + list(root.glob(".download/*.ready"))
    assert 5 < sum(ends) < 95  # both were seen


def test_an_archive_without_what_the_data_set_needs_is_refused(run: Unpack, root: Path) -> None:
    content = zipped({"set/images/1": b"1", "set/other/1": b"1"})

    with pytest.raises(DownloadError, match="is not unpacked: it holds no masks, which the data set needs of it"):
        run(content, folder="set", provides=["set/set/images", "set/masks"])

    assert list(root.rglob("*")) == [root / ".download"]
    assert run(content, provides=["set/images"]).files == 2


@pytest.mark.parametrize("name", ["a/b", "./a//b/", "a/./b"])
def test_names_that_stay_inside(name: str) -> None:
    assert clean_name(name) == ("a", "b")


@pytest.mark.parametrize("name", ["..", "a/..", "../a", "/a", "a\0b", "c:/a", "x" * 5000])
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(UnsafeError):
        clean_name(name)


@pytest.mark.parametrize(
    ("link", "target", "inside"),
    [
        ("a", "b", True),
        ("a", "b/c", True),
        ("x/a", "../b", True),
        ("x/y/a", "../../b", True),
        ("a", "../b", False),
        ("x/a", "../../b", False),
        ("x/a", "b/../../../c", False),
        ("x/y/a", "b/../c", False),  # where b is itself a link, this leads elsewhere than it seems
        ("a", "/b", False),
        ("a", "", False),
    ],
)
def test_links(link: str, target: str, inside: bool) -> None:
    parts = tuple(link.split("/"))
    if inside:
        refuse_link(parts, target)
    else:
        with pytest.raises(UnsafeError):
            refuse_link(parts, target)


def test_names_that_some_file_systems_take_for_one() -> None:
    assert folded(("A", "b.PNG"), case_matters=False) == folded(("a", "B.png"), case_matters=False)
    assert folded(("e\u0301",), case_matters=False) == folded(("\u00e9",), case_matters=False)
    assert folded(("A",), case_matters=True) != folded(("a",), case_matters=True)
