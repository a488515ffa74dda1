"""When a request is tried again, and how long to wait before: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

__all__ = ["Patience", "pause", "retry_after", "worth_retrying"]


@dataclass(frozen=True)
class Patience:
    """How often and how long.

    Attributes:
        failures: In a row, none of which brought the file further than ever before, after which an address is given up.
        unreachable: The same where no connection came about at all: who has no network should hear so soon.
        first: Seconds before the first repetition; they double with each.
        longest: Seconds between two at most, where the server does not ask for more.
        asked: Seconds that a server may ask for; one that wants more is given up.
    """

    failures: int = 10
    unreachable: int = 3
    first: float = 0.1
    longest: float = 60.0
    asked: float = 900.0


def worth_retrying(status: int) -> bool:
    """Whether an answer may be another one later; what a client did wrong (4xx) stays wrong."""
    return status in (408, 429) or status >= 500


def pause(patience: Patience, failures: int, draw: float, wanted: float | None = None) -> float:
    """Seconds to wait after so many failures in a row.

    Args:
        patience: See `Patience`.
        failures: 1 after the first.
        draw: From 0 to 1. Many clients that were cut off at once must not come back at once.
        wanted: What the server asked for; never less than that.
    """
    longest = min(patience.longest, patience.first * 2.0 ** (failures - 1))
    return max(longest * (0.5 + 0.5 * draw), wanted or 0.0)


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds that the header Retry-After asks for: a number, or a date; None where it says neither.

    Args:
        text: The header's value.
        now: Unix seconds.
    """
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
    return max(0.0, date.timestamp() - now)
