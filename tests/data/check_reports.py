"""What a report of `segctl data check` holds, as the tests compare it."""

from __future__ import annotations

from segctl.data_check.check import DataReport


def found(report: DataReport) -> set[tuple[str, str]]:
    return {(finding.kind, case.file) for finding in report.findings for case in finding.cases}


def told(report: DataReport, kind: str) -> list[tuple[str, str, str]]:
    """Split, file and words of each case of a kind."""
    cases = [case for finding in report.findings if finding.kind == kind for case in finding.cases]
    return [(case.split, case.file, case.what) for case in cases]
