"""The control plane's keys over content: Ed25519 pairs that sign tokens, and the one secret that salts metainfo.

Invariant: private parts lie in the database only sealed, with their own name as identity, so that a row copied into
another place does not open. Every replica ends up with the same keys whoever started first: the rows decide, not the
process. A key made by rotation signs only after `activation`, when every replica has read it and every regional has
attached again since (they learn keys in Welcome, and the fleet asks those for a new round whose Welcome is outdated);
until then it only verifies.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from common.clock import Clock
from common.errors import Internal, Unavailable
from common.identifiers import new_id
from control_plane.database import Database, UnitOfWork
from control_plane.swarm import key_store
from control_plane.swarm.key_store import StoredKey

log = structlog.get_logger()

RandomBytes = Callable[[int], bytes]


class KeyUnreadable(Internal):
    """A sealed key does not open: the sealing secret is not the one it was sealed with."""

    code = "content_key_unreadable"


class Sealer(Protocol):
    """`control_plane.sealing.SealedBox`: authenticated encryption bound to an identity."""

    def seal(self, plaintext: bytes, identity: str) -> bytes: ...

    def open(self, sealed: bytes, identity: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    key_id: str
    private: Ed25519PrivateKey
    public_pem: bytes
    signs_from: datetime


class ContentKeys:
    """Keys of this control plane, read from the database and kept in memory. `load` before anything else."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        clock: Clock,
        *,
        activation: timedelta = timedelta(hours=1),
        retention: timedelta = timedelta(hours=48),
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        """`retention`: how long after a newer key began to sign an older one still verifies; beyond a token's 36 h."""
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._activation = activation
        self._retention = retention
        self._random_bytes = random_bytes
        self._keys: tuple[SigningKey, ...] = ()
        self._verifying: Mapping[str, bytes] = {}
        self._secret = b""

    async def load(self) -> None:
        """Read every key, making the first ones if there are none. Call at start; `run` repeats it."""
        rows, sealed = await self._read()
        if not rows or sealed is None:
            async with self._database.transaction() as unit:
                await self._add_key(unit, 1, self._clock.now())
                secret = self._sealer.seal(self._random_bytes(32), _SECRET_IDENTITY)
                await key_store.add_secret(unit.connection, _SECRET, secret)
            rows, sealed = await self._read()
        if not rows or sealed is None:
            raise Internal("the content keys cannot be stored", action="look at the database's log")
        known = {key.key_id: key for key in self._keys}
        self._keys = tuple(known.get(row.key_id) or self._opened(row) for row in rows)
        self._verifying = {key.key_id: key.public_pem for key in self._keys}
        self._secret = self._open(sealed, _SECRET_IDENTITY)

    async def rotate(self) -> str:
        """Add a key that takes over after `activation`, drop those that no living token was signed with. Its id."""
        now = self._clock.now()
        async with self._database.transaction() as unit:
            rows = await key_store.keys(unit.connection)
            newest = rows[-1].sequence if rows else 0
            await self._add_key(unit, newest + 1, now + self._activation)
            for older, newer in itertools.pairwise(rows):
                if newer.signs_from + self._retention < now:
                    await key_store.remove_key(unit.connection, older.key_id)
        await self.load()
        return self._keys[-1].key_id

    async def rotate_when_older(self, age: timedelta) -> str | None:
        """`rotate` if the newest key is older than `age`."""
        rows, _ = await self._read()
        if rows and self._clock.now() - rows[-1].created_at < age:
            return None
        return await self.rotate()

    async def run(self) -> None:
        """Read what other replicas rotated, every minute until cancelled."""
        while True:
            await self._clock.sleep(_RELOAD_SECONDS)
            try:
                await self.load()
            except Unavailable as failure:
                log.warning("content keys not read again", error=str(failure))

    def signing(self) -> SigningKey:
        """The newest key that may sign now. Raises `Internal` before `load`."""
        now = self._clock.now()
        active = [key for key in self._keys if key.signs_from <= now] or list(self._keys[:1])
        if not active:
            raise Internal("the content keys were not loaded", action="report this; the start order is wrong")
        return active[-1]

    def verifying(self) -> Mapping[str, bytes]:
        """Public keys in PEM by key id: everything that may have signed a living token or soon will. The same object
        until the next `load`.
        """
        return self._verifying

    def swarm_secret(self) -> bytes:
        """32 bytes that no other process ever sees. Raises `Internal` before `load`."""
        if not self._secret:
            raise Internal("the swarm secret was not loaded", action="report this; the start order is wrong")
        return self._secret

    async def _read(self) -> tuple[tuple[StoredKey, ...], bytes | None]:
        async with self._database.reading() as connection:
            return await key_store.keys(connection), await key_store.secret(connection, _SECRET)

    async def _add_key(self, unit: UnitOfWork, sequence: int, signs_from: datetime) -> None:
        key_id = new_id(self._clock, self._random_bytes)
        private = Ed25519PrivateKey.generate()
        sealed = self._sealer.seal(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), _key_identity(key_id)
        )
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        row = StoredKey(sequence, key_id, sealed, public, self._clock.now(), signs_from)
        await key_store.add_key(unit.connection, row)

    def _opened(self, row: StoredKey) -> SigningKey:
        private = load_pem_private_key(self._open(row.sealed_private_pem, _key_identity(row.key_id)), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyUnreadable(f"content key {row.key_id} is not an Ed25519 key", action="restore the database")
        return SigningKey(row.key_id, private, row.public_pem, row.signs_from)

    def _open(self, sealed: bytes, identity: str) -> bytes:
        return self._sealer.open(sealed, identity)


_RELOAD_SECONDS = 60.0
_SECRET = "metainfo-salt"  # noqa: S105  the row's name
_SECRET_IDENTITY = f"swarm_secrets/{_SECRET}"


def _key_identity(key_id: str) -> str:
    return f"content_keys/{key_id}"
