"""Downloads: what data sets are published as, fetched, verified and unpacked so that it may be cut off anywhere."""

from __future__ import annotations

from segctl.download.command import Downloaded, download
from segctl.download.stopping import StoppedError
from segctl.download.work import Event, FileResult

__all__ = ["Downloaded", "Event", "FileResult", "StoppedError", "download"]
