"""Changing what a repository grants: visibility and grants, by administrators of its tenant and holders of an admin
grant.

Invariant: a grant to a group stays within the tenant of the repository; every change is in the audit trail and counts
at once in this process (`rights` says when elsewhere). Granting to somebody tells that he exists: only to who manages a
repository, and not without a trace.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from common.errors import Conflict, Invalid, NotFound
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.registry import grant_store, repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.grants import ACTIONS_SHOWN, MANAGE, GranteeKind, GrantRecord, Level, Visibility
from control_plane.registry.model import Repository
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PULL
from control_plane.tenants.access import Principal
from control_plane.tenants.acting import act_of
from control_plane.web.paging import Page, PageRequest

MAX_GRANTS = 500


class GranteeUnknown(NotFound):
    code = "grantee_unknown"


class GrantUnknown(NotFound):
    code = "grant_unknown"


class GrantExpired(Invalid):
    code = "grant_expired"


class TooManyGrants(Conflict):
    code = "too_many_grants"


class Grantees(Protocol):
    """Names to ids and back, of whom something can be granted to; unknown ones are absent."""

    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]: ...

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]: ...

    async def user_ids_of(self, names: Collection[str]) -> Mapping[str, str]: ...

    async def user_names_of(self, ids: Collection[str]) -> Mapping[str, str]: ...

    async def group_ids_of(self, tenant_id: str) -> Mapping[str, str]:
        """Of all groups of the tenant, by name."""
        ...


class GrantService:
    def __init__(self, database: Database, rights: Rights, grantees: Grantees, trail: AuditTrail) -> None:
        self._database = database
        self._rights = rights
        self._grantees = grantees
        self._trail = trail

    async def access(self, principal: Principal, repository: str) -> tuple[Visibility, tuple[str, ...]]:
        """The visibility, and what the principal may. Raises what `Rights.require` does for reading."""
        await self._rights.require(principal, repository, PULL)
        async with self._database.reading() as connection:
            found = await repository_store.find_repository(connection, repository)
            if found is None:
                raise unknown_repository(repository)
            visibility = await grant_store.visibility_of(connection, found.repository_id)
        may = [action for action in ACTIONS_SHOWN if await self._rights.may(principal, repository, action)]
        return visibility, tuple(may)

    async def set_visibility(self, principal: Principal, repository: str, visibility: Visibility) -> None:
        """Raises what `Rights.require` does, `RepositoryUnknown`."""
        await self._rights.require(principal, repository, MANAGE)
        async with self._database.transaction() as unit:
            held = await _held(unit, repository)
            await grant_store.set_visibility(unit.connection, held.repository_id, visibility)
            self._record(unit, principal, "registry.visibility_changed", held, visibility=visibility.value)
        self._rights.forget(repository)

    async def list(self, principal: Principal, repository: str, page: PageRequest) -> Page[GrantRecord]:
        """Those that have not expired, in order of kind and id. Raises what `Rights.require` does."""
        await self._rights.require(principal, repository, MANAGE)
        async with self._database.reading() as connection:
            found = await repository_store.find_repository(connection, repository)
            if found is None:
                raise unknown_repository(repository)
            now = self._database.clock.now()
            records = await grant_store.grants_of(connection, found.repository_id, now)
        named = await self._named(found, records)
        return Page(named[page.offset : page.offset + page.limit], len(named), page)

    async def put(
        self,
        principal: Principal,
        repository: str,
        kind: GranteeKind,
        name: str,
        level: Level,
        expires_at: datetime | None = None,
    ) -> GrantRecord:
        """In place of what was granted to it before.

        Raises what `Rights.require` does, `GranteeUnknown`, `GrantExpired`, `TooManyGrants`.
        """
        await self._rights.require(principal, repository, MANAGE)
        now = self._database.clock.now()
        if expires_at is not None and expires_at <= now:
            raise GrantExpired("the grant would have expired already", action="give a time that is still to come")
        grantee = await self._grantee(repository, kind, name)
        record = GrantRecord(kind, grantee, name, level, expires_at, principal.name, now)
        async with self._database.transaction() as unit:
            held = await _held(unit, repository)
            await grant_store.forget_expired(unit.connection, held.repository_id, now)
            await grant_store.put_grant(unit.connection, held.repository_id, record)
            if await grant_store.count_grants(unit.connection, held.repository_id) > MAX_GRANTS:
                raise TooManyGrants(
                    f"{repository} has {MAX_GRANTS} grants already", action="grant to a group or a tenant instead"
                )
            self._record(unit, principal, "registry.granted", held, to=f"{kind} {name}", level=level.value)
        self._rights.forget(repository)
        return record

    async def remove(self, principal: Principal, repository: str, kind: GranteeKind, name: str) -> None:
        """Counts at once. Raises what `Rights.require` does, `GrantUnknown`."""
        await self._rights.require(principal, repository, MANAGE)
        unknown = GrantUnknown(f"nothing is granted to the {kind} {name[:80]!r}", action="list the grants")
        try:
            grantee = await self._grantee(repository, kind, name)
        except GranteeUnknown as failure:
            raise unknown from failure
        async with self._database.transaction() as unit:
            held = await _held(unit, repository)
            if not await grant_store.delete_grant(unit.connection, held.repository_id, kind, grantee):
                raise unknown
            self._record(unit, principal, "registry.grant_removed", held, to=f"{kind} {name}")
        self._rights.forget(repository)

    async def _grantee(self, repository: str, kind: GranteeKind, name: str) -> str:
        match kind:
            case GranteeKind.USER:
                found = await self._grantees.user_ids_of([name])
            case GranteeKind.TENANT:
                found = await self._grantees.ids_of([name])
            case GranteeKind.GROUP:
                tenants = await self._grantees.ids_of([repository.partition("/")[0]])
                found = await self._grantees.group_ids_of(next(iter(tenants.values()), ""))
        if name not in found:
            raise GranteeUnknown(f"there is no {kind} {name[:80]!r}", action="check the name")
        return found[name]

    async def _named(self, repository: Repository, records: Collection[GrantRecord]) -> Sequence[GrantRecord]:
        """With names; what was granted to somebody who is gone is left out."""
        ids = {kind: [each.grantee for each in records if each.kind is kind] for kind in GranteeKind}
        groups = await self._grantees.group_ids_of(repository.tenant_id) if ids[GranteeKind.GROUP] else {}
        names = {
            GranteeKind.USER: await self._grantees.user_names_of(ids[GranteeKind.USER]),
            GranteeKind.TENANT: await self._grantees.names_of(ids[GranteeKind.TENANT]),
            GranteeKind.GROUP: {group_id: name for name, group_id in groups.items()},
        }
        return [each.named(names[each.kind][each.grantee]) for each in records if each.grantee in names[each.kind]]

    def _record(self, unit: UnitOfWork, by: Principal, what: str, held: Repository, **details: str) -> None:
        self._trail.record(unit, act_of(by, what, tenant=held.tenant, repository=held.name, details=details))


async def _held(unit: UnitOfWork, repository: str) -> Repository:
    held = await repository_store.hold_repository(unit.connection, repository, alone=True)
    if held is None:
        raise unknown_repository(repository)
    return held
