"""HTTP sessions that keep names, passwords and cookies to whom they are for, whatever a server redirects to.

requests reads ~/.netrc again at every redirect, with its `default` entry for any host, and sends what it finds over
http too. Here it is looked up for the exact host that was asked for, and sent by https or to this very machine only.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from segctl import __version__
from segctl.download.address import is_downgraded, is_private, same_server

__all__ = ["DowngradedError", "Session", "from_netrc"]

_TIMEOUT = (20.0, 60.0)  # seconds: to connect, and without a byte


class DowngradedError(requests.exceptions.RequestException):
    """A redirect leads from where nobody listens to where everybody can."""


def from_netrc(host: str) -> tuple[str, str] | None:
    """Name and password of exactly this host in ~/.netrc ($NETRC); a `default` entry is for no host here."""
    path = Path(os.environ.get("NETRC") or os.path.expanduser("~/.netrc"))
    try:
        found = netrc.netrc(str(path)).hosts.get(host) if host != "default" else None
    except (OSError, UnicodeError, netrc.NetrcParseError):
        return None
    return (found[0], found[2] or "") if found else None


class Session(requests.Session):
    """Says who is asking, gives up a silent server, and follows redirects.

    Proxies and certificates are taken from the environment, ~/.netrc as the module says.

    Args:
        login: An address behind a login, if it is for one. Cookies are as good as a password then: no Basic
            authentication, and no request that is safe from listeners any less than one to this address.
    """

    def __init__(self, login: str = "") -> None:
        super().__init__()
        # No transfer encoding: what is counted, resumed and hashed are the bytes of the file itself.
        self.headers.update({"User-Agent": f"segctl/{__version__}", "Accept-Encoding": "identity"})
        self._login = login
        self.auth = _nothing if login else _by_netrc  # without one requests reads ~/.netrc by itself

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        """Called for each request, also where a redirect leads. Raises DowngradedError."""
        url = str(request.url)
        if self._login and is_downgraded(self._login, url):
            raise DowngradedError(f"its server leads on to {urlsplit(url).hostname}, without https")
        return super().send(request, **{**how, "timeout": _TIMEOUT})

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called at each redirect."""
        before, now = str(response.request.url), str(prepared_request.url)
        if not same_server(before, now) or is_downgraded(before, now):
            prepared_request.headers.pop("Authorization", None)


def _nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _by_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    found = from_netrc(urlsplit(str(request.url)).hostname or "") if is_private(str(request.url)) else None
    return HTTPBasicAuth(*found)(request) if found else request
