"""Ranges and validators of RFC 9110."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.byte_ranges import RangeUnsatisfiable, Span, Validators, requested_span, requested_spans

MOMENT = datetime(2026, 2, 4, 14, 0, 0, 123456, tzinfo=UTC)
HTTP_DATE = "Wed, 04 Feb 2026 14:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-", Span(0, 100)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes=90-1000", Span(90, 100)),
        ("bytes=-10", Span(90, 100)),
        ("bytes=-1000", Span(0, 100)),
        ("Bytes=5-6", Span(5, 7)),
        ("bytes= 5-6 ", Span(5, 7)),
    ],
)
def test_a_single_range_names_its_bytes(header: str, expected: Span) -> None:
    assert requested_span(header, 100) == expected


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=0-1,5-6",
        "items=0-1",
        "bytes=a-b",
        "bytes=1-2x",
        "bytes=" + "9" * 40,
    ],
)
def test_a_range_that_is_none_asks_for_the_whole(header: str | None) -> None:
    assert requested_span(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=2-1"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    with pytest.raises(RangeUnsatisfiable) as caught:
        requested_span(header, 100)
    assert caught.value.facts["size"] == 100


def test_nothing_of_an_empty_content_can_be_asked_for() -> None:
    for header in ("bytes=0-0", "bytes=-1", "bytes=0-"):
        with pytest.raises(RangeUnsatisfiable):
            requested_span(header, 0)


@given(st.text(max_size=40), st.integers(0, 1 << 40))
def test_whatever_is_asked_the_span_lies_inside(header: str, size: int) -> None:
    try:
        span = requested_span("bytes=" + header, size)
    except RangeUnsatisfiable:
        return
    assert span is None or 0 <= span.start < span.end <= size


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(1, 1 << 40))
def test_a_range_gives_what_it_says(first: int, more: int, size: int) -> None:
    try:
        span = requested_span(f"bytes={first}-{first + more}", size)
    except RangeUnsatisfiable:
        assert first >= size
        return
    assert span == Span(first, min(first + more + 1, size))


def test_a_known_tag_is_not_sent_again() -> None:
    validators = Validators("abc", MOMENT)
    assert validators.not_modified('"abc"', None)
    assert validators.not_modified('"x", W/"abc"', None)
    assert validators.not_modified("*", None)
    assert not validators.not_modified('"x"', HTTP_DATE)


def test_dates_count_in_whole_seconds() -> None:
    validators = Validators("abc", MOMENT)
    assert validators.headers()["Last-Modified"] == HTTP_DATE
    assert validators.not_modified(None, HTTP_DATE)
    assert not Validators("abc", MOMENT + timedelta(seconds=1)).not_modified(None, HTTP_DATE)
    assert not validators.not_modified(None, "yesterday")


def test_a_part_of_another_version_is_not_continued() -> None:
    validators = Validators("abc", MOMENT)
    assert validators.range_applies(None)
    assert validators.range_applies('"abc"')
    assert validators.range_applies(HTTP_DATE)
    assert not validators.range_applies('"abd"')
    assert not validators.range_applies('W/"abc"')
    assert not validators.range_applies("Wed, 04 Feb 2026 13:00:00 GMT")


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0,5-6", [(0, 1), (5, 7)]),
        ("bytes=5-6, 0-0", [(5, 7), (0, 1)]),
        ("bytes=0-0,-2", [(0, 1), (8, 10)]),
        ("bytes=0-0,99-", [(0, 1)]),
        ("bytes=3-4", [(3, 5)]),
        ("bytes=0-5,5-6", None),
        ("bytes=0-0,x", None),
        ("bytes=0-0,", None),
        ("bytes=0-0,-", None),
        ("pages=0-0,2-3", None),
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(257)), None),
        (None, None),
    ],
)
def test_several_ranges_are_honoured_unless_they_multiply_the_work(
    header: str | None, spans: list[tuple[int, int]] | None
) -> None:
    found = requested_spans(header, 10)
    assert (None if found is None else [(span.start, span.end) for span in found]) == spans


def test_several_ranges_behind_the_end_are_refused() -> None:
    with pytest.raises(RangeUnsatisfiable):
        requested_spans("bytes=10-11,20-", 10)


@given(st.text(alphabet="bytes=0123456789-, ", max_size=60), st.integers(0, 1000))
def test_whatever_is_asked_for_is_never_more_than_there_is(header: str, size: int) -> None:
    try:
        spans = requested_spans("bytes=" + header, size) or ()
    except RangeUnsatisfiable:
        return
    assert all(0 <= span.start < span.end <= size for span in spans)
    assert sum(span.length for span in spans) <= size
