"""Fixtures and report sections that every test may use."""

from __future__ import annotations

from collections import Counter

import pytest

from common.collecting import set_aside
from tests.engines import SKIPPED

pytest_plugins = ["tests.engines.fixtures"]


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: a fifth of a worker's time went into walking it again."""
    set_aside()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which engines were missing: a green run without them has proved less than it seems."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if reason.startswith(SKIPPED):
            reasons[reason] += 1
    if reasons:
        terminalreporter.section("engines skipped")
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{reason} ({count} test{'s' if count > 1 else ''})")
