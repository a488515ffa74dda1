"""Names, passwords and cookies go to whom they are for, and by a way on which nobody listens."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from planted import ZIP, Install, facts
from server import Server

import segctl
from segctl.download.address import is_downgraded, is_private
from segctl.download.session import Session, from_netrc
from segctl.errors import DownloadError

MD5 = hashlib.md5(ZIP).hexdigest()
ACCOUNT = ("somebody", "correct horse")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITYSCAPES_USERNAME", ACCOUNT[0])
    monkeypatch.setenv("CITYSCAPES_PASSWORD", ACCOUNT[1])


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a password for this machine by its number, and one for everybody else."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login bob password mine\ndefault login any password everybodys\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return path


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def streets(secure: Server, published: Install) -> Server:
    """A data set behind Cityscapes' login, by https."""
    secure.account, secure.packages["3"], secure.sums["3"] = ACCOUNT, "/toy.zip", MD5
    secure.serve("/toy.zip", ZIP)
    archive = facts(f"{secure.secure_url}/file-handling/?packageID=3", ZIP, file="toy.zip", login="cityscapes")
    published(replace(archive, md5=MD5))
    return secure


def test_a_login_by_https(streets: Server, account: None, data: Path) -> None:
    segctl.download("toy", data_root=data)
    assert (data / "toy/toy/photo.jpg").is_file()
    assert all(each.secure for each in streets.asked)


def test_a_login_that_is_moved_to_http_gets_no_password(streets: Server, account: None, data: Path) -> None:
    streets.login_elsewhere = f"{streets.url}/login"

    with pytest.raises(DownloadError, match=r"leads on to http://127.*: name and password are not sent there"):
        segctl.download("toy", data_root=data)

    assert [(each.path, each.secure) for each in streets.asked if each.method == "POST"] == [("/login", True)]
    assert all(each.secure for each in streets.asked)


def test_a_login_that_is_moved_to_another_server_gets_no_password(streets: Server, account: None, data: Path) -> None:
    streets.login_elsewhere = f"{streets.secure_url.replace('127.0.0.1', 'localhost')}/login"

    with pytest.raises(DownloadError, match="name and password are not sent there"):
        segctl.download("toy", data_root=data)
    assert len([each for each in streets.asked if each.method == "POST"]) == 1


def test_a_file_behind_a_login_is_not_followed_into_the_open(streets: Server, account: None, data: Path) -> None:
    streets.files["/toy.zip"].always = (302, {"Location": f"{streets.url}/open.zip"})
    streets.serve("/open.zip", ZIP)

    with pytest.raises(DownloadError, match=r"leads on to 127\.0\.0\.1, without https"):
        segctl.download("toy", data_root=data)
    assert streets.of("/open.zip") == []


def test_a_login_takes_its_cookies_and_nothing_of_netrc(
    streets: Server, account: None, netrc: Path, data: Path
) -> None:
    streets.files["/toy.zip"].always = (302, {"Location": f"{streets.secure_url}/there.zip"})
    streets.serve("/there.zip", ZIP)

    segctl.download("toy", data_root=data)

    assert len(streets.of("/there.zip")) == 1
    assert all("Authorization" not in each.headers for each in streets.asked)


def test_netrc_is_for_the_host_that_was_asked_for(server: Server, published: Install, netrc: Path, data: Path) -> None:
    server.serve("/there.zip", ZIP)
    elsewhere = server.url.replace("127.0.0.1", "localhost")  # has the `default` entry alone
    published(facts(server.serve("/toy.zip", b"", always=(302, {"Location": f"{elsewhere}/there.zip"})), ZIP))

    segctl.download("toy", data_root=data)

    assert server.of("/toy.zip")[0].headers["Authorization"] == basic("bob", "mine")
    assert "Authorization" not in server.of("/there.zip")[0].headers


def test_netrc_is_not_read_for_where_a_redirect_leads(
    server: Server, published: Install, netrc: Path, data: Path
) -> None:
    server.serve("/there.zip", ZIP)
    url = server.serve("/toy.zip", b"", always=(302, {"Location": f"{server.url}/there.zip"}))
    published(facts(url.replace("127.0.0.1", "localhost"), ZIP))

    segctl.download("toy", data_root=data)

    assert len(server.asked) == 2
    assert all("Authorization" not in each.headers for each in server.asked)


def test_netrc_does_not_go_from_https_to_http(secure: Server, published: Install, netrc: Path, data: Path) -> None:
    secure.serve("/there.zip", ZIP)
    url = secure.serve("/toy.zip", b"", always=(302, {"Location": f"{secure.url}/there.zip"}))
    published(facts(url.replace("http:", "https:"), ZIP))

    segctl.download("toy", data_root=data)

    assert secure.of("/toy.zip")[0].headers["Authorization"] == basic("bob", "mine")
    assert "Authorization" not in secure.of("/there.zip")[0].headers


def test_netrc_has_nothing_for_http_in_the_open(netrc: Path) -> None:
    netrc.write_text("machine example.org login bob password mine\n")
    prepare = Session().prepare_request
    assert "Authorization" not in prepare(requests.Request("GET", "http://example.org/toy.zip")).headers
    sent = prepare(requests.Request("GET", "https://example.org/toy.zip")).headers
    assert sent["Authorization"] == basic("bob", "mine")
    assert "Authorization" not in prepare(requests.Request("GET", "https://www.example.org/toy.zip")).headers


def test_a_default_entry_is_for_nobody(netrc: Path) -> None:
    assert from_netrc("127.0.0.1") == ("bob", "mine")
    assert from_netrc("example.org") is None
    assert from_netrc("default") is None


@pytest.mark.parametrize(
    ("url", "onward", "downgraded"),
    [
        ("https://a/x", "https://b/x", False),
        ("https://a/x", "http://a/x", True),
        ("https://127.0.0.1/x", "http://127.0.0.1/x", True),
        ("http://127.0.0.1/x", "http://[::1]/x", False),
        ("http://127.0.0.1/x", "http://a/x", True),
    ],
)
def test_what_leads_into_the_open(url: str, onward: str, downgraded: bool) -> None:
    assert is_downgraded(url, onward) is downgraded


def test_where_nobody_listens() -> None:
    private = ["https://a", "http://localhost:8000", "http://127.0.0.2", "http://[::1]:80"]
    assert all(is_private(url) for url in private)
    assert not any(
        is_private(url) for url in ["http://a", "http://127.0.0.1.example.org", "http://10.0.0.1", "http://"]
    )
