"""A lease book as bytes, for a place that several processes share; pure.

Invariant: what is read back answers the next question as the book that was written would have.
"""

from __future__ import annotations

import json
from typing import Any

from common.errors import Invalid
from common.spreading.crowd import Member
from common.spreading.leases import Budget, Lease, LeaseBook, Shape


class LeaseRecordInvalid(Invalid):
    code = "lease_record_invalid"


def encode_book(book: LeaseBook) -> bytes:
    members = {
        name: [f"{one.held:x}", one.seen_at, one.given_at, one.peer_bytes, one.rate, one.peer, one.gate]
        for name, one in book.crowd.members.items()
    }
    document = {
        "shape": [book.shape.length, book.shape.piece_length],
        "members": members,
        "leases": [[one.holder, f"{one.mask:x}", one.until, one.moved_at] for one in book.leases],
        "extra": [book.extra_bytes, book.extra_copies, book.best_rate, book.idle_since],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_book(encoded: bytes, budget: Budget) -> LeaseBook:
    """Raises `LeaseRecordInvalid`: another version wrote it, and the book begins anew."""
    try:
        document: dict[str, Any] = json.loads(encoded)
        book = LeaseBook(Shape(*document["shape"]), budget)
        for name, (held, *rest) in document["members"].items():
            book.crowd.members[name] = Member(int(held, 16), *rest)
        book.leases = [
            Lease(holder, int(mask, 16), until, moved_at) for holder, mask, until, moved_at in document["leases"]
        ]
        book.extra_bytes, book.extra_copies, book.best_rate, book.idle_since = document["extra"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LeaseRecordInvalid(f"the lease book cannot be read: {error!r}"[:300]) from None
    return book
