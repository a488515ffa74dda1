"""Servers that give their files only to who has an account.

Cityscapes: a form at ``/login`` takes name and password and answers 302 where they are right; from then on the session
may ask ``/md5-sum/?packageID=N`` and fetch ``/file-handling/?packageID=N``, with Range. That is what the official tool
csDownload does (https://github.com/mcordts/cityscapesScripts).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from segctl.download.address import is_downgraded, is_private, same_server, shown
from segctl.download.session import Session, from_netrc
from segctl.errors import DownloadError, PluginError, listing

if TYPE_CHECKING:
    from segctl.plugin import Archive

__all__ = ["Ask", "Credentials", "Logins", "credentials_for", "known_login"]

Credentials = tuple[str, str]
Ask = Callable[[str], Credentials | None]

_VARIABLES = {"cityscapes": ("CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD")}
_MD5 = re.compile(r"\b[0-9a-fA-F]{32}\b")


def known_login(archive: Archive) -> None:
    """Raises PluginError where an archive declares a login procedure that there is none of."""
    if archive.login and archive.login not in _VARIABLES:
        raise PluginError(
            f"The archive {archive.file} declares the login {archive.login!r}, which this segctl does not have.",
            f"There is {listing(sorted(_VARIABLES))}.",
        )


def credentials_for(login: str, host: str, ask: Ask) -> Credentials:
    """Name and password: from the environment, else from ~/.netrc ($NETRC), else from who sits at the terminal.

    Raises:
        DownloadError: They are nowhere.
    """
    user, password = (os.environ.get(name, "") for name in _VARIABLES[login])
    found = (user, password) if user and password else from_netrc(host) or ask(host)
    if found is None:
        name, secret = _VARIABLES[login]
        raise DownloadError(
            f"{host} wants a login, and no name and password for it are known.",
            f"Set {name} and {secret}, or write 'machine {host} login NAME password PASSWORD' into ~/.netrc; an "
            f"account is free at {host}.",
        )
    return found


class Logins:
    """Logs in once for each server; several threads share what came of it.

    Args:
        ask: Asks a person for name and password of a host; gives None where there is nobody.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._credentials: dict[str, Credentials] = {}
        self._cookies: dict[str, requests.cookies.RequestsCookieJar] = {}

    def gather(self, archive: Archive) -> Credentials:
        """Name and password for an archive's server; a person is asked once.

        Raises:
            DownloadError: They are nowhere, or must not be sent there.
        """
        return self._credentials_of(archive, self._ask)

    def _credentials_of(self, archive: Archive, ask: Ask) -> Credentials:
        host = urlsplit(archive.url).hostname or ""
        _refuse_open_line(archive.url)
        if host not in self._credentials:
            self._credentials[host] = credentials_for(archive.login, host, ask)
        return self._credentials[host]

    def session(self, archive: Archive, url: str, *, anew: bool) -> Session:
        """A session that may fetch `url`, which is the archive's own. No person is asked here: see `gather`.

        Args:
            archive: With its `login`.
            url: Where it is.
            anew: The server did not know the last one any more.

        Raises:
            DownloadError: The login is refused, or name and password are nowhere.
            requests.RequestException: The server cannot be reached.
        """
        session = Session(url)
        with self._lock:
            if anew or url_root(url) not in self._cookies:
                _log_in(session, url, self._credentials_of(archive, lambda host: None))
                self._cookies[url_root(url)] = session.cookies
        session.cookies.update(self._cookies[url_root(url)])
        if not anew:
            _refuse_another_file(session, archive, url)
        return session


def url_root(url: str) -> str:
    return urljoin(url, "/")


def _refuse_open_line(url: str) -> None:
    if not is_private(url):
        raise DownloadError(
            f"{shown(url)} wants a login, but its address is not https: a password would be sent in the open.",
            "Fetch the file in another way and give it with --from.",
        )


def _log_in(session: Session, url: str, credentials: Credentials) -> None:
    user, password = credentials
    form = {"username": user, "password": password, "submit": "Login"}
    address = urljoin(url, "/login")
    for _ in range(2):
        response = session.post(address, data=form, allow_redirects=False)
        response.close()
        onward = urljoin(address, response.headers.get("Location", ""))
        if response.status_code in (301, 307, 308) and urlsplit(onward).path.rstrip("/") == "/login":
            _refuse_elsewhere(address, onward)
            address = onward
            continue
        if response.status_code == 302:
            return
        response.raise_for_status()
        break
    raise DownloadError(
        f"{shown(address)} does not accept this name and password.",
        "Check CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD, or ~/.netrc.",
    )


def _refuse_elsewhere(address: str, onward: str) -> None:
    """A password goes to the server that it is for, and no less safely than was begun."""
    if is_downgraded(address, onward) or not same_server(address, onward):
        raise DownloadError(
            f"{shown(address)} leads on to {shown(onward)}: name and password are not sent there.",
            "Fetch the file in another way and give it with --from.",
        )


def _refuse_another_file(session: Session, archive: Archive, url: str) -> None:
    """Asks for the server's own checksum: a file that has been replaced is not fetched for hours to find that out."""
    package = parse_qs(urlsplit(url).query).get("packageID")
    if not package or not archive.md5:
        return
    address = urljoin(url, f"/md5-sum/?packageID={package[0]}")
    response = session.get(address)
    said = _MD5.search(response.text) if response.status_code == 200 else None
    if said is not None and said[0].lower() != archive.md5.lower():
        raise DownloadError(
            f"{archive.file} has been replaced at {shown(url)}: its md5 there is {said[0].lower()}, not {archive.md5}.",
            "A newer segctl may know the new file; or give the old one with --from.",
        )
