from __future__ import annotations

import pytest

from control_plane.registry.chunk_ranges import chunk_range, progress
from control_plane.registry.failures import ContentRangeInvalid


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
