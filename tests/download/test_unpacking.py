"""What comes out of archives: hostile ones leave nothing, interrupted ones go on, and what was there is not lost."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import noise, tar_of, tarred, zipped

from segctl.download.members import Bounds, UnsafeError, clean_name, folded, refuse_link
from segctl.download.stopping import Stop, StoppedError
from segctl.download.unpack import Unpacked, unpack
from segctl.errors import DiskFullError, DownloadError

BOMB = 80_000_000  # bytes, of zeros


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    return tarred([each if isinstance(each, tuple) else (each, b"") for each in members])


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

Run = Callable[..., Unpacked]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "toy"


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Run:
    """Unpacks bytes as an archive."""

    def unpacked(content: bytes, name: str = "toy.archive", **how: object) -> Unpacked:
        archive = tmp_path / name
        archive.write_bytes(content)
        given = {"key": name, "digest": "d" * 12, "report": lambda done, total: None, "stop": Stop(), **how}
        return unpack(archive, root, **given)  # type: ignore[arg-type]

    return unpacked


def visible(root: Path) -> list[str]:
    """All below the root, but for what segctl keeps there for itself."""
    found = (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")))
    return [path for path in found if not path.startswith(".download")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path: Path, root: Path, run: Run, what: str) -> None:
    content, reason = HOSTILE[what]
    before = set(tmp_path.rglob("*"))

    with pytest.raises(DownloadError, match="is not unpacked: it holds") as refused:
        run(content if isinstance(content, bytes) else content())

    assert reason in refused.value.message
    assert set(tmp_path.rglob("*")) - before <= {root.parent, root, root / ".download", tmp_path / "toy.archive"}
    assert not Path("/tmp/segctl-evil").exists()


def test_too_many_members_are_refused(run: Run) -> None:
    many = {f"{number}": b"" for number in range(11)}
    bounds = Bounds(members=10)

    with pytest.raises(DownloadError, match="more than 10"):
        run(tar_of(many), bounds=bounds)
    with pytest.raises(DownloadError, match="11 members, which is more than 10"):
        run(zipped(many), bounds=bounds)


def test_a_zip_that_lies_about_a_size_is_damaged(run: Run, root: Path) -> None:
    content = zipped({"toy/photo": noise(1000)})
    at = content.index(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    with pytest.raises(DownloadError, match="is damaged"):
        run(content[:at] + (500).to_bytes(4, "little") + content[at + 4 :])
    assert visible(root) == []


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_all_kinds(run: Run, root: Path, mode: str) -> None:
    assert run(tar_of({"a/1": b"one", "a/b/2": noise(300_000), "empty": b""}, mode)).files == 3
    assert (root / "a/1").read_bytes() == b"one"
    assert (root / "a/b/2").read_bytes() == noise(300_000)
    assert (root / "empty").read_bytes() == b""


@pytest.mark.parametrize("mode", ["w:", "w:gz", "zip"])
def test_a_damaged_archive_leaves_nothing(run: Run, root: Path, mode: str) -> None:
    files = {"a/1": noise(50_000), "a/2": noise(50_000)}
    content = zipped(files) if mode == "zip" else tar_of(files, mode)

    with pytest.raises(DownloadError, match="is damaged"):
        run(content[:60_000])
    assert visible(root) == []


def test_what_is_no_archive_is_told(run: Run) -> None:
    with pytest.raises(DownloadError, match="is damaged, or no archive"):
        run(b"<html>Not found</html>" * 100)


MANGLED: dict[str, Callable[[], bytes]] = {
    "zip: a name that is no UTF-8": lambda: zipped({"\u00e9.png": b"x"}).replace("\u00e9".encode(), b"\xff\xfe"),
    "tar: a negative size": lambda: with_size(b"\xff" * 8 + (-1024).to_bytes(4, "big", signed=True)),
    "tar: another negative size": lambda: pax({"size": "-512"}),
    "tar: sparse, of version 1.0": lambda: pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, b"zzzz"),
    "tar: sparse, of version 0.1": lambda: pax({"GNU.sparse.map": "0,1,x,y", "GNU.sparse.size": "4000"}),
}


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


@pytest.mark.parametrize("what", MANGLED)
def test_what_is_mangled_is_damaged_and_leaves_nothing(run: Run, root: Path, what: str) -> None:
    with pytest.raises(DownloadError, match="is damaged"):
        run(MANGLED[what]())
    assert list(root.rglob("*")) == [root / ".download"]


@pytest.mark.parametrize("mode", ["w:", "w:gz", "zip"])
def test_whatever_bytes_are_changed_it_is_unpacked_or_refused(run: Run, root: Path, mode: str) -> None:
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


def test_an_archive_without_what_the_data_set_needs_is_refused(run: Run, root: Path) -> None:
    content = zipped({"set/images/1": b"1", "set/other/1": b"1"})

    with pytest.raises(DownloadError, match="is not unpacked: it holds no masks, which the data set needs of it"):
        run(content, folder="set", provides=["set/set/images", "set/masks"])

    assert list(root.rglob("*")) == [root / ".download"]
    assert run(content, provides=["set/images"]).files == 2


def test_modes_are_not_taken_over(run: Run, root: Path) -> None:
    run(tar((member("tool", mode=0o6777), b"x"), (member("closed", mode=0), b"y")))

    assert stat.S_IMODE((root / "tool").stat().st_mode) & 0o7111 == 0
    assert (root / "closed").read_bytes() == b"y"


def test_links_inside_are_made(run: Run, root: Path) -> None:
    run(
        tar(
            (member("a/1"), b"one"),
            member("b", tarfile.DIRTYPE),
            member("b/up", tarfile.SYMTYPE, "../a/1"),
            member("b/same", tarfile.LNKTYPE, "a/1"),
        )
    )
    assert (root / "b/up").is_symlink()
    assert (root / "b/up").read_bytes() == (root / "b/same").read_bytes() == b"one"


def test_the_same_file_twice_is_one(run: Run, root: Path) -> None:
    run(tar((member("a"), b"1"), (member("./a"), b"1")))
    assert visible(root) == ["a"]


def test_what_macos_adds_is_left_out(run: Run, root: Path) -> None:
    run(zipped({"a/1": b"one", "__MACOSX/a/._1": b"junk"}))
    assert visible(root) == ["a", "a/1"]


def test_windows_paths_are_folders(run: Run, root: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("a")
        info.filename, info.create_system = "a\\1", 0
        file.writestr(info, b"one")
    run(buffer.getvalue())
    assert (root / "a/1").read_bytes() == b"one"


def test_an_archive_joins_what_is_there(run: Run, root: Path) -> None:
    """Two archives of one folder, and a file of the user's that one of them has too."""
    run(zipped({"set/images/1": b"image", "set/README": b"first"}), "one")
    (root / "set/images/1").write_bytes(b"mine")
    (root / "set/notes").write_bytes(b"my notes")

    assert run(zipped({"set/images/1": b"image", "set/masks/1": b"mask", "set/README": b"first"}), "two").replaced == 1

    assert visible(root) == ["set", "set/README", "set/images", "set/images/1", "set/masks", "set/masks/1", "set/notes"]
    assert (root / "set/images/1").read_bytes() == b"image"
    assert (root / ".download/replaced/two/set/images/1").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_interrupted_extraction_goes_on(run: Run, root: Path, kind: str) -> None:
    files = {f"toy/{number:02}": noise(10_000, number) for number in range(20)}
    content = tar_of(files) if kind == "tar" else zipped(files)
    looks = iter(range(100))

    with pytest.raises(StoppedError):
        run(content, stop=Stop(lambda: next(looks) == 25))

    assert visible(root) == []
    (staging,) = root.glob(".download/*.unpacking")
    first = {path: path.stat().st_ino for path in (staging / "toy").iterdir()}
    assert 0 < len(first) < 20
    torn = max(first)
    torn.write_bytes(b"half")
    assert run(content).files == 20
    assert {path.name: path.read_bytes() for path in (root / "toy").iterdir()} == {
        f"{number:02}": noise(10_000, number) for number in range(20)
    }
    # Those that were complete are the same files still.
    again = {path.name: path.stat().st_ino for path in (root / "toy").iterdir()}
    assert all(again[path.name] == number for path, number in first.items() if path != torn)


