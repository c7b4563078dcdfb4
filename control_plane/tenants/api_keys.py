"""Keys for programs: `lsk_<id>_<secret>`, shown once, stored as a hash, good until they expire or are revoked.

Invariant: a key never may more than its user may at this moment, and its limits (tenant, role) only take away. A
credential that is limited itself makes no keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

from common.clock import Clock
from common.errors import Denied, Invalid, NotFound, Unauthenticated
from common.identifiers import is_id, new_id
from control_plane.audit.service import AuditTrail
from control_plane.cache import Cache
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import api_key_store, store, user_store
from control_plane.tenants.access import RANK, Permission, Principal, Role
from control_plane.tenants.acting import act_of
from control_plane.tenants.key_uses import KeyUses
from control_plane.tenants.model import ApiKey, TenantSettings
from control_plane.tenants.opaque import OpaqueSecret
from control_plane.tenants.short_memory import ShortMemory
from control_plane.tenants.standings import Standings
from control_plane.web.paging import Page, PageRequest

KEY_PREFIX = "lsk_"


class ApiKeyInvalid(Unauthenticated):
    code = "api_key_invalid"


class ApiKeyUnknown(NotFound):
    code = "api_key_unknown"


class ExpiryInPast(Invalid):
    code = "expiry_in_past"


class RoleAboveOwn(Denied):
    code = "role_above_own"


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """`text` is the key itself, which exists here and at its owner only."""

    key: ApiKey
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Known:
    """What checking a key needs of its row."""

    user_id: str
    secret_hash: str
    tenant: str | None
    role: Role | None
    expires_at: float | None


class ApiKeyService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        cache: Cache,
        standings: Standings,
        settings: TenantSettings,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._trail = trail
        self._clock = clock
        self._standings = standings
        self._memory = ShortMemory(cache, settings.standing_lifetime)
        self._uses = KeyUses(database, clock, _touch)

    async def create(
        self,
        principal: Principal,
        name: str,
        *,
        tenant: str | None = None,
        role: Role | None = None,
        expires_at: datetime | None = None,
    ) -> NewApiKey:
        """A key for the principal itself. Raises `Denied`, `NotFound` (tenant), `RoleAboveOwn`, `ExpiryInPast`."""
        principal.require_whole()
        if tenant is not None:
            principal.require(Permission.TENANT_READ, tenant)
            own = principal.role_in(tenant)
            if role is not None and own is not None and RANK[role] > RANK[own]:
                raise RoleAboveOwn(
                    f"{principal.name} is {own.value} of {tenant}, not {role.value}",
                    action=f"limit the key to the role {own.value} or less",
                )
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise ExpiryInPast("the key would have expired already", action="give a time that is still to come")
        secret = OpaqueSecret.generate(new_id(self._clock))
        key = ApiKey(secret.id, principal.user_id or "", name, secret.hash, tenant, role, now, expires_at, None, None)
        async with self._database.transaction() as unit:
            found = await store.find_tenant(unit.connection, tenant) if tenant is not None else None
            if tenant is not None and found is None:
                raise NotFound(f"there is no tenant {tenant!r}", action="check the name with `longshore tenant list`")
            await api_key_store.add_api_key(unit.connection, key, found.id if found is not None else None)
            limits = {"id": key.id, "name": name, "role": role.value if role is not None else None}
            act = act_of(principal, "tenants.api_key_created", tenant=tenant or "", subject=key.id, details=limits)
            self._trail.record(unit, act)
        return NewApiKey(key, secret.text(KEY_PREFIX))

    async def list(self, principal: Principal, page: PageRequest, user: str | None = None) -> Page[ApiKey]:
        """One's own keys; the platform admin may name another user."""
        principal.require_whole()
        async with self._database.reading() as connection:
            owner = principal.user_id or ""
            if user is not None and user != principal.name:
                principal.require(Permission.PLATFORM_MANAGE)
                found = await user_store.find_user(connection, user)
                if found is None:
                    raise NotFound(f"there is no user {user!r}", action="check the name with `longshore user list`")
                owner = found.id
            return await api_key_store.list_api_keys(connection, owner, page)

    async def revoke(self, principal: Principal, key_id: str) -> None:
        """Harmless to repeat. Raises `ApiKeyUnknown` for a key of somebody else, unless the platform admin asks."""
        principal.require_whole()
        async with self._database.transaction() as unit:
            key = await api_key_store.find_api_key(unit.connection, key_id) if is_id(key_id) else None
            if key is None or (key.user_id != principal.user_id and not principal.platform_admin):
                raise ApiKeyUnknown(f"there is no API key {key_id[:80]!r}", action="list your keys")
            await api_key_store.revoke_api_key(unit.connection, key.id, self._clock.now())
            act = act_of(principal, "tenants.api_key_revoked", tenant=key.tenant or "", subject=key.id)
            self._trail.record(unit, act)
        await self._memory.forget(_cache_key(key.id))

    async def authenticate(self, text: str) -> Principal:
        """Raises `ApiKeyInvalid`, the same for every reason."""
        given = OpaqueSecret.parse(KEY_PREFIX, text)
        known = await self._find(given.id) if given is not None else None
        if given is None or known is None or not given.matches(known.secret_hash):
            raise _invalid()
        principal = await self._principal(given.id, known)
        await self._uses.record(given.id)
        return principal

    async def principal(self, key_id: str) -> Principal:
        """Whom a key speaks for that was shown before. Raises `ApiKeyInvalid` if it does not count any more."""
        known = await self._find(key_id)
        if known is None:
            raise _invalid()
        return await self._principal(key_id, known)

    async def _principal(self, key_id: str, known: _Known) -> Principal:
        if known.expires_at is not None and known.expires_at <= self._clock.now().timestamp():
            raise _invalid()
        standing = await self._standings.get(known.user_id)
        if standing is None or standing.disabled:
            raise _invalid()
        return standing.limited_to(known.tenant, known.role, key_id)

    async def _find(self, key_id: str) -> _Known | None:
        async def read() -> bytes | None:
            async with self._database.reading() as connection:
                key = await api_key_store.find_api_key(connection, key_id)
            return _encode(key) if key is not None and key.revoked_at is None else None

        value = await self._memory.get(_cache_key(key_id), read)
        return _decode(value) if value is not None else None


async def _touch(unit: UnitOfWork, key_id: str, now: datetime, not_after: datetime) -> None:
    await api_key_store.touch_api_key(unit.connection, key_id, now, not_after)


def _cache_key(key_id: str) -> str:
    return f"tenants/api-key/1/{key_id}"


def _encode(key: ApiKey) -> bytes:
    return json.dumps(
        [
            key.user_id,
            key.secret_hash,
            key.tenant,
            key.role.value if key.role is not None else None,
            key.expires_at.timestamp() if key.expires_at is not None else None,
        ]
    ).encode()


def _decode(value: bytes) -> _Known:
    user_id, secret_hash, tenant, role, expires_at = json.loads(value)
    return _Known(user_id, secret_hash, tenant, Role(role) if role is not None else None, expires_at)


def _invalid() -> ApiKeyInvalid:
    return ApiKeyInvalid("the API key is not valid", action="check it; it may have expired or been revoked")
