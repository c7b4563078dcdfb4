"""Identifiers that sort by the time they were made (UUID version 7, RFC 9562 section 5.7), and random secrets.

Time and randomness are arguments, so that simulations repeat exactly.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable

from common.clock import Clock

RandomBytes = Callable[[int], bytes]


def new_id(clock: Clock, random_bytes: RandomBytes = secrets.token_bytes) -> str:
    """A UUIDv7 in its canonical 36-character form."""
    milliseconds = int(clock.now().timestamp() * 1000)
    tail = int.from_bytes(random_bytes(10), "big")
    random_a, random_b = tail >> 68 & 0xFFF, tail & ((1 << 62) - 1)
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b
    return str(uuid.UUID(int=value))


def is_id(text: str) -> bool:
    """Whether `text` is a UUID in canonical form: what may be looked up by id rather than by name."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
