"""Fixtures and report sections that every test may use."""

from __future__ import annotations

from collections import Counter

import pytest
import structlog

from control_plane.collecting import set_aside
from tests.engines import SKIPPED

pytest_plugins = ["tests.engines.fixtures"]


def pytest_configure() -> None:
    """Tracebacks as Python writes them, as our services do. Left alone structlog draws them with the values of all
    locals: five minutes for one of a server that held 20 MB.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


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
