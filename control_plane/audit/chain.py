"""The chain: each entry's hash covers the entry, its number and the hash before it; pure.

    hash(n) = SHA-256( hash(n-1) as 32 bytes || canonical JSON of entry n with its number )

Canonical JSON: keys sorted by code point, no white space, UTF-8 unescaped, times in UTC with six digits of seconds (a
subset of RFC 8785: there are no floats, and no keys outside our own and cleaned ones). Whoever alters, drops, adds or
swaps an entry without recomputing every later hash is found by `follow`; who recomputes them too is found by an anchor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from control_plane.audit.model import Entry, Link, Sealed, Verdict

GENESIS = Link(0, "0" * 64)
_NAMES = tuple(field.name for field in fields(Entry))


def time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def document_of(entry: Entry) -> dict[str, Any]:
    return {**values_of(entry), "occurred_at": time_text(entry.occurred_at)}


def values_of(entry: Entry) -> dict[str, Any]:
    """By hand: `asdict` looks for dataclasses in everything, 50 us an entry."""
    values = {name: getattr(entry, name) for name in _NAMES}
    return {**values, "details": dict(entry.details)}


def entry_from(document: Mapping[str, Any]) -> Entry:
    """What `document_of` made."""
    return Entry(**{**document, "occurred_at": datetime.fromisoformat(document["occurred_at"])})


def sealed_after(before: Link, entry: Entry) -> Sealed:
    """The entry in the place that follows `before`."""
    sequence = before.sequence + 1
    body = canonical({**document_of(entry), "sequence": sequence})
    return Sealed(sequence, entry, hashlib.sha256(bytes.fromhex(before.hash) + body).hexdigest())


def link_of(sealed: Sealed) -> Link:
    return Link(sealed.sequence, sealed.hash)


def line_of(sealed: Sealed) -> bytes:
    """One line of an export; the same bytes for the same entry, whoever exports it."""
    return canonical({**document_of(sealed.entry), "sequence": sealed.sequence, "hash": sealed.hash}) + b"\n"


def follow(before: Link, entries: Iterable[Sealed], anchors: Mapping[int, str]) -> Verdict:
    """Recompute the chain over entries that should follow `before` without a gap. `anchors` are hashes by number that
    are known from elsewhere.
    """
    at, checked = before, 0
    for sealed in entries:
        expected = at.sequence + 1
        if sealed.sequence != expected:
            return Verdict(checked, None, at, expected, f"entry {expected} is missing; {sealed.sequence} follows")
        if sealed_after(at, sealed.entry).hash != sealed.hash:
            return Verdict(checked, None, at, expected, "the entry, or the one before it, was altered")
        if anchors.get(expected, sealed.hash) != sealed.hash:
            return Verdict(checked, None, at, expected, "the entry differs from the anchor that was made of it")
        at, checked = link_of(sealed), checked + 1
    return Verdict(checked, at, at)
