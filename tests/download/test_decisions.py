"""The pure functions behind a download, on cases worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from segctl.download.checksum import Checksum, published
from segctl.download.plan import (
    Item,
    Seen,
    Target,
    Wanted,
    addresses,
    decide,
    file_key,
    place_key,
    share,
)
from segctl.download.resume import Answer, Part, judge, range_headers
from segctl.download.retry import Patience, pause, retry_after, worth_retrying
from segctl.download.space import demands
from segctl.plugin import Archive

URL = "https://host/a.zip"
PART = Part(have=100, url=URL, etag='"one"', modified="Mon, 01 Jan 2024 00:00:00 GMT", total=1000)


@pytest.mark.parametrize(
    ("part", "url", "verified", "headers"),
    [
        (Part(), URL, True, {}),
        (PART, URL, False, {"Range": "bytes=100-", "If-Range": '"one"'}),
        (Part(100, URL, 'W/"weak"', "date"), URL, False, {"Range": "bytes=100-", "If-Range": "date"}),
        (Part(100, URL, 'W/"weak"'), URL, False, {}),
        (Part(100, URL), URL, True, {"Range": "bytes=100-"}),
        (PART, "https://other/a.zip", True, {"Range": "bytes=100-"}),
        (PART, "https://other/a.zip", False, {}),
    ],
)
def test_what_is_asked_for(part: Part, url: str, verified: bool, headers: dict[str, str]) -> None:
    assert range_headers(part, url, verified=verified) == headers


@pytest.mark.parametrize(
    ("status", "headers", "asked", "size", "act"),
    [
        (206, {"content-range": "bytes 100-999/1000"}, True, None, "append"),
        (206, {"content-range": "bytes 100-999/1000", "etag": '"one"'}, True, 1000, "append"),
        (206, {"content-range": "bytes 100-999/1000", "etag": '"two"'}, True, None, "discard"),
        (206, {"content-range": "bytes 0-999/1000"}, True, None, "discard"),
        (206, {"content-range": "bytes 100-1999/2000"}, True, None, "discard"),
        (206, {"content-range": "bytes 100-999/*"}, True, None, "append"),
        (206, {"content-type": "multipart/byteranges"}, True, None, "discard"),
        (206, {"content-range": "bytes 100-999/1000"}, True, 900, "refuse"),
        (206, {"content-range": "bytes 0-999/1000"}, False, None, "refuse"),
        (200, {"content-length": "1000"}, True, None, "restart"),
        (200, {"content-length": "1000"}, False, 1000, "restart"),
        (200, {"content-length": "999"}, False, 1000, "refuse"),
        (200, {}, False, 1000, "restart"),
        (416, {"content-range": "bytes */100"}, True, None, "complete"),
        (416, {"content-range": "bytes */50"}, True, None, "discard"),
        (416, {"content-range": "bytes */100"}, True, 1000, "refuse"),
        (416, {}, True, None, "discard"),
        (416, {}, False, None, "refuse"),
        (429, {"retry-after": "7"}, True, None, "wait"),
        (503, {}, False, None, "wait"),
        (403, {}, True, None, "refuse"),
        (404, {}, False, None, "refuse"),
    ],
)
def test_what_an_answer_means(status: int, headers: dict[str, str], asked: bool, size: int | None, act: str) -> None:
    assert judge(Answer(status, headers), PART, URL, asked_range=asked, size=size).act == act


def test_how_long_a_server_wants_to_be_left_alone() -> None:
    assert retry_after("120", 0.0) == 120.0
    assert retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 60.0) == 60.0
    assert retry_after("Thu, 01 Jan 1970 00:00:10 GMT", 60.0) == 0.0
    assert retry_after("soon", 0.0) is None
    assert retry_after(None, 0.0) is None
    assert judge(Answer(429, {"retry-after": "7"}), PART, URL, asked_range=True, size=None).wanted == 7.0


def test_pauses_double_up_to_a_limit_and_are_never_shorter_than_asked() -> None:
    patience = Patience(first=1.0, longest=10.0)
    assert [pause(patience, failures, 1.0) for failures in (1, 2, 3, 4, 5, 50)] == [1, 2, 4, 8, 10, 10]
    assert pause(patience, 4, 0.0) == 4.0
    assert pause(patience, 1, 0.5, 30.0) == 30.0


def test_what_is_worth_another_request() -> None:
    assert [status for status in (400, 401, 403, 404, 408, 410, 429, 500, 503) if worth_retrying(status)] == [
        408,
        429,
        500,
        503,
    ]


def test_the_strongest_checksum_counts() -> None:
    assert published(Archive(url=URL, md5="AA", sha1="bb")) == Checksum("sha1", "bb")
    assert published(Archive(url=URL, md5="AA")) == Checksum("md5", "aa")
    assert published(Archive(url=URL)) is None


def wanted(*archives: Archive, name: str = "toy", root: str = "/data/toy", layout: tuple[str, ...] = ()) -> Wanted:
    return Wanted(name, "toys.Toy", Path(root), layout, archives)


A = Archive(url="https://host/a.zip", sha256="aa", size=100, provides=("a",))
B = Archive(url="https://host/b.zip", size=50)
KEY_A, KEY_B = place_key(A), place_key(B)


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        (Seen(declared=frozenset({KEY_A})), (A, B)),
        (Seen(layout=True, declared=frozenset({KEY_A})), ()),
        (Seen(layout=True, begun=True, declared=frozenset({KEY_A})), (A, B)),
        (Seen(layout=True, unfinished=frozenset({KEY_A}), declared=frozenset({KEY_A})), (A, B)),
        (Seen(provided=frozenset({KEY_A}), declared=frozenset({KEY_A})), (B,)),
        (Seen(marked=frozenset({KEY_B}), provided=frozenset({KEY_A}), declared=frozenset({KEY_A})), ()),
        (Seen(marked=frozenset({KEY_A, KEY_B}), declared=frozenset({KEY_A})), (A,)),  # somebody has deleted it
        (
            Seen(
                marked=frozenset({KEY_B}),
                provided=frozenset({KEY_A}),
                unfinished=frozenset({KEY_A}),
                declared=frozenset({KEY_A}),
            ),
            (A,),
        ),
    ],
)
def test_what_a_data_set_lacks(seen: Seen, missing: tuple[Archive, ...]) -> None:
    assert decide(wanted(A, B, layout=("a",)), seen).missing == missing


def test_data_that_somebody_put_there_are_prepared_only_from_the_files_of_the_archives() -> None:
    assert not decide(wanted(A, layout=("x",)), Seen(layout=True)).prepare
    assert decide(wanted(A, layout=("x",)), Seen(layout=True, provided=frozenset({KEY_A}))).prepare


def test_a_file_that_several_want_is_one_item() -> None:
    one, other = wanted(A, B), wanted(A, name="toy2", root="/data/toy2")
    same_folder = wanted(A, name="toy3", root="/data/toy")
    states = [(each, decide(each, Seen())) for each in (one, other, same_folder)]

    assert share(states) == (
        Item(
            file_key(A),
            A,
            (Target(("toy", "toy3"), Path("/data/toy"), A), Target(("toy2",), Path("/data/toy2"), A)),
        ),
        Item(file_key(B), B, (Target(("toy",), Path("/data/toy"), B),)),
    )


def test_files_of_one_name_are_told_apart() -> None:
    assert file_key(A) != file_key(Archive(url=A.url, sha256="bb", size=100))
    assert file_key(A) == file_key(Archive(url="https://elsewhere/a.zip", sha256="aa", size=100))
    assert file_key(B) != file_key(Archive(url="https://elsewhere/b.zip", size=50))


def test_the_order_of_addresses() -> None:
    archive = Archive(url=URL, mirrors=("https://m/a.zip", URL), file="a b.zip")
    assert addresses(archive, "https://near/x/") == ("https://near/x/a%20b.zip", URL, "https://m/a.zip")
    assert addresses(Archive(file="a.zip", manual="by hand"), "") == ()


def test_how_much_room_is_needed() -> None:
    archives = [Archive(url=f"https://host/{name}.zip", size=size) for name, size in (("a", 100), ("b", 50), ("c", 10))]
    items = [Item(each.file, each, (Target(("toy",), Path("/data/toy"), each),)) for each in archives]
    unpacked = 110 + 55 + 11

    needed = demands(items, {}, Path("/data/.archives"), keep=True, at_once=2)
    assert needed == {Path("/data/.archives"): 160, Path("/data/toy"): unpacked}
    needed = demands(items, {"a.zip": 100}, Path("/data/.archives"), keep=False, at_once=2)
    assert needed == {Path("/data/.archives"): 60, Path("/data/toy"): unpacked}
