"""Files over HTTP from a server that cuts off, lies, changes its mind and is busy."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from planted import facts, noise, tar_of, zipped
from server import Server

import segctl
from segctl.download import Downloaded, Event
from segctl.download.retry import Patience
from segctl.download.stopping import Stop
from segctl.download.transfer import Transfer, new_session
from segctl.errors import DiskFullError, DownloadError
from segctl.plugin import Archive

PHOTO = noise(700_000)
ZIP = zipped({"toy/photo.jpg": PHOTO, "toy/list.txt": b"photo\n"})
OTHER = zipped({"toy/photo.jpg": noise(700_000, seed=2), "toy/list.txt": b"photo\n"})

DIGESTS = {kind: hashlib.new(kind, ZIP).hexdigest() for kind in ("md5", "sha1", "sha256")}

Install = Callable[..., str]


def fetch(data: Path, **how: object) -> Downloaded:
    (result,) = segctl.download("toy", data_root=data, **how)  # type: ignore[arg-type]
    return result


def is_whole(data: Path) -> bool:
    return (data / "toy/toy/photo.jpg").read_bytes() == PHOTO


def test_an_archive_is_fetched_verified_unpacked_and_removed(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(archive)

    result = fetch(data)

    assert result.complete
    assert is_whole(data)
    (file,) = result.files
    assert (file.file, file.size, file.files, file.verified) == ("toy.zip", len(ZIP), 2, True)
    assert file.checksum == f"sha256 {archive.sha256}"
    assert [each.sent for each in server.asked] == [len(ZIP)]
    assert not (data / ".archives").exists()


def test_what_is_there_is_not_asked_for_again(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    fetch(data)
    server.asked.clear()

    result = fetch(data)

    assert (result.complete, result.files) == (True, ())
    assert server.asked == []


def test_what_was_deleted_is_fetched_again(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP, provides=("toy/photo.jpg",)))
    fetch(data)
    (data / "toy/toy/photo.jpg").unlink()

    assert len(fetch(data).files) == 1
    assert is_whole(data)


def test_data_that_somebody_put_there_are_left_alone(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP), layout=["images", "masks"])
    for folder in ("images", "masks"):
        (data / "toy" / folder).mkdir(parents=True)

    assert fetch(data).complete
    assert server.asked == []
    assert sorted(path.name for path in (data / "toy").iterdir()) == ["images", "masks"]


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


@pytest.mark.parametrize("how", [{}, {"etag": ""}], ids=["with ETag", "without"])
def test_a_file_of_unknown_length(server: Server, published: Install, data: Path, how: dict[str, str]) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP, length="none", **how)))

    (file,) = fetch(data).files

    assert (file.size, file.verified) == (len(ZIP), False)
    assert is_whole(data)


def test_a_missing_checksum_is_said_and_the_own_one_is_told(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(Archive(url=archive.url))
    told: list[str] = []

    (file,) = fetch(data, on_event=lambda event: told.append(event.message)).files

    assert file.checksum == f"sha256 {archive.sha256}"
    assert f"No checksum is published for toy.zip; what was read has sha256 {archive.sha256}." in told


def test_another_size_is_refused_before_it_is_fetched(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP + b"more"), ZIP))

    with pytest.raises(DownloadError, match=f"has {len(ZIP) + 4:,} bytes instead of {len(ZIP):,}"):
        fetch(data)
    assert len(server.asked) == 1


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


def test_redirects_are_followed_with_the_range(server: Server, published: Install, data: Path) -> None:
    server.serve("/there.zip", ZIP, cuts=[300_000], pace=0.001)
    published(facts(server.serve("/toy.zip", b"", always=(302, {"Location": "/there.zip"})), ZIP))

    assert fetch(data).complete
    assert server.of("/there.zip")[1].start > 0


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


def test_no_network_is_said_in_one_sentence(published: Install, data: Path) -> None:
    published(facts("http://127.0.0.1:9/toy.zip", ZIP))

    with pytest.raises(DownloadError) as refused:
        fetch(data)

    assert refused.value.message == (
        "toy.zip cannot be fetched: from here there is no network, or no way to 127.0.0.1 (Connection refused)."
    )
    assert "--from" in refused.value.hint


def test_a_file_without_archive_is_put_in_its_folder(server: Server, published: Install, data: Path) -> None:
    text = b"one\ntwo\n"
    published(facts(server.serve("/list.txt", text), text, unpack=False, folder="lists"))

    assert fetch(data).complete
    assert (data / "toy/lists/list.txt").read_bytes() == text


def test_archives_are_kept_where_that_is_wanted(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    fetch(data, keep_archives=True)
    (kept,) = (data / ".archives").glob("*/toy.zip")
    assert kept.read_bytes() == ZIP
    server.asked.clear()

    (other,) = segctl.download("toy", data_root=data.with_name("other"), files=[data / ".archives"])

    assert other.complete
    assert server.asked == []


def test_several_files_at_a_time(server: Server, published: Install, data: Path) -> None:
    archives = []
    for number in range(3):
        content = zipped({f"toy/{number}.bin": noise(200_000, number)})
        archives.append(facts(server.serve(f"/{number}.zip", content, pace=0.02), content))
    published(*archives)

    assert fetch(data).complete
    assert max(each.at for each in server.asked) < min(each.until for each in server.asked)


def test_one_file_of_two_data_sets_is_fetched_once(
    server: Server, published: Install, data: Path, tmp_path: Path
) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(archive)
    published(archive, name="toy2")

    results = segctl.download(["toy", "toy2"], data_root=data)

    assert [result.complete for result in results] == [True, True]
    assert server.sent("/toy.zip") == len(ZIP)
    assert (data / "toy2/toy/photo.jpg").read_bytes() == PHOTO


def test_what_fails_does_not_keep_the_others_back(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    published(Archive(url=f"{server.url}/gone.zip"), name="lost")

    with pytest.raises(DownloadError, match="Not complete: lost") as refused:
        segctl.download(["lost", "toy"], data_root=data)

    assert [(each.name, each.complete) for each in refused.value.results] == [("lost", False), ("toy", True)]
    assert is_whole(data)


def test_room_is_looked_for_first(server: Server, published: Install, data: Path) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP), size=10**17))

    with pytest.raises(DiskFullError, match="GiB are needed"):
        fetch(data)
    assert server.asked == []


def test_room_for_a_file_of_unpublished_size_is_looked_for_before_its_first_byte(
    server: Server, published: Install, data: Path
) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP, length=10**17)))

    with pytest.raises(DownloadError, match=r"toy.zip needs \d+\.\d GiB more in .* free and 64\.0 MiB are to stay so"):
        fetch(data)
    assert not [path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_the_disk_is_not_written_full(
    server: Server, published: Install, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP, length="none")))
    with monkeypatch.context() as there:
        there.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**26))
        with pytest.raises(DownloadError, match=r"64\.0 MiB are free and 64\.0 MiB are to stay so"):
            fetch(data)
    assert fetch(data).complete


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
        session_for=lambda url, anew: new_session(),
        watcher=Silent(),
        stop=Stop(),
        patience=Patience(first=0.001),
    )

    with pytest.raises(DownloadError, match="10 times in a row"):
        transfer.run()
    assert 11 <= len(server.asked) <= 20
