"""Byte ranges of upload chunks (OCI distribution specification, "Pushing a blob in chunks"); pure.

Uploads write `Content-Range: <first>-<last>` without unit and length. Downloads follow RFC 9110: `common.byte_ranges`.
"""

from __future__ import annotations

import re

from control_plane.registry.failures import ContentRangeInvalid

# 18 digits hold any size that is possible, and keep `int` away from numbers made to be slow.
_NUMBER = r"[0-9]{1,18}"
_CONTENT_RANGE = re.compile(rf"(?:bytes[= ])?({_NUMBER})-({_NUMBER})(?:/(?:\*|{_NUMBER}))?")


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
