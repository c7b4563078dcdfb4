"""The RSA keys that sign tokens: made at first start, sealed in the database, the same for every replica.

Invariant: the newest key signs; an older one verifies until the last token that it can have signed has ended. Replicas
notice a new key when they sign (at most a minute later) or when they meet a token with a key that they do not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.algorithms import RSAAlgorithm

from common.clock import Clock
from common.errors import Internal
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.sealing import SealedBox
from control_plane.tenants import token_store
from control_plane.tenants.model import SigningKeyRow, TenantSettings

_BITS = 2048
# A replica that has not seen the new key yet goes on signing with the old one for a minute; an hour forgives a lot.
_RETIREMENT_MARGIN = timedelta(hours=1)
_RELOAD_SECONDS = 60.0
# A token with an invented key id must not cost a query each time.
_RELOAD_UNKNOWN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    id: str
    private: rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class _Verifying:
    public: rsa.RSAPublicKey
    until: datetime | None


class SigningKeys:
    def __init__(self, database: Database, box: SealedBox, clock: Clock, settings: TenantSettings) -> None:
        self._database = database
        self._box = box
        self._clock = clock
        self._token_lifetime = max(settings.access_lifetime, settings.registry_lifetime)
        self._signing: SigningKey | None = None
        self._verifying: dict[str, _Verifying] = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()

    async def signing(self) -> SigningKey:
        """The newest key; makes the first one if there is none. Raises `SealBroken` if it cannot be opened."""
        if self._signing is None or self._older_than(_RELOAD_SECONDS):
            await self._reload(_RELOAD_SECONDS)
        if self._signing is None:
            raise Internal("the signing keys cannot be stored", action="look at the database's log")
        return self._signing

    async def find(self, key_id: str) -> rsa.RSAPublicKey | None:
        """The public key, if it may still verify."""
        if key_id not in self._verifying and self._older_than(_RELOAD_UNKNOWN_SECONDS):
            await self._reload(_RELOAD_UNKNOWN_SECONDS)
        found = self._verifying.get(key_id)
        if found is None or (found.until is not None and found.until <= self._clock.now()):
            return None
        return found.public

    async def jwks(self) -> dict[str, Any]:
        """What may verify now, for everybody (RFC 7517)."""
        await self.signing()
        now = self._clock.now()
        return {
            "keys": [
                {"kid": key_id, "use": "sig", "alg": "RS256", **_public_numbers(key.public)}
                for key_id, key in self._verifying.items()
                if key.until is None or key.until > now
            ]
        }

    async def rotate(self) -> str:
        """Make a key that signs from now on; its id. Of two replicas that rotate at once, one makes it."""
        rows = await self._rows()
        await self._add(rows[-1].sequence + 1 if rows else 1)
        await self._reload(0)
        return (await self.signing()).id

    async def rotate_when_older(self, age: timedelta) -> str:
        """The id of the key that signs from now on: a new one if the newest is older than `age`."""
        rows = await self._rows()
        if rows and rows[-1].created_at + age > self._clock.now():
            return rows[-1].id
        return await self.rotate()

    async def _reload(self, older_than_seconds: float) -> None:
        async with self._loading:
            if not self._older_than(older_than_seconds):
                return  # somebody else did while we waited
            rows = await self._rows()
            if not rows:
                await self._add(1)
                rows = await self._rows()
            self._take(rows)
            self._loaded_at = self._clock.monotonic()

    def _take(self, rows: Sequence[SigningKeyRow]) -> None:
        verifying: dict[str, _Verifying] = {}
        for row in rows:
            public = load_pem_public_key(row.public_pem.encode())
            if isinstance(public, rsa.RSAPublicKey):
                verifying[row.id] = _Verifying(public, row.verifies_until)
        newest = rows[-1] if rows else None
        if newest is not None and (self._signing is None or self._signing.id != newest.id):
            pem = self._box.open(newest.sealed_private_pem, _identity(newest.id))
            private = load_pem_private_key(pem, password=None)
            if not isinstance(private, rsa.RSAPrivateKey):
                raise Internal(f"signing key {newest.id} is no RSA key", action="restore the database")
            self._signing = SigningKey(newest.id, private)
        self._verifying = verifying

    async def _rows(self) -> Sequence[SigningKeyRow]:
        async with self._database.reading() as connection:
            return await token_store.signing_key_rows(connection)

    async def _add(self, sequence: int) -> None:
        # 60 to 300 ms of arithmetic, before the transaction and off the loop.
        private = await asyncio.to_thread(rsa.generate_private_key, public_exponent=65537, key_size=_BITS)
        key_id = new_id(self._clock)
        now = self._clock.now()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        row = SigningKeyRow(key_id, sequence, self._box.seal(pem, _identity(key_id)), public_pem, now, None)
        async with self._database.transaction() as unit:
            if await token_store.add_signing_key(unit.connection, row):
                until = now + self._token_lifetime + _RETIREMENT_MARGIN
                await token_store.retire_signing_keys(unit.connection, sequence, until)
                await token_store.forget_signing_keys(unit.connection, now)

    def _older_than(self, seconds: float) -> bool:
        return self._clock.monotonic() - self._loaded_at >= seconds


def _identity(key_id: str) -> str:
    return f"signing_keys/{key_id}"


def _public_numbers(key: rsa.RSAPublicKey) -> dict[str, str]:
    whole = RSAAlgorithm.to_jwk(key, as_dict=True)
    return {name: whole[name] for name in ("kty", "n", "e")}
