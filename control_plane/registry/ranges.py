"""Byte ranges of downloads (RFC 9110 section 14) and of upload chunks (distribution specification); pure.

Downloads: one range; several are answered with everything, as section 14.2 allows. Uploads write `Content-Range:
<first>-<last>` without unit and length.
"""

from __future__ import annotations

import re

from control_plane.registry.failures import ContentRangeInvalid, RangeUnsatisfiable

# 18 digits hold any size that is possible, and keep `int` away from numbers made to be slow.
_NUMBER = r"[0-9]{1,18}"
_RANGE = re.compile(rf"bytes=\s*({_NUMBER})?-({_NUMBER})?\s*", re.IGNORECASE)
_CONTENT_RANGE = re.compile(rf"(?:bytes[= ])?({_NUMBER})-({_NUMBER})(?:/(?:\*|{_NUMBER}))?")


def range_asked(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the part that is asked for; None for everything.

    Raises `RangeUnsatisfiable`. A range whose end is before its start is refused too: RFC 9110 would ignore it, the
    conformance suite of the distribution specification expects 416.
    """
    matched = _RANGE.fullmatch(header) if header else None
    if matched is None or matched.groups() == (None, None):
        return None
    first, last = matched.groups()
    if first is None:
        length = min(int(last), size)
        start, end = size - length, size
    else:
        start = int(first)
        end = size if last is None else min(int(last) + 1, size)
    if start >= end:
        raise RangeUnsatisfiable(
            f"{header} is not within the {size} bytes of the content", action="ask for a range within it", size=size
        )
    return start, end


def chunk_range(header: str | None, content_length: int | None) -> tuple[int, int] | None:
    """Start and end (exclusive) of an upload's chunk; None if the client does not say. Raises `ContentRangeInvalid`
    if it is malformed or is not as long as the body.
    """
    if header is None:
        return None
    matched = _CONTENT_RANGE.fullmatch(header.strip())
    if matched is None:
        raise ContentRangeInvalid(
            f"{header[:80]!r} is not a range", action="send Content-Range: <first byte>-<last byte>"
        )
    start, end = int(matched[1]), int(matched[2]) + 1
    if end <= start:
        raise ContentRangeInvalid(f"{header!r} ends before it starts", action="send first byte and last byte in order")
    if content_length is not None and content_length != end - start:
        raise ContentRangeInvalid(
            f"{header!r} has {end - start} bytes, the body {content_length}", action="send the range of the body"
        )
    return start, end


def progress(size: int) -> str:
    """How far an upload got, as `Range` says it. The form has no word for "nothing yet": like distribution we then say
    `0-0`, which Docker's client needs to be a range; `Upload-Offset` is unambiguous.
    """
    return f"0-{max(size - 1, 0)}"
