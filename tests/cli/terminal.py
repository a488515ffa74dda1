"""A terminal with a person at it: reads the screen, types, and can be closed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from programs import SEGCTL

CTRL_C = "\x03"


class Terminal:
    """Runs ``segctl`` as the foreground program of a pseudo-terminal of 100 columns."""

    def __init__(self, *argv: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [SEGCTL, *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._screen = ""
        self._seen = 0

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        """Reads on until `pattern` appears after what an earlier call found; returns all that was read."""
        deadline = time.monotonic() + seconds
        while (match := re.compile(pattern).search(self._screen, self._seen)) is None:
            if time.monotonic() > deadline or not self._read(0.2):
                raise AssertionError(f"{pattern!r} did not appear on the screen:\n{self._screen}")
        self._seen = match.end()
        return self._screen

    def _read(self, seconds: float) -> bool:
        """Whether there may be more to come."""
        if select.select([self._master], [], [], seconds)[0]:
            try:
                new = os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # the program has ended
                return False
            # Without the control sequences that move the cursor and colour the text.
            self._screen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", new)
        return True

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self, seconds: float = 120) -> tuple[int, str]:
        """Waits for the program's end; its exit code and all that was on the screen."""
        deadline = time.monotonic() + seconds
        while self._read(0.2):
            assert time.monotonic() < deadline, self._screen
        return self.process.wait(timeout=30), self._screen

    def close(self) -> None:
        """Closes the window, as a lost connection does."""
        os.close(self._master)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
