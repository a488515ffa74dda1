"""What the conformance kit finds out: checks, how they are run one after another, and how they read."""

from __future__ import annotations

import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from segctl.errors import SegctlError

_LIBRARIES = {"torch", "torchvision", "numpy", "PIL", "pydantic", "pydantic_core"}


@dataclass(frozen=True)
class Check:
    """One part of the contract, tried on one plugin.

    Attributes:
        name: What was tried, such as ``"state dict"``; unique within a report.
        passed: Whether the plugin keeps this part of the contract. False also where it was not tried.
        detail: What is wrong and where; for a check that was not tried, why; else what was seen, or nothing.
        seconds: How long it took.
        skipped: It was not tried: data are not on disk, or an earlier check failed that it builds on.
    """

    name: str
    passed: bool
    detail: str = ""
    seconds: float = 0.0
    skipped: bool = False

    @property
    def failed(self) -> bool:
        return not self.passed and not self.skipped


@dataclass(frozen=True)
class Report:
    """The checks of one installed plugin.

    Attributes:
        kind: ``"models"``, ``"datasets"`` or ``"losses"``.
        name: The plugin's name.
        distribution: The distribution that offers it.
        checks: In the order in which they ran.
    """

    kind: str
    name: str
    distribution: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.failed)

    @property
    def skipped(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.skipped)

    @property
    def passed(self) -> bool:
        """Nothing failed; what was skipped says nothing either way."""
        return not self.failures

    @property
    def seconds(self) -> float:
        return sum(check.seconds for check in self.checks)


class BreachError(Exception):
    """Raised by a check: the plugin breaks the contract; the message says what is wrong and where."""


class SkipError(Exception):
    """Raised by a check that cannot be tried; the message says what is missing."""


@dataclass(frozen=True)
class Step:
    """A check to run.

    Attributes:
        name: The name of the resulting `Check`.
        run: Does it; returns a detail worth reading, or None. Raises `BreachError` or `SkipError`; any other exception
            counts as the plugin's failure.
        gate: All later steps build on it: if it does not pass they are not tried.
        needs: Names of earlier steps that this one builds on: if one of them did not pass, it is not tried.
    """

    name: str
    run: Callable[[], str | None]
    gate: bool = False
    needs: tuple[str, ...] = ()


def run_steps(steps: Iterable[Step]) -> tuple[Check, ...]:
    checks: list[Check] = []
    closed: Check | None = None
    for step in steps:
        unmet = closed or next((check for check in checks if check.name in step.needs and not check.passed), None)
        if unmet is not None:
            reason = f"not tried, because '{unmet.name}' {'was skipped' if unmet.skipped else 'failed'}"
            checks.append(Check(step.name, passed=False, detail=reason, skipped=True))
            continue
        checks.append(_run(step))
        if step.gate and not checks[-1].passed:
            closed = checks[-1]
    return tuple(checks)


def _run(step: Step) -> Check:
    start = time.perf_counter()
    passed, skipped = False, False
    try:
        detail = step.run() or ""
        passed = True
    except BreachError as breach:
        detail = str(breach)
    except SkipError as skip:
        detail, skipped = str(skip), True
    except SegctlError as error:
        detail = str(error)
    except Exception as error:
        detail = describe_exception(error)
    return Check(step.name, passed, detail, time.perf_counter() - start, skipped)


def describe_exception(error: BaseException) -> str:
    """One line: type, message, and the last place in the plugin's own files, which is where its author looks first."""
    message = " ".join(str(error).split()) or "no message"
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if _may_be_plugin_code(frame.filename)]
    where = f" ({places[-1].filename}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {message}{where}"


def _may_be_plugin_code(filename: str) -> bool:
    path = Path(filename)
    if not path.is_absolute() or path.parent == Path(__file__).parent:  # "<string>", or this kit
        return False
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1] not in _LIBRARIES
    return not path.is_relative_to(sysconfig.get_paths()["stdlib"])


def describe_checks(subject: str, checks: Iterable[Check]) -> str:
    """A list for people, worst first: what failed and why, what was not tried, and how many passed."""
    checks = tuple(checks)
    failed = [check for check in checks if check.failed]
    skipped = [check for check in checks if check.skipped]
    lines = [f"{subject} fails {len(failed)} of {len(checks)} conformance checks:" if failed else f"{subject}:"]
    lines += [f"  failed   {check.name}: {check.detail}" for check in failed]
    lines += [f"  skipped  {check.name}: {check.detail}" for check in skipped]
    lines.append(f"  passed   {', '.join(check.name for check in checks if check.passed) or 'none'}")
    return "\n".join(lines)
