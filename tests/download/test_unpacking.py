"""What comes out of archives: interrupted ones go on, and what was there is not lost."""

from __future__ import annotations

import io
import resource
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from planted import Unpack, member, noise, tar, tar_of, visible, zipped

from segctl.download.stopping import Stop, StoppedError
from segctl.errors import DiskFullError


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_all_kinds(run: Unpack, root: Path, mode: str) -> None:
    assert run(tar_of({"a/1": b"one", "a/b/2": noise(300_000), "empty": b""}, mode)).files == 3
    assert (root / "a/1").read_bytes() == b"one"
    assert (root / "a/b/2").read_bytes() == noise(300_000)
    assert (root / "empty").read_bytes() == b""


def test_modes_are_not_taken_over(run: Unpack, root: Path) -> None:
    run(tar((member("tool", mode=0o6777), b"x"), (member("closed", mode=0), b"y")))

    assert stat.S_IMODE((root / "tool").stat().st_mode) & 0o7111 == 0
    assert (root / "closed").read_bytes() == b"y"


def test_links_inside_are_made(run: Unpack, root: Path) -> None:
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


def test_the_same_file_twice_is_one(run: Unpack, root: Path) -> None:
    run(tar((member("a"), b"1"), (member("./a"), b"1")))
    assert visible(root) == ["a"]


def test_what_macos_adds_is_left_out(run: Unpack, root: Path) -> None:
    run(zipped({"a/1": b"one", "__MACOSX/a/._1": b"junk"}))
    assert visible(root) == ["a", "a/1"]


def test_windows_paths_are_folders(run: Unpack, root: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("a")
        info.filename, info.create_system = "a\\1", 0
        file.writestr(info, b"one")
    run(buffer.getvalue())
    assert (root / "a/1").read_bytes() == b"one"


def test_an_archive_joins_what_is_there(run: Unpack, root: Path) -> None:
    """Two archives of one folder, and a file of the user's that one of them has too."""
    run(zipped({"set/images/1": b"image", "set/README": b"first"}), "one")
    (root / "set/images/1").write_bytes(b"mine")
    (root / "set/notes").write_bytes(b"my notes")

    assert run(zipped({"set/images/1": b"image", "set/masks/1": b"mask", "set/README": b"first"}), "two").replaced == 1

    assert visible(root) == ["set", "set/README", "set/images", "set/images/1", "set/masks", "set/masks/1", "set/notes"]
    assert (root / "set/images/1").read_bytes() == b"image"
    assert (root / ".download/replaced/two/set/images/1").read_bytes() == b"mine"


def test_what_was_put_aside_before_stays(run: Unpack, root: Path) -> None:
    for words in (b"mine", b"mine too"):
        root.mkdir(parents=True, exist_ok=True)
        (root / "README").write_bytes(words)
        run(zipped({"README": b"theirs"}), "one")

    aside = root / ".download/replaced/one"
    assert (root / "README").read_bytes() == b"theirs"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == {"README": b"mine", "README.2": b"mine too"}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_interrupted_extraction_goes_on(run: Unpack, root: Path, kind: str) -> None:
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


def test_an_interrupted_move_goes_on(run: Unpack, root: Path) -> None:
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


def test_what_tells_that_all_is_there_is_moved_last(run: Unpack, root: Path) -> None:
    moved: list[str] = []
    stop = Stop(lambda: moved.extend(set(visible(root)) - set(moved)) if root.exists() else None)

    run(zipped({"a_images/1": b"1", "b_lists/1": b"1", "c_more/1": b"1"}), provides=["a_images"], stop=stop)

    assert {"b_lists", "c_more"} <= set(moved)
    assert "a_images" not in moved  # nothing is looked at after it
    assert "a_images" in visible(root)


def test_other_content_is_not_mixed_with_what_was_begun(run: Unpack, root: Path) -> None:
    looks = iter(range(100))
    with pytest.raises(StoppedError):
        run(zipped({"1": b"old1", "2": b"old2"}), stop=Stop(lambda: next(looks) == 2))

    run(zipped({"1": b"new1", "2": b"new2"}), digest="e" * 12)

    assert (root / "1").read_bytes() == b"new1"
    assert not list(root.glob(".download/*.unpacking"))


def test_a_full_disk_is_told_and_gone_on_from(tmp_path: Path) -> None:
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


def test_only_a_marker_is_left_behind(run: Unpack, root: Path) -> None:
    run(zipped({"1": b"1"}))
    assert sorted(path.name for path in (root / ".download").iterdir()) == ["toy.archive.json"]
