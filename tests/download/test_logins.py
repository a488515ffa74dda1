"""Servers that give their files only to who has an account: who is asked for a password, when, and what is told."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from planted import ZIP, Install, facts, is_whole
from server import Server

import segctl
from segctl.errors import DownloadError, PluginError
from segctl.plugin import Archive

ACCOUNT = ("somebody", "correct horse")
MD5 = hashlib.md5(ZIP).hexdigest()


@pytest.fixture
def streets(server: Server, published: Install, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """A data set behind Cityscapes' login, and a user who has not said name and password anywhere."""
    server.account = ACCOUNT
    server.serve("/toy.zip", ZIP, cuts=[100_000], pace=0.001)
    server.packages["3"] = "/toy.zip"
    archive = facts(f"{server.url}/file-handling/?packageID=3", ZIP, file="toy.zip", login="cityscapes")
    archive = replace(archive, md5=MD5)
    server.sums["3"] = MD5
    published(archive)
    for name in ("CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    return archive


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITYSCAPES_USERNAME", ACCOUNT[0])
    monkeypatch.setenv("CITYSCAPES_PASSWORD", ACCOUNT[1])


def test_who_is_logged_in_fetches_and_resumes(streets: Archive, known: None, server: Server, data: Path) -> None:
    segctl.download("toy", data_root=data)

    assert is_whole(data)
    assert [each.path for each in server.asked if each.method == "POST"] == ["/login"]
    first, second = server.of("/file-handling/")
    assert (first.status, second.status) == (200, 206)
    assert 0 < second.start <= 100_000
    assert all("Authorization" not in each.headers for each in server.asked)


def test_name_and_password_from_netrc(
    streets: Archive, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f'machine 127.0.0.1\nlogin {ACCOUNT[0]}\npassword "{ACCOUNT[1]}"\n')
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    segctl.download("toy", data_root=data)
    assert is_whole(data)


def test_name_and_password_from_a_person(streets: Archive, data: Path) -> None:
    asked: list[str] = []

    def ask(host: str) -> tuple[str, str]:
        asked.append(host)
        return ACCOUNT

    segctl.download("toy", data_root=data, ask=ask)
    assert is_whole(data)
    assert asked == ["127.0.0.1"]


def test_without_name_and_password_it_is_said_how_to_give_them(streets: Archive, server: Server, data: Path) -> None:
    with pytest.raises(DownloadError, match=r"127.0.0.1 wants a login") as refused:
        segctl.download("toy", data_root=data)
    assert "CITYSCAPES_USERNAME" in refused.value.hint
    assert "netrc" in refused.value.hint
    assert server.asked == []


def test_a_wrong_password_is_told_and_never_repeated(
    streets: Archive, known: None, server: Server, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: object
) -> None:
    monkeypatch.setenv("CITYSCAPES_PASSWORD", "battery staple")
    said: list[str] = []
    with pytest.raises(DownloadError, match="does not accept this name and password") as refused:
        segctl.download("toy", data_root=data, on_event=lambda event: said.append(repr(event)))
    assert "battery" not in f"{refused.value} {said} {caplog.text}"  # type: ignore[attr-defined]
    assert server.of("/file-handling/") == []
    assert not any("battery" in path.read_text(errors="replace") for path in data.rglob("*") if path.is_file())


def test_a_session_that_ends_is_opened_again(streets: Archive, known: None, server: Server, data: Path) -> None:
    server.files["/toy.zip"].cuts = [100_000, 100_000]
    server.forget = 2

    segctl.download("toy", data_root=data)

    assert is_whole(data)
    assert [each.path for each in server.asked if each.method == "POST"] == ["/login"] * 3
    assert server.of("/file-handling/")[-1].start > 100_000


def test_a_file_that_was_replaced_there_is_noticed_before(
    streets: Archive, known: None, server: Server, data: Path
) -> None:
    server.sums["3"] = "0" * 32
    with pytest.raises(DownloadError, match="has been replaced at"):
        segctl.download("toy", data_root=data)
    assert server.of("/file-handling/") == []


def test_a_mirror_needs_no_login(streets: Archive, server: Server, data: Path) -> None:
    server.serve("/near/toy.zip", ZIP)
    segctl.download("toy", data_root=data, mirror=f"{server.url}/near")
    assert is_whole(data)


def test_who_has_a_mirror_is_not_asked_for_a_password(streets: Archive, server: Server, data: Path) -> None:
    asked: list[str] = []
    with pytest.raises(DownloadError, match=r"127.0.0.1 wants a login, and no name and password"):
        segctl.download("toy", data_root=data, mirror=f"{server.url}/near", ask=lambda host: asked.append(host))
    assert [each.path for each in server.asked] == ["/near/toy.zip"]
    assert asked == []


def test_a_password_is_not_sent_in_the_open(published: Install, known: None, data: Path) -> None:
    published(replace(facts("http://example.org/file-handling/?packageID=3", ZIP, file="toy.zip"), login="cityscapes"))
    with pytest.raises(DownloadError, match="a password would be sent in the open"):
        segctl.download("toy", data_root=data)


def test_a_login_that_nobody_knows_is_the_plugins_mistake(published: Install, data: Path) -> None:
    published(facts("https://example.org/toy.zip", ZIP, login="sesame"))
    with pytest.raises(PluginError, match="declares the login 'sesame'"):
        segctl.download("toy", data_root=data)
