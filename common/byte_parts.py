"""Many small spans of one content in one request: the body of `POST /content/v1/{digest}/parts`; pure.

Twelve bytes a span (start, length; little-endian), ascending and without overlaps; the answer is the spans' bytes, one
after the other, and nothing else. RFC 9110's multipart/byteranges would cost some 100 bytes a span in the answer and a
header of 100 KB in the question, and is a known way to multiply a server's work, so Range stays at one range.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from common.byte_ranges import Span
from common.errors import Invalid

MEDIA_TYPE = "application/vnd.longshore.parts"
# A request of 48 KB, and an answer that one connection carries in a second or so.
MOST_PARTS = 4096
MOST_BYTES = 16 << 20
_SPAN = struct.Struct("<QI")
MOST_ENCODED = MOST_PARTS * _SPAN.size


class PartsInvalid(Invalid):
    code = "parts_invalid"


def encode(spans: Iterable[Span]) -> bytes:
    return b"".join(_SPAN.pack(span.start, span.length) for span in spans)


def parse(body: bytes, size: int) -> tuple[Span, ...]:
    """Of a content with `size` bytes. Raises `PartsInvalid`."""
    if not body or len(body) % _SPAN.size or len(body) > MOST_ENCODED:
        raise PartsInvalid(
            f"{len(body)} bytes are no list of 1 to {MOST_PARTS} parts", action="send twelve bytes for each part"
        )
    spans = tuple(Span(start, start + length) for start, length in _SPAN.iter_unpack(body))
    position = 0
    for span in spans:
        if span.start < position or not span.length or span.end > size:
            raise PartsInvalid("parts are not empty, ascend without overlaps, and end within the content")
        position = span.end
    if total(spans) > MOST_BYTES:
        raise PartsInvalid(f"the parts have more than {MOST_BYTES} bytes", action="ask in several requests")
    return spans


def total(spans: Iterable[Span]) -> int:
    return sum(span.length for span in spans)


def windows(spans: Sequence[Span], gap_bytes: int) -> Iterator[list[Span]]:
    """Neighbours with gaps of at most `gap_bytes`, to be read as one."""
    group: list[Span] = []
    for span in spans:
        if group and span.start - group[-1].end > gap_bytes:
            yield group
            group = []
        group.append(span)
    if group:
        yield group
