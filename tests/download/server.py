"""A web server on loopback that behaves as badly as servers and lines do, and keeps account of what it has sent."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Served:
    """A file, and how it is served.

    Attributes:
        content: Its bytes.
        etag: Empty for none; so is `modified`.
        ranges: Range is understood; else the whole is sent with 200.
        if_range: If-Range is understood; else a part of whatever there is now is sent.
        cuts: After how many bytes of its body each of the first responses is cut off.
        gone: After those it is gone (404).
        drop: The share of all responses that are cut off at a random byte.
        length: What Content-Length says, where it lies; "none": nothing, the body is chunked.
        first: Status codes and headers of the first responses, which have no body.
        always: The same, of all responses.
        headers: Further ones.
        pace: Seconds between two pieces of 16 KiB.
    """

    content: bytes = b""
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True
    if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    gone: bool = False
    drop: float = 0.0
    length: int | str | None = None
    first: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    always: tuple[int, dict[str, str]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pace: float = 0.0


@dataclass
class Asked:
    """A request, and what was sent: `sent` bytes of the body, from `start` on. `at` and `until` are monotonic."""

    method: str
    path: str
    headers: Mapping[str, str]
    at: float
    status: int = 0
    start: int = 0
    sent: int = 0
    secure: bool = False
    until: float = 0.0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.account: tuple[str, str] | None = None  # of the Cityscapes login
        self.known_sessions: set[str] = set()
        self.forget = 0  # after so many files a server does not know who is logged in any more
        self.packages: dict[str, str] = {}  # packageID: path of the file
        self.sums: dict[str, str] = {}  # packageID: what /md5-sum/ says
        self.login_elsewhere = ""  # where those are sent on who log in over https
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.tls: ssl.SSLContext | None = None  # with it the same port speaks https too

    @property
    def secure_url(self) -> str:
        return self.url.replace("http:", "https:")

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None and request.recv(1, socket.MSG_PEEK) == b"\x16":  # how a TLS connection begins
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def serve(self, path: str, content: bytes, **how: Any) -> str:
        """Serves a file; returns its address."""
        self.files[path] = Served(content, **how)
        return f"{self.url}{path}"

    def of(self, path: str) -> list[Asked]:
        return [each for each in self.asked if each.path.partition("?")[0] == path]

    def sent(self, path: str) -> int:
        return sum(each.sent for each in self.of(path))

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


@contextlib.contextmanager
def serving(seed: int = 0) -> Iterator[Server]:
    server = Server(seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits for the acknowledgement of its headers
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = self._note("GET")
        path, _, query = self.path.partition("?")
        if path in ("/file-handling/", "/md5-sum/"):
            package = parse_qs(query).get("packageID", [""])[0]
            if not self._is_known():
                self._send(asked, 302, {"Location": "/login/"})
            elif path == "/md5-sum/":
                self._send(asked, 200, {}, f"{self.server.sums[package]}  file.zip\n".encode())
            else:
                self._file(asked, self.server.files[self.server.packages[package]])
                if self.server.forget > 0:
                    self.server.forget -= 1
                    self.server.known_sessions.clear()
        elif path == "/login/":
            self._send(asked, 200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Please log in</html>")
        elif path in self.server.files:
            self._file(asked, self.server.files[path])
        else:
            self._send(asked, 404, {}, b"not here")

    def do_POST(self) -> None:
        asked = self._note("POST")
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        given = (form.get("username", [""])[0], form.get("password", [""])[0])
        if self.path != "/login":
            self._send(asked, 404, {})
        elif asked.secure and self.server.login_elsewhere:
            self._send(asked, 308, {"Location": self.server.login_elsewhere})
        elif self.server.account == given:
            session = f"session{len(self.server.known_sessions)}-{time.monotonic_ns()}"
            self.server.known_sessions.add(session)
            self._send(asked, 302, {"Location": "/", "Set-Cookie": f"PHPSESSID={session}; path=/"})
        else:
            self._send(asked, 200, {"Content-Type": "text/html"}, b"<html>Wrong password</html>")

    def _is_known(self) -> bool:
        found = re.search(r"PHPSESSID=([\w-]+)", self.headers.get("Cookie", ""))
        return found is not None and found[1] in self.server.known_sessions

    def _note(self, method: str) -> Asked:
        asked = Asked(method, self.path, dict(self.headers.items()), time.monotonic())
        asked.secure = isinstance(self.connection, ssl.SSLSocket)
        with self.server.lock:
            self.server.asked.append(asked)
        return asked

    def _send(self, asked: Asked, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        asked.status = status
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def _file(self, asked: Asked, served: Served) -> None:
        with self.server.lock:
            answer = served.first.pop(0) if served.first else served.always
            answer = (404, {}) if served.gone and not served.cuts else answer
            cut = served.cuts.pop(0) if served.cuts else None
            dropped = self.server.random.random() < served.drop
            place = self.server.random.random()
        if answer is not None:
            self._send(asked, *answer, b"no")
            return
        start = self._start(served)
        if start is not None and start >= len(served.content):
            self._send(asked, 416, {"Content-Range": f"bytes */{len(served.content)}"})
            return
        asked.status, asked.start = (200, 0) if start is None else (206, start)
        body = served.content[asked.start :]
        if dropped:
            cut = int(place * len(body))
        self.send_response(asked.status)
        for name, text in self._headers(served, body, asked).items():
            self.send_header(name, text)
        self.end_headers()
        self._body(asked, served, body if cut is None else body[:cut], chunked=served.length == "none")
        if cut is not None or (isinstance(served.length, int) and served.length != len(served.content)):
            self._hang_up()

    def _start(self, served: Served) -> int | None:
        """Where the body begins; None: all of it, as an answer to a request without a range."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        changed = condition is not None and served.if_range and condition not in (served.etag, served.modified)
        return int(found[1]) if found and served.ranges and not changed else None

    def _headers(self, served: Served, body: bytes, asked: Asked) -> dict[str, str]:
        said = served.length if isinstance(served.length, int) else len(served.content)
        length = {"Transfer-Encoding": "chunked"} if served.length == "none" else {}
        length = length or {"Content-Length": str(said - asked.start)}
        span = {"Content-Range": f"bytes {asked.start}-{said - 1}/{said}"} if asked.status == 206 else {}
        validators = {"ETag": served.etag, "Last-Modified": served.modified}
        return {**length, **span, **{name: text for name, text in validators.items() if text}, **served.headers}

    def _body(self, asked: Asked, served: Served, body: bytes, *, chunked: bool) -> None:
        for at in range(0, len(body), 2**14):
            piece = body[at : at + 2**14]
            asked.until = time.monotonic()  # before: who has all of it may look at once
            asked.sent += len(piece)
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            except OSError:
                asked.sent -= len(piece)
                raise
            if served.pace:
                time.sleep(served.pace)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _hang_up(self) -> None:
        """Half of the time as a server that ends does, else as a line that breaks."""
        self.close_connection = True
        self.wfile.flush()
        with self.server.lock:
            breaks = self.server.random.random() < 0.5
        if breaks:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
