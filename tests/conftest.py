"""Fixtures and report sections that every test may use."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engines import SKIPPED

pytest_plugins = ["tests.engines.fixtures"]


# What a machine has once, by the fixture that needs it: dockerd in the machine's own network, and the addresses of the
# shaped links.
_ONE_AT_A_TIME = {"docker_host_engine": "docker_host_engine", "links": "shaped_links"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` one worker runs all tests that need such a thing, and nobody waits; a module of whole
    fleets stays on one worker, for its tests share a fleet. pytest-xdist 3.8 under pytest 9.2 heeds no groups: until it
    does, dockerd's own lock makes them wait, and fleets are run with `--dist loadfile`.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is not None:
            continue
        groups = [group for name, group in _ONE_AT_A_TIME.items() if name in getattr(item, "fixturenames", ())]
        if not groups and item.path.parent.name == "processes":
            groups = [item.path.stem]
        for group in groups[:1]:
            item.add_marker(pytest.mark.xdist_group(group))


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
