"""Hosts and regionals as operators and other domains see them: who there is, in which state, and the end of one.

Invariant: a revocation holds from its commit on: no certificate of the identity is let in again, on any replica, and
its live stream is ended by the message that commits with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from common.clock import Clock
from common.errors import NotFound
from common.identifiers import is_id
from common.tls import IdentityKind
from control_plane.database import Database
from control_plane.fleet import store_certificates, store_members
from control_plane.fleet.liveness import Horizon, state_of
from control_plane.fleet.messages import HostLabelled, IdentityRevoked, RegionalsChanged
from control_plane.fleet.model import HostUnknown, Member, Regional, RegionalUnknown, State, check_labels
from control_plane.web.paging import Page, PageRequest

log = structlog.get_logger()

_MOST_WARNINGS, _LONGEST_WARNING = 32, 500


@dataclass(frozen=True, slots=True)
class Seen:
    """A member and its state at the moment of looking."""

    member: Member
    state: State


class Members:
    """`look` gives the present horizon (`liveness.horizons`)."""

    def __init__(self, database: Database, clock: Clock, look: Callable[[], Horizon]) -> None:
        self._database = database
        self._clock = clock
        self.look = look

    async def list(
        self, kind: IdentityKind, page: PageRequest, *, idc: str | None = None, state: State | None = None
    ) -> Page[Seen]:
        """Revoked ones only if they are asked for."""
        at = self.look()
        async with self._database.reading() as connection:
            found, total = await store_members.list_members(
                connection, kind, idc=idc, state=state, at=at, offset=page.offset, limit=page.limit
            )
        return Page([Seen(member, state_of(member, at)) for member in found], total, page)

    async def get(self, kind: IdentityKind, name: str) -> Seen:
        """By id or `idc/name`. Raises `HostUnknown`, `RegionalUnknown`."""
        async with self._database.reading() as connection:
            if is_id(name):
                found = await store_members.find_member(connection, kind, name)
            else:
                idc, _, short = name.partition("/")
                found = await store_members.find_by_name(connection, kind, idc, short)
        if found is None:
            raise _unknown(kind, name)
        return Seen(found, state_of(found, self.look()))

    async def labels(self, host_ids: Collection[str]) -> dict[str, str]:
        """`idc/name` of those hosts, by id."""
        async with self._database.reading() as connection:
            found = await store_members.hosts_by_id(connection, host_ids)
        return {host.id: f"{host.idc}/{host.name}" for host in found}

    async def revoke(self, kind: IdentityKind, name: str) -> None:
        """Harmless to repeat. Raises `HostUnknown`, `RegionalUnknown`."""
        known = (await self.get(kind, name)).member
        async with self._database.transaction() as unit:
            member = await store_members.find_member(unit.connection, kind, known.id, locked=True)
            if member is None:
                raise _unknown(kind, name)
            if member.revoked_at is not None:
                return
            now = self._clock.now()
            await store_certificates.revoke_all(unit.connection, kind, member.id, now)
            await store_members.change(unit.connection, kind, member.id, revoked_at=now, session_id=None)
            await unit.announce(IdentityRevoked(kind, member.id))
            if kind == "regional":
                await unit.announce(RegionalsChanged(member.idc_id))
        log.info("identity revoked", audit=True, member=member.label, id=member.id)

    async def label(self, name: str, labels: Mapping[str, str]) -> Seen:
        """All labels of a host at once. Raises `HostUnknown`, `LabelInvalid`."""
        known = (await self.get("host", name)).member
        async with self._database.transaction() as unit:
            await store_members.change(unit.connection, "host", known.id, labels=dict(check_labels(labels)))
            await unit.announce(HostLabelled(known.id))
        return await self.get("host", name)

    async def warned(self, regional_id: str, warnings: Sequence[str]) -> None:
        """What is wrong where this regional is, as it says; instead of what it said before."""
        said = [each.replace("\0", "")[:_LONGEST_WARNING] for each in warnings[:_MOST_WARNINGS]]
        async with self._database.transaction() as unit:
            found = await store_members.find_member(unit.connection, "regional", regional_id, locked=True)
            if not isinstance(found, Regional) or list(found.warnings) == said:
                return
            await store_members.change(unit.connection, "regional", regional_id, warnings=said)
        log.info("a regional warns" if said else "a regional warns no more", member=found.label, warnings=said)

    async def may_read(self, bearer: str) -> bool:
        """Whether `host/<id>` or `regional/<id>`, the bearer of a content token, exists and is not revoked."""
        kind, _, identity_id = bearer.partition("/")
        if kind not in store_members.KINDS:
            return False
        async with self._database.reading() as connection:
            found = await store_members.find_member(connection, "host" if kind == "host" else "regional", identity_id)
        return found is not None and found.revoked_at is None


def _unknown(kind: IdentityKind, name: str) -> NotFound:
    failure = HostUnknown if kind == "host" else RegionalUnknown
    return failure(f"there is no {kind} {name[:120]}", action=f"see `longshore {kind} list`")
