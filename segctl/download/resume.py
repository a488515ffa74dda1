"""How a broken transfer goes on, decided from what is on disk and what the server answers: pure functions.

Two halves are only put together where they are of one file: the server says so (If-Range with its validator), or the
whole is verified against a published checksum afterwards. In all other cases the transfer starts anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from segctl.download.retry import retry_after, worth_retrying

__all__ = ["Answer", "Part", "Verdict", "judge", "range_headers"]

_CONTENT_RANGE = re.compile(r"\s*bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """What is on disk of a file.

    Attributes:
        have: Bytes.
        url: Where they came from, or what tells that from elsewhere; empty where that was not recorded.
        etag: The server's validator of the file, empty without one; so is `modified`.
        modified: Its header Last-Modified.
        total: Bytes of the whole, as the server said; None where it did not.
    """

    have: int = 0
    url: str = ""
    etag: str = ""
    modified: str = ""
    total: int | None = None

    def as_record(self) -> dict[str, Any]:
        return {"url": self.url, "etag": self.etag, "modified": self.modified, "total": self.total}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None, have: int) -> Part:
        record = record or {}
        total = record.get("total")
        texts = {name: str(record.get(name) or "") for name in ("url", "etag", "modified")}
        return cls(have=have, total=total if isinstance(total, int) else None, **texts)

    @property
    def validator(self) -> str:
        """What If-Range takes: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(frozen=True)
class Answer:
    """A response's status line and headers; `headers` by lower-case name, `now` in Unix seconds."""

    status: int
    headers: Mapping[str, str]
    now: float = 0.0

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass(frozen=True)
class Verdict:
    """What to do with a response.

    Attributes:
        act: ``append`` its body to the part; ``restart``: write it from the beginning; ``complete``: all is there;
            ``discard`` the part and ask again; ``wait`` and ask again; ``refuse``: this address does not help.
        total: Bytes of the whole; None where the server does not say.
        why: For people, where it is refused or waited for.
        wanted: Seconds that the server asks to wait.
    """

    act: Literal["append", "restart", "complete", "discard", "wait", "refuse"]
    total: int | None = None
    why: str = ""
    wanted: float | None = None


def range_headers(part: Part, url: str, *, verified: bool) -> dict[str, str]:
    """Headers that ask for the rest of a file; empty where it has to be fetched from the beginning.

    Args:
        part: What is on disk.
        url: Where the rest would come from.
        verified: The whole will be held against a published checksum.
    """
    if not part.have:
        return {}
    validator = part.validator if part.url == url else ""
    if not validator and not verified:
        return {}
    return {"Range": f"bytes={part.have}-", **({"If-Range": validator} if validator else {})}


def judge(answer: Answer, part: Part, url: str, *, asked_range: bool, size: int | None) -> Verdict:
    """What a response to such a request means.

    Args:
        answer: The response.
        part: What is on disk.
        url: The address that was asked.
        asked_range: `range_headers` were sent.
        size: Bytes of the whole as they are published, or None.
    """
    if answer.status == 206 and asked_range:
        return _partial(answer, part, url, size)
    if answer.status == 200:
        return _whole(_length(answer), size)
    if answer.status == 416 and asked_range:
        span = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
        whole = int(span[3]) if span and span[3] != "*" else part.total
        return _other_size(whole, size) or Verdict("complete" if whole == part.have else "discard", whole)
    if worth_retrying(answer.status):
        wanted = retry_after(answer.header("retry-after"), answer.now)
        return Verdict("wait", why=f"the server answers {answer.status}", wanted=wanted)
    return Verdict("refuse", why=f"the server answers {answer.status}")


def _partial(answer: Answer, part: Part, url: str, size: int | None) -> Verdict:
    span = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
    if span is None or span[1] is None or int(span[1]) != part.have:
        return Verdict("discard")  # another piece than was asked for, or several
    total = int(span[3]) if span[3] != "*" else part.total
    if None not in (total, part.total) and total != part.total:
        return Verdict("discard")
    etag = answer.header("etag")
    if part.url == url and etag and part.etag and etag != part.etag:  # some servers do not know If-Range
        return Verdict("discard")
    refused = _other_size(total, size)
    return refused or Verdict("append", total)


def _whole(total: int | None, size: int | None) -> Verdict:
    return _other_size(total, size) or Verdict("restart", total)


def _other_size(total: int | None, size: int | None) -> Verdict | None:
    if total is None or size is None or total == size:
        return None
    return Verdict("refuse", why=f"the file there has {total:,} bytes instead of {size:,}")


def _length(answer: Answer) -> int | None:
    text = answer.header("content-length").strip()
    return int(text) if text.isdigit() else None
