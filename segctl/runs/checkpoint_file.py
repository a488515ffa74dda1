"""Whether a checkpoint is whole: it is a zip archive (torch's format), every record of which carries a CRC-32."""

from __future__ import annotations

import zipfile
from pathlib import Path

from segctl.errors import CheckpointError

__all__ = ["verify"]


def verify(path: Path, hint: str = "") -> None:
    """Reads all of a checkpoint and compares the checksums; what they cover need not be understood.

    Args:
        hint: The way out, for the message.

    Raises:
        CheckpointError: There is no such file, it cannot be read, was cut off, or a bit of it has changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {path}.", hint) from None
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror or error}.", hint) from error
    except Exception as error:  # what zipfile raises on damage is not a fixed set
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}.", hint) from error
    if record is not None:
        raise CheckpointError(f"The checkpoint {path} is damaged: the checksum of its record {record} is wrong.", hint)
