"""Patterns of names and tags, and tags as versions."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.patterns import PatternInvalid, compile_patterns
from control_plane.registry.retention.semver import version_of
from tests.pace import BUSY_SECONDS


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "latest", True),
        ("v*", "v1.2", True),
        ("v*", "1.v", False),
        ("v?.*", "v1.2", True),
        ("v?.*", "v10.2", False),
        ("release-[0-9]*", "release-7x", True),
        ("release-[0-9]*", "release-x", False),
        ("**", "team/web", True),
        ("*", "team/web", False),
        ("team/*", "team/web", True),
        ("team/*", "team/web/x", False),
        ("team/**", "team/web/x", True),
        ("team/**", "team", True),
        ("**/web", "web", True),
        ("**/web", "a/b/web", True),
        ("**/web", "a/b/webs", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "b/z", False),
        ("a*b*c", "axxbxxc", True),
        ("a*b*c", "axxbxxcd", False),
        ("1.0", "1x0", False),
    ],
)
def test_a_pattern_matches_what_it_says(pattern: str, name: str, matches: bool) -> None:
    assert compile_patterns([pattern]).match(name) is matches


@pytest.mark.parametrize("pattern", ["", "a**", "a/b**", "(a+)+", "a|b", "a\n", "a" * 256, "ü"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(PatternInvalid):
        compile_patterns([pattern])


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(PatternInvalid):
        compile_patterns(["a"] * 65)


@given(st.text("ab*?/[]!", min_size=1, max_size=40), st.text("ab/", max_size=40))
def test_matching_ends_whatever_is_written(pattern: str, name: str) -> None:
    try:
        compiled = compile_patterns([pattern])
    except PatternInvalid:
        return
    assert compiled.match(name) in (True, False)


def test_a_pattern_made_to_backtrack_is_answered_at_once() -> None:
    began = time.perf_counter()
    assert not compile_patterns(["*a" * 120 + "b"]).match("a" * 128)
    assert not compile_patterns(["**/a/" * 40 + "b"]).match("/".join("a" * 120))
    assert time.perf_counter() - began < BUSY_SECONDS


def test_versions_stand_in_the_order_of_the_specification() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "v1.0.1",
        "1.2.0",
        "1.10.0",
        "2.0.0",
    ]
    versions = [version_of(tag) for tag in ordered]
    assert [version.precedence for version in versions if version] == sorted(
        version.precedence for version in versions if version
    )
    assert None not in versions


@pytest.mark.parametrize(
    "tag", ["latest", "1", "1.2", "01.2.3", "1.2.3.4", "vv1.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b"]
)
def test_what_is_no_version_is_none(tag: str) -> None:
    assert version_of(tag) is None
