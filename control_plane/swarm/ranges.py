"""One byte range of a request (RFC 9110 section 14); pure.

A `Range` that is malformed, of another unit, or of several ranges is ignored, as the RFC allows: the answer is then the
whole content with 200.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# 18 digits are beyond every content; more would only make large integers to compare.
_SINGLE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` to before `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


class Unsatisfiable:
    """The range lies outside the content: 416."""


def span_of(header: str | None, size: int) -> Span | Unsatisfiable | None:
    """None: send everything. Else the span that the header asks for, cut to the content's size."""
    match = _SINGLE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        return Unsatisfiable()
    return Span(start, min(int(last) + 1, size) if last else size)


def _suffix(last: str, size: int) -> Span | Unsatisfiable | None:
    if not last:
        return None
    length = min(int(last), size)
    return Span(size - length, size) if length else Unsatisfiable()
