"""Commands of SLURM, called so that neither the user's variables nor another job's change what they do."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segctl.launch.environment import cleaned

SECONDS = 60.0

_ABSENT = 127  # as a shell has it
# These would change which rows and columns are shown; what other jobs and sbatch itself read, `cleaned` leaves out.
_UNWANTED = ("SINFO_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")


@dataclass(frozen=True)
class Said:
    """What a command gave.

    Attributes:
        code: Its exit code; 127 where there is no such command, 124 where it did not answer in time.
        out: Its standard output.
        err: Its standard error, line by line without ``sbatch: error:`` and the like.
    """

    code: int
    out: str
    err: str

    @property
    def absent(self) -> bool:
        """Whether there is no such command here."""
        return self.code == _ABSENT

    @property
    def unreachable(self) -> bool:
        """Whether slurmctld did not answer."""
        said = self.err.lower()
        return self.code == 124 or "contact slurm controller" in said or "connect failure" in said


def environment() -> dict[str, str]:
    """What SLURM's commands are called with."""
    kept = {name: value for name, value in cleaned(os.environ).items() if not name.startswith(_UNWANTED)}
    return {**kept, "LC_ALL": "C"}


def said_by(
    words: Sequence[str], *, text: str = "", seconds: float = SECONDS, variables: Mapping[str, str] = {}
) -> Said:
    """Calls a command and waits for it; whatever becomes of it is told.

    Args:
        words: Command and arguments.
        text: Its standard input.
        seconds: After these it counts as not answering.
        variables: Go on top of `environment`.
    """
    try:
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env={**environment(), **variables},
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
            check=False,
        )
    except FileNotFoundError:
        return Said(_ABSENT, "", f"there is no {words[0]} on this machine")
    except subprocess.TimeoutExpired:
        return Said(124, "", f"{words[0]} did not answer within {seconds:.0f} s")
    except OSError as error:
        return Said(126, "", f"{words[0]} cannot be run: {error.strerror}")
    return Said(done.returncode, done.stdout, _bare(done.stderr, words[0]))


def _bare(errors: str, command: str) -> str:
    prefixes = re.compile(rf"^({command}: |error: |allocation failure: |slurm_\w+: )+")
    return "\n".join(bare for line in errors.splitlines() if (bare := prefixes.sub("", line.strip())))
