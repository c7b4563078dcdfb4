"""Limits, and what a push beyond them is told, with a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore

pytestmark = pytest.mark.processes


def test_a_push_beyond_the_limit_is_refused_with_the_figures_and_fits_after_it_was_raised(
    admin: Longshore, viewer: Longshore, layout: Path
) -> None:
    assert admin("tenant", "create", "small").code == 0
    shown = admin("quota", "set", "small", "--storage", "1MiB", "--images", "3")
    assert shown.text == "small may store 1.0 MiB, of which 0 B are used."
    refused = admin("image", "push", layout, "small/web:1")
    assert refused.code == 8
    assert "the storage quota of tenant small is exceeded" in refused.err
    assert "of 1048576 are used" in refused.err

    assert admin("quota", "set", "small", "--storage", "1GiB").code == 0
    assert admin("image", "push", layout, "small/web:1").code == 0
    shown = admin("quota", "show", "small", "--json").json
    assert (shown["max_storage_bytes"], shown["max_image_count"], shown["image_count"]) == (1 << 30, 3, 1)
    assert shown["used_bytes"] > 1 << 20
    assert shown["reserved_bytes"] == 0
    mine = admin("quota", "show", "admin", "--user", "--json").json
    assert mine["used_bytes"] == shown["used_bytes"]
    assert admin("quota", "recalculate", "small").text == "small is right to the byte."
    assert any(row["name"] == "small" for row in admin("quota", "list", "--json").json)

    assert admin("quota", "reset", "small").code == 0
    assert admin("quota", "show", "small", "--json").json["max_storage_bytes"] is None


def test_only_the_platforms_administrator_sets_limits(viewer: Longshore) -> None:
    assert viewer("quota", "show", "acme").code == 0
    assert viewer("quota", "show", "vera", "--user").code == 0
    assert viewer("quota", "set", "acme", "--storage", "none").code == 4
    assert viewer("quota", "show", "admin", "--user").code == 4


def test_what_is_no_size_is_said_so(admin: Longshore) -> None:
    answer = admin("quota", "set", "acme", "--storage", "much")
    assert (answer.code, "is no size" in answer.err) == (2, True)
    assert admin("quota", "set", "acme").code == 2
