from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import byte_parts
from common.byte_parts import PartsInvalid
from common.byte_ranges import Span

SIZE = 1 << 40


@st.composite
def ascending(draw: st.DrawFn) -> tuple[Span, ...]:
    position, spans = 0, []
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 4096)), min_size=1)):
        spans.append(Span(position + gap, position + gap + length))
        position = spans[-1].end
    return tuple(spans)


@given(ascending())
def test_parts_come_back_from_their_wire_form(spans: tuple[Span, ...]) -> None:
    assert byte_parts.parse(byte_parts.encode(spans), SIZE) == spans


@given(ascending(), st.integers(0, 1 << 31))
def test_windows_hold_every_part_in_order(spans: tuple[Span, ...], gap: int) -> None:
    windows = list(byte_parts.windows(spans, gap))
    assert tuple(span for window in windows for span in window) == spans
    for window, following in itertools.pairwise(windows):
        assert following[0].start - window[-1].end > gap


@pytest.mark.parametrize(
    "spans",
    [
        (),
        (Span(5, 5),),
        (Span(5, 9), Span(8, 12)),
        (Span(8, 12), Span(0, 4)),
        (Span(96, 101),),
        tuple(Span(at, at + 1) for at in range(100)) * 2,
    ],
)
def test_what_does_not_ascend_within_the_content_is_refused(spans: tuple[Span, ...]) -> None:
    with pytest.raises(PartsInvalid):
        byte_parts.parse(byte_parts.encode(spans), 100)


def test_too_much_is_refused() -> None:
    with pytest.raises(PartsInvalid):
        byte_parts.parse(byte_parts.encode(Span(at, at + 1) for at in range(byte_parts.MOST_PARTS + 1)), SIZE)
    with pytest.raises(PartsInvalid):
        byte_parts.parse(byte_parts.encode([Span(0, byte_parts.MOST_BYTES + 1)]), SIZE)
    with pytest.raises(PartsInvalid):
        byte_parts.parse(b"12 bytes and", SIZE)
    with pytest.raises(PartsInvalid):
        byte_parts.parse(b"no multiple of twelve", SIZE)
