"""Transfers that break off go on where they stopped, in the same call or the next, and never mix two files."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import OTHER, ZIP, Install, facts, fetch, is_whole
from server import Server

from segctl.download import Event
from segctl.download.retry import Patience
from segctl.download.session import Session
from segctl.download.stopping import Stop
from segctl.download.transfer import Transfer
from segctl.errors import DownloadError
from segctl.plugin import Archive


@pytest.mark.parametrize("seed", [1, 3])
def test_a_bad_line_costs_no_byte_twice(server: Server, published: Install, data: Path, seed: int) -> None:
    server.random.seed(seed)
    published(facts(server.serve("/toy.zip", ZIP, drop=0.7), ZIP))
    on_disk = [0]

    def look(event: Event) -> None:
        if event.phase == "fetching":
            on_disk.append(event.done)

    assert fetch(data, on_event=look).complete
    assert is_whole(data)
    starts = [each.start for each in server.of("/toy.zip")]
    assert len(starts) > 1
    assert starts == sorted(starts)
    assert set(starts) <= set(on_disk)  # each request begins where the disk ends


def test_a_file_that_is_cut_off_goes_on_where_it_stopped(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP, cuts=[300_000], pace=0.001), ZIP))

    assert fetch(data).complete
    first, second = server.of("/toy.zip")
    assert (first.start, first.status) == (0, 200)
    assert second.status == 206
    assert 0 < second.start <= 300_000
    assert second.headers["If-Range"] == '"one"'
    assert second.start + second.sent == len(ZIP)


def broken_off(server: Server, data: Path, reason: str = "404") -> int:
    """A first call that ends in the middle of the file; how many bytes of it have reached the disk."""
    served = server.files["/toy.zip"]
    served.cuts, served.gone, served.pace = [400_000], True, 0.001
    with pytest.raises(DownloadError, match=reason):
        fetch(data)
    served.gone, served.pace = False, 0.0
    server.asked.clear()
    (part,) = (data / ".archives").glob("*/toy.zip.part")
    assert 0 < part.stat().st_size <= 400_000
    return part.stat().st_size


def test_a_second_call_goes_on_too(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    have = broken_off(server, data)

    assert fetch(data).complete
    assert is_whole(data)
    assert [(each.status, each.start, each.sent) for each in server.asked] == [(206, have, len(ZIP) - have)]


def test_a_server_without_ranges_is_asked_from_the_beginning(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP, ranges=False), ZIP))
    broken_off(server, data)

    assert fetch(data).complete
    assert is_whole(data)
    assert [(each.status, each.start) for each in server.asked] == [(200, 0)]


@pytest.mark.parametrize("if_range", [True, False], ids=["told by If-Range", "told by another ETag"])
def test_a_file_that_has_changed_is_fetched_anew(
    server: Server, published: Install, data: Path, if_range: bool
) -> None:
    published(Archive(url=server.serve("/toy.zip", OTHER)))  # no checksum would tell
    broken_off(server, data)
    server.serve("/toy.zip", ZIP, etag='"two"', if_range=if_range)

    assert fetch(data).complete
    assert is_whole(data)


def test_without_checksum_and_validator_nothing_is_put_together(server: Server, published: Install, data: Path) -> None:
    published(Archive(url=server.serve("/toy.zip", OTHER, etag="")))
    broken_off(server, data)
    server.serve("/toy.zip", ZIP, etag="")

    assert fetch(data).complete
    assert is_whole(data)
    assert [each.start for each in server.asked] == [0]


def test_pieces_of_two_files_are_found_by_the_checksum(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", OTHER, etag=""), ZIP)
    published(archive)
    assert len(OTHER) == len(ZIP)
    broken_off(server, data)
    server.serve("/toy.zip", ZIP, etag="")

    assert fetch(data).complete
    assert is_whole(data)
    assert [each.start > 0 for each in server.asked] == [True, False]


def test_a_mirror_goes_on_with_what_another_has_begun(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP, mirrors=(server.serve("/mirror/toy.zip", ZIP, etag='"m"'),))
    published(archive)
    served = server.files["/toy.zip"]
    served.cuts, served.gone, served.pace = [400_000], True, 0.001

    result = fetch(data)

    assert result.files[0].source == archive.mirrors[0]
    (from_mirror,) = server.of("/mirror/toy.zip")
    assert from_mirror.start > 0
    assert "If-Range" not in from_mirror.headers  # the other server's ETag says nothing there
    assert is_whole(data)


def test_redirects_are_followed_with_the_range(server: Server, published: Install, data: Path) -> None:
    server.serve("/there.zip", ZIP, cuts=[300_000], pace=0.001)
    published(facts(server.serve("/toy.zip", b"", always=(302, {"Location": "/there.zip"})), ZIP))

    assert fetch(data).complete
    assert server.of("/there.zip")[1].start > 0


class Silent:
    def at(self, phase: str, done: int, total: int | None) -> None: ...

    def note(self, message: str) -> None: ...


def test_a_server_that_always_begins_anew_and_breaks_off_is_given_up(server: Server, tmp_path: Path) -> None:
    # More and less in turn: nothing after the second response is further than that one.
    url = server.serve("/toy.zip", ZIP, etag="", cuts=[20_000, 40_000] * 20, pace=0.001)
    transfer = Transfer(
        file="toy.zip",
        part=tmp_path / "toy.zip.part",
        addresses=[url],
        size=None,
        expected=None,
        session_for=lambda url, anew: Session(),
        watcher=Silent(),
        stop=Stop(),
        patience=Patience(first=0.001),
    )

    with pytest.raises(DownloadError, match="10 times in a row"):
        transfer.run()
    assert 11 <= len(server.asked) <= 20
