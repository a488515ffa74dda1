"""Time limits as SLURM writes them."""

from __future__ import annotations

import re

_FORMS = (
    re.compile(r"(?P<minutes>\d+)(:(?P<seconds>\d+))?"),
    re.compile(r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)"),
    re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?"),
)
_SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def parse_time_limit(text: str) -> int:
    """Seconds of a time limit: ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M`` or ``D-H:M:S`` (sbatch(1), --time).

    Raises:
        ValueError: It has another form, or is zero, which SLURM takes for no limit at all.
    """
    for form in _FORMS:
        match = form.fullmatch(text.strip())
        if match:
            seconds = sum(int(value) * _SECONDS[name] for name, value in match.groupdict().items() if value)
            if seconds > 0:
                return seconds
    raise ValueError("not a time limit")
