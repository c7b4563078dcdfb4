"""Logins of registry clients that last: `docker login` keeps a refresh token, `lsd_<id>_<secret>`, in place of the
password, and each later pull changes it for a token of fifteen minutes (distribution: spec/auth/oauth.md).

Invariants: stored as a hash, shown once. It does not rotate: clients keep what `docker login` wrote and write nothing
at a pull (Docker's credential file would be stale after the first one). So it ends at a time, or before: with the
password or key that made it, when its owner ends it, or when the owner has too many newer ones. It makes registry
tokens and nothing else; ones that were made live on for their fifteen minutes.
"""

from __future__ import annotations

from datetime import datetime

from common.clock import Clock
from common.errors import NotFound, Unauthenticated
from common.identifiers import is_id, new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import registry_login_store, user_store
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.tenants.key_uses import KeyUses
from control_plane.tenants.model import RegistryLogin, TenantSettings
from control_plane.tenants.opaque import OpaqueSecret
from control_plane.tenants.owners import Owners, Shown
from control_plane.web.paging import Page, PageRequest

LOGIN_PREFIX = "lsd_"
# buildkit and others ask for one at each build.
_MOST = 100
_CLIENT_LENGTH = 64


class RegistryLoginInvalid(Unauthenticated):
    code = "registry_login_invalid"


class RegistryLoginUnknown(NotFound):
    code = "registry_login_unknown"


class RegistryLogins:
    def __init__(
        self, database: Database, clock: Clock, owners: Owners, settings: TenantSettings, trail: AuditTrail
    ) -> None:
        self._database = database
        self._clock = clock
        self._owners = owners
        self._lifetime = settings.registry_login_lifetime
        self._trail = trail
        self._uses = KeyUses(database, clock, _touch)

    async def open(self, principal: Principal, client: str) -> str | None:
        """A refresh token for who was just authenticated by `client` (what it calls itself); None where there are none
        (`registry.login_days` 0), and for nobody.
        """
        shown = await self._owners.shown_by(principal)
        if not shown.user_id or not self._lifetime:
            return None
        secret, now = OpaqueSecret.generate(new_id(self._clock)), self._clock.now()
        name = "".join(letter for letter in client if letter.isprintable())[:_CLIENT_LENGTH]
        login = RegistryLogin(
            secret.id,
            shown.user_id,
            shown.key_id,
            shown.robot,
            shown.generation,
            secret.hash,
            name,
            now,
            now + self._lifetime,
            None,
        )
        async with self._database.transaction() as unit:
            await registry_login_store.add(unit.connection, login)
            await registry_login_store.keep_newest(unit.connection, shown.user_id, _MOST)
            act = act_of(principal, "tenants.registry_login", subject=login.id, details={"client": name})
            self._trail.record(unit, act)
        return secret.text(LOGIN_PREFIX)

    async def resume(self, text: str) -> Principal:
        """Whom a refresh token speaks for. Raises `RegistryLoginInvalid`, the same for every reason, and what a key is
        refused with.
        """
        given = OpaqueSecret.parse(LOGIN_PREFIX, text)
        if given is None:
            raise _invalid()
        async with self._database.reading() as connection:
            login = await registry_login_store.find(connection, given.id)
        if login is None or not given.matches(login.secret_hash) or login.expires_at <= self._clock.now():
            raise _invalid()
        shown = Shown(login.user_id, login.key_id, login.robot, login.generation)
        principal = await self._owners.principal(shown)
        if principal is None:
            raise _invalid()
        await self._uses.record(login.id)
        return principal

    async def list(self, principal: Principal, page: PageRequest, user: str | None = None) -> Page[RegistryLogin]:
        """One's own; the platform admin may name another user. Raises `Denied`, `NotFound`."""
        principal.require_whole()
        async with self._database.reading() as connection:
            owner = principal.user_id or ""
            if user is not None and user != principal.name:
                principal.require(Permission.PLATFORM_MANAGE)
                found = await user_store.find_user(connection, user)
                if found is None:
                    raise NotFound(f"there is no user {user!r}", action="check the name with `longshore user list`")
                owner = found.id
            return await registry_login_store.page_of(connection, owner, self._clock.now(), page)

    async def end(self, principal: Principal, login_id: str) -> None:
        """Raises `RegistryLoginUnknown`, also for somebody else's, unless the platform admin asks."""
        principal.require_whole()
        async with self._database.transaction() as unit:
            login = await registry_login_store.find(unit.connection, login_id) if is_id(login_id) else None
            if login is None or (login.user_id != principal.user_id and not principal.platform_admin):
                raise RegistryLoginUnknown(
                    f"there is no registry login {login_id[:80]!r}", action="see `longshore registry-login list`"
                )
            await registry_login_store.remove(unit.connection, login.id)
            self._trail.record(unit, act_of(principal, "tenants.registry_login_ended", subject=login.id))

    async def forget_expired(self) -> int:
        """For a periodic job; returns how many."""
        async with self._database.transaction() as unit:
            return await registry_login_store.forget_expired(unit.connection, self._clock.now())


async def _touch(unit: UnitOfWork, login_id: str, now: datetime, not_after: datetime) -> None:
    await registry_login_store.touch(unit.connection, login_id, now, not_after)


def _invalid() -> RegistryLoginInvalid:
    return RegistryLoginInvalid("the registry login is not valid any more", action="`docker login` again")
