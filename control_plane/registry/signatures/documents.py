"""Reading JSON and base64 that anybody may have written; pure.

Invariant: every function answers None for what is not as it should be, and never raises. A document with a key twice
is none: two readers could see two different ones.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any


def document_of(data: bytes | str) -> Mapping[str, Any] | None:
    """A JSON object."""
    try:
        found = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def text_at(document: Any, *path: str) -> str | None:
    """The string at the path of keys."""
    found = member_at(document, *path)
    return found if isinstance(found, str) else None


def member_at(document: Any, *path: str) -> Any:
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def list_at(document: Any, *path: str) -> list[Any]:
    """Empty for what is no list."""
    found = member_at(document, *path)
    return found if isinstance(found, list) else []


def base64_of(text: str | None) -> bytes | None:
    """Standard alphabet, padded, as Go's StdEncoding writes it."""
    if text is None:
        return None
    try:
        read = base64.b64decode(text, validate=True)
        # b64decode reads padding where none belongs, and stray last bits. One value has one text.
        return read if base64.b64encode(read).decode() == text else None
    except (binascii.Error, ValueError):
        return None


def base64url_of(text: str | None) -> bytes | None:
    """RFC 7515 section 2: URL-safe alphabet without padding."""
    if text is None or "=" in text or "+" in text or "/" in text:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
