from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.swarm.ranges import Span, Unsatisfiable, span_of


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=2-", (2, 10)),
        ("bytes=2-100", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-100", (0, 10)),
        ("BYTES=1-1", (1, 2)),
    ],
)
def test_one_range_is_cut_to_the_content(header: str, expected: tuple[int, int]) -> None:
    assert span_of(header, 10) == Span(*expected)


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-2", "items=0-1", "bytes=0-1,3-4", "bytes=a-b"]
)
def test_what_is_no_single_byte_range_is_ignored(header: str | None) -> None:
    assert span_of(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_outside_the_content_cannot_be_satisfied(header: str) -> None:
    assert isinstance(span_of(header, 10), Unsatisfiable)


def test_nothing_of_an_empty_content_can_be_asked_for() -> None:
    assert isinstance(span_of("bytes=0-", 0), Unsatisfiable)
    assert isinstance(span_of("bytes=-5", 0), Unsatisfiable)


@given(st.text(max_size=40), st.integers(0, 1 << 40))
def test_no_header_ever_leads_outside_the_content(header: str, size: int) -> None:
    span = span_of("bytes=" + header, size)
    if isinstance(span, Span):
        assert 0 <= span.start < span.end <= size
