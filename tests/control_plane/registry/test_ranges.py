from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from control_plane.registry.failures import ContentRangeInvalid, RangeUnsatisfiable
from control_plane.registry.ranges import chunk_range, progress, range_asked


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=500-1499", (500, 1500)),
        ("bytes=500-", (500, 2048)),
        ("bytes=-500", (1548, 2048)),
        ("bytes=-5000", (0, 2048)),
        ("bytes=2000-5000", (2000, 2048)),
        ("Bytes= 0-1 ", (0, 2)),
        # What is no single byte range is ignored (RFC 9110 section 14.2).
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0-" + "9" * 30, None),
        ("", None),
    ],
)
def test_a_download_gets_the_part_it_asks_for(header: str | None, part: tuple[int, int] | None) -> None:
    assert range_asked(header, 2048) == part


@pytest.mark.parametrize("header", ["bytes=2048-", "bytes=5000-10000", "bytes=500-0", "bytes=-0"])
def test_a_part_outside_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeUnsatisfiable) as refused:
        range_asked(header, 2048)
    assert refused.value.facts["size"] == 2048


def test_an_empty_content_has_no_part() -> None:
    assert range_asked(None, 0) is None
    for header in ("bytes=0-0", "bytes=-1", "bytes=0-"):
        with pytest.raises(RangeUnsatisfiable):
            range_asked(header, 0)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100))
def test_parts_are_the_same_as_slices(first: int, last: int, size: int) -> None:
    assume(first <= last and first < size)
    data = bytes(size)
    start, end = range_asked(f"bytes={first}-{last}", size) or (0, 0)
    assert len(data[start:end]) == len(data[first : last + 1])


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    try:
        part = range_asked(header, 100)
    except RangeUnsatisfiable:
        return
    assert part is None or 0 <= part[0] < part[1] <= 100


@pytest.mark.parametrize(
    ("header", "length", "span"),
    [
        (None, 5, None),
        ("0-4", 5, (0, 5)),
        ("10-14", None, (10, 15)),
        ("bytes 0-4/*", 5, (0, 5)),
        ("bytes=0-4", 5, (0, 5)),
        ("bytes 0-4/100", 5, (0, 5)),
    ],
)
def test_a_chunk_says_where_it_belongs(header: str | None, length: int | None, span: tuple[int, int] | None) -> None:
    assert chunk_range(header, length) == span


@pytest.mark.parametrize(
    ("header", "length"),
    [("0-5", 5), ("0-3", 5), ("5-4", 0), ("abc", 5), ("0-", 5), ("-5", 5), ("", 5), ("0-4-9", 5), ("1" * 20 + "-2", 5)],
)
def test_a_malformed_chunk_is_refused(header: str, length: int) -> None:
    with pytest.raises(ContentRangeInvalid):
        chunk_range(header, length)


def test_progress_is_inclusive() -> None:
    assert [progress(size) for size in (0, 1, 2, 1000)] == ["0-0", "0-0", "0-1", "0-999"]
