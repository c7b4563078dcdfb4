"""Which bytes of a representation a request asks for (RFC 9110 sections 13 and 14); pure.

`requested_span` knows one range: several in one header are answered with the whole, as section 14.2 permits.
`requested_spans` gives several, for package clients (zchunk asks for the changed parts of an index in one request).
Invariant of it: the spans together are never longer than the representation, so many ranges multiply no work.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from common.errors import Invalid

# 18 digits: beyond every file, and int() of an unbounded header would cost quadratic time.
_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


_RANGES = re.compile(r"bytes=(.*)", re.ASCII | re.IGNORECASE)
# librepo, the downloader of dnf, begins with 256 and halves when it is refused.
_MOST_RANGES = 256


class RangeUnsatisfiable(Invalid):
    """No byte of the representation is in the range; HTTP 416. `facts["size"]` is how long the representation is."""

    code = "range_unsatisfiable"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end`, `end` excluded."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.end - 1}/{size}"


def requested_span(header: str | None, size: int) -> Span | None:
    """None: the whole, also for ranges that are malformed, of another unit or several (section 14.2).

    Raises `RangeUnsatisfiable`. A range whose end is before its start is refused too: section 14.2 lets us ignore or
    refuse it, and the conformance suite of the OCI distribution specification expects 416.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start = int(first)
        end = min(int(last) + 1, size) if last else size
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return None
    if start >= end:
        raise RangeUnsatisfiable(
            f"{header} is not within the {size} bytes of the content", action="ask for a range within it", size=size
        )
    return Span(start, end)


def requested_spans(header: str | None, size: int) -> tuple[Span, ...] | None:
    """As `requested_span`, for one or several ranges, in the order asked for. None: the whole, also for ranges that
    are too many or overlap. What is behind the end is left out; raises `RangeUnsatisfiable` if nothing is left.
    """
    match = _RANGES.fullmatch(header) if header else None
    parts = match[1].split(",", _MOST_RANGES) if match else []
    if len(parts) < 2:
        single = requested_span(header, size)
        return None if single is None else (single,)
    if len(parts) > _MOST_RANGES or not all(_RANGE.fullmatch(f"bytes={part}") for part in parts):
        return None
    spans: list[Span] = []
    for part in parts:
        with contextlib.suppress(RangeUnsatisfiable):
            span = requested_span(f"bytes={part}", size)
            if span is None:  # "-" alone
                return None
            spans.append(span)
    if not spans:
        raise RangeUnsatisfiable(
            f"none of {len(parts)} ranges is within the {size} bytes of the content",
            action="ask for ranges within it",
            size=size,
        )
    return None if _overlap(spans) else tuple(spans)


def _overlap(spans: Sequence[Span]) -> bool:
    ordered = sorted(spans, key=lambda span: span.start)
    return any(before.end > after.start for before, after in itertools.pairwise(ordered))


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells two versions of a representation apart. `etag` is strong and without its quotes."""

    etag: str
    modified: datetime | None = None

    def headers(self) -> dict[str, str]:
        headers = {"ETag": f'"{self.etag}"'}
        if self.modified is not None:
            headers["Last-Modified"] = format_datetime(self.modified.astimezone(UTC), usegmt=True)
        return headers

    def not_modified(self, if_none_match: str | None, if_modified_since: str | None) -> bool:
        """Whether 304 is the answer; the tag wins over the date (section 13.2.2)."""
        if if_none_match is not None:
            return self._names_this(if_none_match)
        since = _date(if_modified_since)
        return since is not None and self.modified is not None and self.modified.replace(microsecond=0) <= since

    def range_applies(self, if_range: str | None) -> bool:
        """Whether Range may be honoured: false if the client holds a piece of another version (section 13.1.5)."""
        if if_range is None:
            return True
        if if_range.strip().startswith(('"', "W/")):
            return if_range.strip() == f'"{self.etag}"'
        return self.modified is not None and _date(if_range) == self.modified.replace(microsecond=0)

    def _names_this(self, header: str) -> bool:
        tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
        return "*" in tags or f'"{self.etag}"' in tags


def _date(header: str | None) -> datetime | None:
    if not header:
        return None
    try:
        parsed = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