def test_an_interrupted_move_goes_on(run: Run, root: Path) -> None:
    (root / "set/b").mkdir(parents=True)
    files = {f"set/{folder}/{name}": noise(10) for folder in "abc" for name in "12"}
    looks = iter(range(100))

    with pytest.raises(StoppedError):  # after the members are out, in the middle of the move
        run(zipped(files), stop=Stop(lambda: next(looks) == 15))
    assert list(root.glob(".download/*.ready"))
    (root.parent.parent / "toy.archive").unlink()
    run(b"not looked at any more")

    assert [path for path in visible(root) if path.count("/") == 2] == sorted(files)
    assert not list(root.glob(".download/*.ready"))


def test_what_tells_that_all_is_there_is_moved_last(run: Run, root: Path) -> None:
    moved: list[str] = []
    stop = Stop(lambda: moved.extend(set(visible(root)) - set(moved)) if root.exists() else None)

    run(zipped({"a_images/1": b"1", "b_lists/1": b"1", "c_more/1": b"1"}), provides=["a_images"], stop=stop)

    assert {"b_lists", "c_more"} <= set(moved)
    assert "a_images" not in moved  # nothing is looked at after it
    assert "a_images" in visible(root)


def test_other_content_is_not_mixed_with_what_was_begun(run: Run, root: Path) -> None:
    looks = iter(range(100))
    with pytest.raises(StoppedError):
        run(zipped({"1": b"old1", "2": b"old2"}), stop=Stop(lambda: next(looks) == 2))

    run(zipped({"1": b"new1", "2": b"new2"}), digest="e" * 12)

    assert (root / "1").read_bytes() == b"new1"
    assert not list(root.glob(".download/*.unpacking"))


def test_a_full_disk_is_told_and_gone_on_from(tmp_path: Path) -> None:
    import resource
    import subprocess
    import sys

    archive = tmp_path / "toy.zip"
    archive.write_bytes(zipped({"1": noise(1000), "2": noise(300_000)}))
    code = (
        "import resource, sys; from pathlib import Path; from segctl.download.unpack import unpack;"
        "from segctl.download.stopping import Stop;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY));"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), key='k', digest='d', report=print, stop=Stop())"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY

    def with_limit(size: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", code, str(archive), str(tmp_path / "root"), str(size)]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert f"{DiskFullError.__name__}: {tmp_path / 'root'} cannot take more of toy.zip" in with_limit(100_000).stderr
    assert visible(tmp_path / "root") == []
    assert with_limit(10**9).returncode == 0
    assert (tmp_path / "root/2").read_bytes() == noise(300_000)


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


def test_only_a_marker_is_left_behind(run: Run, root: Path) -> None:
    run(zipped({"1": b"1"}))
    assert sorted(path.name for path in (root / ".download").iterdir()) == ["toy.archive.json"]
