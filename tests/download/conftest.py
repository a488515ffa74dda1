from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from planted import Unpack, plant
from server import Server, serving

from segctl.download.stopping import Stop
from segctl.download.unpack import Unpacked, unpack
from segctl.plugin import Archive


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def secure(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, whose port speaks https too, with a certificate that is trusted here."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not there")
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*made, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True, timeout=60)
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate)
    return server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Installs a data set `toy` that is published as these archives; gives the folder for the import path."""

    def install(*archives: Archive, name: str = "toy", **more: object) -> str:
        folder = plant(tmp_path / f"plugin-{name}", {name: archives}, **more)  # type: ignore[arg-type]
        monkeypatch.syspath_prepend(folder)
        return folder

    return install


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "toy"


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Unpack:
    """Unpacks bytes as an archive."""

    def unpacked(content: bytes, name: str = "toy.archive", **how: object) -> Unpacked:
        archive = tmp_path / name
        archive.write_bytes(content)
        given = {"key": name, "digest": "d" * 12, "report": lambda done, total: None, "stop": Stop(), **how}
        return unpack(archive, root, **given)  # type: ignore[arg-type]

    return unpacked
