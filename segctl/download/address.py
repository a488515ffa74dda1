"""What an address tells without being asked: where it leads, who can listen on the way, and what of it may be shown."""

from __future__ import annotations

import hashlib
import ipaddress
from urllib.parse import urlsplit

__all__ = ["identity", "is_downgraded", "is_private", "same_server", "shown"]


def shown(url: str) -> str:
    """An address for messages and logs: without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def identity(url: str) -> str:
    """Tells an address from others without giving its query away."""
    return f"{shown(url)} {hashlib.sha256(url.encode()).hexdigest()[:16]}"


def is_private(url: str) -> bool:
    """Whether nobody listens on the way: https, or this very machine."""
    host = urlsplit(url).hostname or ""
    if urlsplit(url).scheme == "https" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_downgraded(url: str, onward: str) -> bool:
    """Whether a secret that may be sent to `url` may not be sent to `onward`, where that leads."""
    return not is_private(onward) or (urlsplit(url).scheme == "https" and urlsplit(onward).scheme != "https")


def same_server(url: str, other: str) -> bool:
    """Whether two addresses are of one host and port; http and https have different ones unless they say otherwise."""
    return _server(url) == _server(other)


def _server(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
