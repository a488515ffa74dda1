"""Where files come from besides their published address: mirrors, and the user's own files and folders."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from planted import OTHER, PHOTO, ZIP, Install, facts, is_whole, zipped
from server import Server

import segctl
from segctl.download.checksum import Running
from segctl.errors import ConfigError, DownloadError
from segctl.plugin import Archive

MANUAL = "Fetch toy.zip with a browser from https://example.org/toys."


def test_a_mirror_goes_before_the_published_address(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/far/toy.zip", ZIP), ZIP))
    server.serve("/near/sets/toy.zip", ZIP)

    segctl.download("toy", data_root=data, mirror=f"{server.url}/near/sets/")

    assert is_whole(data)
    assert server.of("/far/toy.zip") == []


def test_what_a_mirror_lacks_comes_from_the_published_address(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/far/toy.zip", ZIP), ZIP))

    segctl.download("toy", data_root=data, mirror=f"{server.url}/near")

    assert is_whole(data)
    assert [each.status for each in server.of("/near/toy.zip")] == [404]


def test_a_mirror_is_verified_too(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/far/toy.zip", ZIP), ZIP))
    server.serve("/near/toy.zip", OTHER)

    (result,) = segctl.download("toy", data_root=data, mirror=f"{server.url}/near")

    assert is_whole(data)
    assert result.files[0].source == f"{server.url}/far/toy.zip"


def test_shipped_data_sets_take_nothing_from_a_mirror_but_what_was_published(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):  # so that the published addresses are out of reach
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.serve("/near/SBU-shadow.zip", ZIP)

    with pytest.raises(DownloadError, match=r"SBU-shadow.zip cannot be fetched: .*its sha256 is"):
        segctl.download("sbu_shadow", data_root=data, mirror=f"{server.url}/near")


def test_a_folder_as_a_mirror(server: Server, published: Install, data: Path, tmp_path: Path) -> None:
    published(facts(f"{server.url}/toy.zip", ZIP))
    (tmp_path / "near").mkdir()
    (tmp_path / "near/toy.zip").write_bytes(ZIP)

    (result,) = segctl.download("toy", data_root=data, mirror=str(tmp_path / "near"))

    assert is_whole(data)
    assert result.files[0].source == str(tmp_path / "near/toy.zip")
    assert (tmp_path / "near/toy.zip").read_bytes() == ZIP  # the user's own is never removed
    assert server.asked == []


@pytest.mark.parametrize(
    ("mirror", "what"),
    [
        ("ftp://host/x", "neither http nor https"),
        ("no/such/folder", "there is no folder"),
        ("https://host/x?sig=TOKEN", "an address with a query"),
    ],
)
def test_what_is_no_mirror_is_refused(published: Install, data: Path, mirror: str, what: str) -> None:
    published(facts("http://127.0.0.1:9/toy.zip", ZIP))
    with pytest.raises(ConfigError, match=what):
        segctl.download("toy", data_root=data, mirror=mirror)


def test_a_password_in_an_address_is_refused_and_not_repeated(published: Install, data: Path) -> None:
    published(facts("http://127.0.0.1:9/toy.zip", ZIP))
    with pytest.raises(ConfigError, match=r"others on this machine can see") as refused:
        segctl.download("toy", data_root=data, mirror="https://me:hunter2@host/x")
    assert "hunter2" not in str(refused.value)


@pytest.fixture
def by_hand(published: Install) -> Archive:
    archive = replace(facts("", ZIP, file="toy.zip"), manual=MANUAL)
    published(archive)
    return archive


def test_what_needs_a_browser_is_told(by_hand: Archive, data: Path) -> None:
    with pytest.raises(DownloadError) as refused:
        segctl.download("toy", data_root=data)
    assert refused.value.message == MANUAL
    assert refused.value.hint == "Then give the file, or its folder, with --from."
    assert not data.exists()


def test_a_file_that_was_fetched_by_hand(by_hand: Archive, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "downloads" / "toy.zip"
    file.parent.mkdir()
    file.write_bytes(ZIP)

    (result,) = segctl.download("toy", data_root=data, files=[file])

    assert is_whole(data)
    assert (result.files[0].verified, result.files[0].source) == (True, str(file))
    assert file.is_file()


def test_a_browser_may_have_given_it_another_name(by_hand: Archive, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy (1).zip"
    file.write_bytes(ZIP)
    segctl.download("toy", data_root=data, files=[file])
    assert is_whole(data)


@pytest.mark.parametrize("folder", [".", "deeper"])
def test_a_folder_with_the_file(by_hand: Archive, data: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "downloads" / folder).mkdir(parents=True)
    (tmp_path / "downloads" / folder / "toy.zip").write_bytes(ZIP)
    segctl.download("toy", data_root=data, files=[tmp_path / "downloads"])
    assert is_whole(data)


def test_another_file_is_refused(by_hand: Archive, data: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.zip").write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"is not the toy\.zip that was published: its sha256 is"):
        segctl.download("toy", data_root=data, files=[tmp_path / "toy.zip"])
    assert (tmp_path / "toy.zip").is_file()
    assert not (data / "toy/toy").exists()


def test_half_a_file_is_told_by_its_size(by_hand: Archive, data: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.zip").write_bytes(ZIP[:1000])
    with pytest.raises(DownloadError, match=f"has 1,000 bytes; toy.zip is published with {len(ZIP):,}"):
        segctl.download("toy", data_root=data, files=[tmp_path / "toy.zip"])


def test_a_file_that_belongs_nowhere_is_told(by_hand: Archive, data: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.zip").write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"is none of the files that the data set is published as: toy\.zip"):
        segctl.download("toy", data_root=data, files=[tmp_path / "holiday.zip"])
    with pytest.raises(ConfigError, match="there is no file or folder"):
        segctl.download("toy", data_root=data, files=[tmp_path / "nothing"])


def test_an_address_is_told_and_noted_without_its_query(server: Server, published: Install, data: Path) -> None:
    url = server.serve("/toy.zip", ZIP, cuts=[100_000], gone=True, pace=0.001)
    published(facts(f"{url}?sig=TOKEN", ZIP, file="toy.zip"))
    said: list[str] = []

    with pytest.raises(DownloadError) as refused:
        segctl.download("toy", data_root=data, on_event=lambda event: said.append(repr(event)))
    written = [
        path.read_text(errors="replace") for path in data.rglob("*") if path.is_file() and path.suffix != ".part"
    ]
    server.files["/toy.zip"].gone = False
    (result,) = segctl.download("toy", data_root=data)

    assert server.asked[-1].start > 0  # it was still known where the first part came from
    assert result.files[0].source == url
    assert any(url in text for text in written)
    assert "TOKEN" not in f"{refused.value} {said} {written} {result}"


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything; nobody may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    with nobody():
        for file in (closed, closed / "toy.zip"):
            with pytest.raises(ConfigError, match=r"cannot be read: Permission denied\."):
                segctl.download("toy", files=[file])
        with pytest.raises(ConfigError, match=r"cannot be read: Permission denied\."):
            segctl.download("toy", mirror=str(closed))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"toy\.zip cannot be read: No such file or directory"):
        Running("md5").catch_up(tmp_path / "toy.zip", 1, lambda position: None)


def test_files_that_need_a_browser_are_told_together(published: Install, data: Path) -> None:
    told = "Fetch {} with a browser from https://example.org/toys and hand it over with --from."
    published(*(replace(facts("", ZIP, file=name), manual=told.format(name)) for name in ("a.zip", "b.zip")))
    with pytest.raises(DownloadError) as refused:
        segctl.download("toy", data_root=data)
    assert refused.value.message == told.format("a.zip and b.zip")
    assert refused.value.hint == "Then: segctl download toy --from FOLDER"


def test_a_wrong_file_without_a_checksum_is_not_taken(published: Install, data: Path, tmp_path: Path) -> None:
    published(Archive(file="toy.zip", manual=MANUAL, provides=("toy/masks",)))
    (tmp_path / "toy.zip").write_bytes(ZIP)

    with pytest.raises(DownloadError, match=r"toy\.zip is not unpacked: it holds no toy/masks") as refused:
        segctl.download("toy", data_root=data, files=[tmp_path / "toy.zip"])

    assert "another file" in refused.value.hint
    assert (tmp_path / "toy.zip").is_file()
    assert not (data / "toy/toy").exists()
    assert not list(data.glob(".archives/*/toy.zip"))
    (tmp_path / "toy.zip").write_bytes(zipped({"toy/photo.jpg": PHOTO, "toy/masks/photo.png": b"mask"}))
    segctl.download("toy", data_root=data, files=[tmp_path / "toy.zip"])
    assert is_whole(data)


def test_a_file_that_was_changed_in_the_archives_folder_is_fetched_anew(
    server: Server, published: Install, data: Path
) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    segctl.download("toy", data_root=data, keep_archives=True)
    (kept,) = data.glob(".archives/*/toy.zip")
    kept.write_bytes(OTHER)
    shutil.rmtree(data / "toy")

    segctl.download("toy", data_root=data)

    assert is_whole(data)
    assert len(server.asked) == 2
