"""Secrets at rest: AES-256-GCM with the row's identity as associated data and the key's id beside the ciphertext.

Invariant: a sealed value opens only where it was sealed (`identity`, for example `signing_keys/<id>`), only unaltered,
and only with a master key of the ring; so a copied row, a flipped bit and a stolen database are worth nothing. Master
keys never touch the database (`keyring`).

Wire form: version (1 byte, 1), key id (8 bytes), nonce (12 bytes), ciphertext with its 16-byte tag. Nonces are random:
NIST SP 800-38D section 8.3 allows 2**32 of them a key, far beyond the secrets of one installation.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import Internal
from control_plane.sealing.keyring import KEY_ID_BYTES, KeyRing

RandomBytes = Callable[[int], bytes]

_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = len(_VERSION) + KEY_ID_BYTES


class SealBroken(Internal):
    """A sealed value does not open: altered, moved to another row, or sealed with a key that the ring has not."""

    code = "seal_broken"


class SealedBox:
    """Seals with the newest key of the ring, opens with any."""

    def __init__(self, ring: KeyRing, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._ring = ring
        self._random_bytes = random_bytes

    def seal(self, plaintext: bytes, identity: str) -> bytes:
        """`identity` names the one place where the result may lie, and must be given to open it."""
        key_id, key = self._ring.newest
        head = _VERSION + key_id
        nonce = self._random_bytes(_NONCE_BYTES)
        return head + nonce + AESGCM(key).encrypt(nonce, plaintext, head + identity.encode())

    def open(self, sealed: bytes, identity: str) -> bytes:
        """Raises `SealBroken`."""
        if len(sealed) < _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
            raise SealBroken(f"what is stored at {identity} is not a sealed value", action="restore the row")
        head, rest = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:]
        key = self._ring.find(head[1:])
        if key is None:
            raise SealBroken(
                f"{identity} was sealed with key {head[1:].hex()}, which is not in the key file",
                action="restore the sealing keys that belong to this database",
                key_id=head[1:].hex(),
            )
        try:
            return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + identity.encode())
        except InvalidTag:
            raise SealBroken(
                f"the sealed value at {identity} was altered or belongs to another row", action="restore the row"
            ) from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest key sealed it; after a rotation, what is not can be opened and sealed again."""
        return sealed[:_HEAD_BYTES] == _VERSION + self._ring.newest[0]
