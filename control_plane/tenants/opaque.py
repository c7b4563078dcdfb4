"""Secrets that mean nothing but themselves: `<prefix><id>_<secret>`, looked up by id, stored as a hash; pure.

Invariant: 256 random bits, so that SHA-256 without salt or stretching is enough (nothing to guess), and comparison in
constant time. The prefix lets people and scanners see what leaked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

RandomBytes = Callable[[int], bytes]

_SECRET_BYTES = 32
_FORM = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class OpaqueSecret:
    """`id` is a UUID in canonical form; in the text it stands without dashes."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls, secret_id: str, random_bytes: RandomBytes = secrets.token_bytes) -> OpaqueSecret:
        return cls(secret_id, random_bytes(_SECRET_BYTES).hex())

    @classmethod
    def parse(cls, prefix: str, text: str) -> OpaqueSecret | None:
        """None for anything that cannot be one."""
        found = _FORM.fullmatch(text.removeprefix(prefix)) if text.startswith(prefix) else None
        return cls("-".join(found.groups()[:5]), found[6]) if found is not None else None

    def text(self, prefix: str) -> str:
        return f"{prefix}{self.id.replace('-', '')}_{self.secret}"

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, stored_hash: str) -> bool:
        return hmac.compare_digest(self.hash, stored_hash)
