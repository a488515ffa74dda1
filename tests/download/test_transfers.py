"""Files over HTTP from a server that lies, refuses, sends elsewhere and is busy."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from planted import OTHER, PHOTO, ZIP, Install, facts, fetch, is_whole, tar_of
from server import Server

from segctl.errors import DownloadError
from segctl.plugin import Archive

DIGESTS = {kind: hashlib.new(kind, ZIP).hexdigest() for kind in ("md5", "sha1", "sha256")}


@pytest.mark.parametrize("how", [{}, {"etag": ""}], ids=["with ETag", "without"])
def test_a_file_of_unknown_length(server: Server, published: Install, data: Path, how: dict[str, str]) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP, length="none", **how)))

    (file,) = fetch(data).files

    assert (file.size, file.verified) == (len(ZIP), False)
    assert is_whole(data)


def test_another_size_is_refused_before_it_is_fetched(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP + b"more"), ZIP))

    with pytest.raises(DownloadError, match=f"has {len(ZIP) + 4:,} bytes instead of {len(ZIP):,}"):
        fetch(data)
    assert len(server.asked) == 1


def test_a_file_that_ends_before_its_published_size_is_told_by_that(
    server: Server, published: Install, data: Path
) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP[:-100], length="none"), size=len(ZIP)))

    with pytest.raises(DownloadError, match=f"has {len(ZIP) - 100:,} bytes instead of {len(ZIP):,}"):
        fetch(data)


def test_a_length_that_is_too_large_does_no_harm(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", ZIP, length=len(ZIP) + 1000), ZIP)
    published(Archive(url=archive.url, sha256=archive.sha256))

    assert fetch(data).complete
    assert is_whole(data)


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_wrong_bytes_are_never_unpacked(server: Server, published: Install, data: Path, kind: str) -> None:
    published(Archive(url=server.serve("/toy.zip", OTHER), **{kind: DIGESTS[kind]}))

    with pytest.raises(DownloadError, match=f"its {kind} is [0-9a-f]+, not {DIGESTS[kind]}") as refused:
        fetch(data)
    assert "--mirror" in refused.value.hint
    assert not (data / "toy/toy").exists()
    assert not list((data / ".archives").rglob("toy.zip*"))
    server.serve("/toy.zip", ZIP)
    assert fetch(data).complete


def test_wrong_bytes_on_a_bad_line_end_too(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", OTHER, drop=0.6), ZIP))

    with pytest.raises(DownloadError, match="its sha256 is"):
        fetch(data)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_a_server_refuses_is_asked_once(server: Server, published: Install, data: Path, status: int) -> None:
    mirror = server.serve("/mirror/toy.zip", ZIP)
    published(facts(server.serve("/toy.zip", ZIP, always=(status, {})), ZIP, mirrors=(mirror,)))

    assert fetch(data).complete
    assert len(server.of("/toy.zip")) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, published: Install, data: Path, status: int) -> None:
    published(facts(server.serve("/toy.zip", ZIP, first=[(status, {})]), ZIP))

    assert fetch(data).complete
    assert len(server.asked) == 2


def test_a_busy_server_is_left_alone_for_as_long_as_it_says(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP, first=[(429, {"Retry-After": "1"})]), ZIP))

    assert fetch(data).complete
    assert server.asked[1].at - server.asked[0].at >= 1.0


def test_redirects_in_a_circle_end(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", b"", always=(302, {"Location": "/toy.zip"})), ZIP))

    with pytest.raises(DownloadError, match="redirects"):
        fetch(data)


def test_a_page_in_place_of_the_file_is_not_taken_for_it(server: Server, published: Install, data: Path) -> None:
    page = {"Content-Type": "text/html; charset=utf-8"}
    published(Archive(url=server.serve("/toy.zip", b"<html>Sign in</html>", headers=page)))

    with pytest.raises(DownloadError, match="a web page in place of the file"):
        fetch(data)
    assert len(server.asked) == 1


def test_a_compressed_archive_is_kept_as_it_is(server: Server, published: Install, data: Path) -> None:
    # Some servers take the compression of a .tgz for one of the transfer.
    archive = tar_of({"toy/photo.jpg": PHOTO})
    assert gzip.decompress(archive)
    published(facts(server.serve("/toy.tgz", archive, headers={"Content-Encoding": "gzip"}), archive))

    assert fetch(data).complete
    assert is_whole(data)


def test_addresses_that_fail_for_one_reason_are_told_together(server: Server, published: Install, data: Path) -> None:
    gone = [f"{server.url}/{folder}/toy.zip" for folder in "ab"]
    bad = server.serve("/c/toy.zip", ZIP, always=(403, {}))
    published(facts(gone[0], ZIP, mirrors=(gone[1], f"{bad}?key=secret")))

    with pytest.raises(DownloadError) as refused:
        fetch(data)

    assert refused.value.message == (
        f"toy.zip cannot be fetched: {gone[0]} and {gone[1]}: the server answers 404; {bad}: the server answers 403."
    )


def test_no_network_is_said_in_one_sentence(published: Install, data: Path) -> None:
    published(facts("http://127.0.0.1:9/toy.zip", ZIP))

    with pytest.raises(DownloadError) as refused:
        fetch(data)

    assert refused.value.message == (
        "toy.zip cannot be fetched: from here there is no network, or no way to 127.0.0.1 (Connection refused)."
    )
    assert "--from" in refused.value.hint
