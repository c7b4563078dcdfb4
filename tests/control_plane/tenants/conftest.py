"""A whole tenancy on both database engines, with a first admin, a signing key made once, and a cache that can be taken
away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import event

from common.clock import ManualClock
from common.errors import Unavailable
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants import token_store
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.model import SigningKeyRow, TenantSettings
from control_plane.tenants.tenancy import Tenancy, build_tenancy

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)


class FragileCache(MemoryCache):
    """A memory cache that is away while `away` is set."""

    away = False

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the cache is away")

    async def get(self, key: str) -> bytes | None:
        self._check()
        return await super().get(key)

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        self._check()
        await super().set(key, value, ttl_seconds)

    async def delete(self, key: str) -> None:
        self._check()
        await super().delete(key)

    async def increment(self, key: str, ttl_seconds: float) -> int:
        self._check()
        return await super().increment(key, ttl_seconds)


@dataclass
class Queries:
    """Statements that reached the database."""

    statements: list[str]

    @property
    def count(self) -> int:
        return len(self.statements)


@contextmanager
def counted_queries(database: Database) -> Iterator[Queries]:
    seen = Queries([])

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            seen.statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@pytest.fixture
def cache(clock: ManualClock) -> FragileCache:
    return FragileCache(clock)


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    """Made once: making one takes longer than most tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def box() -> SealedBox:
    return SealedBox(KeyRing({b"k" * 8: b"1" * 32}))


@pytest.fixture
def settings() -> TenantSettings:
    return TenantSettings()


@pytest.fixture
async def signing_row(rsa_key: rsa.RSAPrivateKey, box: SealedBox, database: Database) -> SigningKeyRow:
    pem = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    key_id = "00000000-0000-7000-8000-000000000001"
    row = SigningKeyRow(key_id, 1, box.seal(pem, f"signing_keys/{key_id}"), public, database.clock.now(), None)
    async with database.transaction() as unit:
        await token_store.add_signing_key(unit.connection, row)
    return row


BuildTenancy = Callable[..., Tenancy]


@pytest.fixture
def build(
    database: Database, clock: ManualClock, cache: FragileCache, box: SealedBox, settings: TenantSettings
) -> BuildTenancy:
    """Another replica, or the same one after a restart."""

    def again(other: Database | None = None, other_cache: MemoryCache | None = None, **more: object) -> Tenancy:
        return build_tenancy(other or database, clock, other_cache or cache, box, settings, **more)  # type: ignore[arg-type]

    return again


@pytest.fixture
async def tenancy(signing_row: SigningKeyRow, build: BuildTenancy) -> Tenancy:
    """The user `ada` is operator of acme and viewer of beta; `zoe` has no role; both have PASSWORD."""
    made = build()
    await made.accounts.create(ADMIN, "ada", PASSWORD)
    await made.accounts.create(ADMIN, "zoe", PASSWORD)
    for name, role in (("acme", Role.OPERATOR), ("beta", Role.VIEWER)):
        await made.tenants.create(ADMIN, name)
        await made.tenants.put_member(ADMIN, name, "ada", role)
    await made.tenants.create(ADMIN, "gamma")
    return made


@pytest.fixture
def count_queries() -> Callable[[Database], AbstractContextManager[Queries]]:
    return counted_queries
