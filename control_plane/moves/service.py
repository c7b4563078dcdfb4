"""Use cases of moves: begin, look, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from common.clock import Clock
from common.errors import Invalid
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.fleet.hosts import Members
from control_plane.instances import placing
from control_plane.instances import store as instance_store
from control_plane.instances.mobility import Reason, unmovable
from control_plane.instances.model import Instance
from control_plane.instances.offers import names_by_host, offers
from control_plane.instances.placing import put_desired
from control_plane.instances.reading import InstanceReading, readable_tenants
from control_plane.moves import store
from control_plane.moves.carrying import Carrying, announcement
from control_plane.moves.model import (
    AT_SOURCE,
    ON_TRIAL,
    Move,
    MoveImpossible,
    MoveTooLate,
    MoveUnderWay,
    MoveUnknown,
    Stage,
)
from control_plane.moves.rules import no_place
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.web.paging import Page, PageRequest

SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=1)


class MoveInvalid(Invalid):
    code = "move_invalid"


class MoveService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        reading: InstanceReading,
        members: Members,
        carrying: Carrying,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._clock = clock
        self._reading = reading
        self._members = members
        self._carrying = carrying
        self._trail = trail

    async def begin(self, principal: Principal, instance_id: str, host: str, within: timedelta) -> Move:
        """Harmless to repeat. Raises `InstanceUnknown`, `HostUnknown`, `MoveInvalid`, `MoveImpossible`, `MoveUnderWay`,
        `HostClosed`, `NoRoom`, `Denied`; then nothing changed.
        """
        if not SHORTEST <= within <= LONGEST:
            raise MoveInvalid("it cannot take that long", action="give a minute to a day", field="within_seconds")
        view = await self._reading.get(principal, instance_id)
        principal.require(Permission.INSTANCE_WRITE, view.instance.tenant)
        target = (await self._members.get("host", host)).member
        async with self._database.transaction() as unit:
            move = await self.put(unit, instance_id, target.id, target.idc_id, within, principal.name)
            self._record(unit, principal, "begun", move)
        self._carrying.wake()
        return move

    async def put(
        self, unit: UnitOfWork, instance_id: str, host_id: str, idc_id: str, within: timedelta, by: str
    ) -> Move:
        """A new move to that host, or the open one if it goes there. Raises as `begin`."""
        # The move before the instance before hosts, here and everywhere: nobody waits in a circle.
        last = await store.last_of(unit.connection, instance_id, locked=True)
        known = await instance_store.find_locked(unit.connection, instance_id)
        if known is None:
            raise MoveUnknown("the instance is gone", action="see `longshore instance list`")
        if last is not None and last.ended_at is None:
            if last.target_host_id == host_id and not last.cancelled_by and last.stage is not Stage.RETURNING:
                return last
            raise MoveUnderWay("it is moving to another host", action="wait, or cancel that first", move_id=last.id)
        if reason := await self._obstacle(unit, known, host_id):
            raise _impossible(reason)
        await placing.require_room(unit, [host_id], placing.resources_of(known.spec))
        now = unit.clock.now()
        wanted = replace(known, generation=known.generation + 1, updated_at=now)
        move = Move(
            id=new_id(self._clock),
            instance_id=known.id,
            tenant_id=known.tenant_id,
            tenant=known.tenant,
            name=known.name,
            source_host_id=known.host_id,
            source_idc_id=known.idc_id,
            target_host_id=host_id,
            target_idc_id=idc_id,
            stage=Stage.STOPPING,
            generation=wanted.generation,
            requested_by=by,
            created_at=now,
            stage_at=now,
            stalled_at=now,
            give_up_at=now + within,
        )
        if not await store.add(unit.connection, move):
            raise MoveUnderWay("it is moving to another host", action="wait, or cancel that first")
        await put_desired(unit, known, wanted)
        await unit.announce(announcement(move))
        return move

    async def get(self, principal: Principal, instance_id: str) -> Move:
        """The last move of an instance. Raises `InstanceUnknown`, `MoveUnknown`."""
        await self._reading.get(principal, instance_id)
        async with self._database.reading() as connection:
            found = await store.last_of(connection, instance_id)
        return _there(found)

    async def page(self, principal: Principal, request: PageRequest, *, open_only: bool = False) -> Page[Move]:
        """Newest first, of the tenants that one may see."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            return await store.page(connection, readable_tenants(principal), request, open_only=open_only)

    async def cancel(self, principal: Principal, instance_id: str) -> Move:
        """It goes back. Harmless to repeat. Raises `InstanceUnknown`, `MoveUnknown`, `MoveTooLate`."""
        view = await self._reading.get(principal, instance_id)
        principal.require(Permission.INSTANCE_WRITE, view.instance.tenant)
        async with self._database.transaction() as unit:
            move = _there(await store.last_of(unit.connection, instance_id, locked=True))
            if move.cancelled_by or move.stage in (Stage.RETURNING, Stage.FAILED):
                return move
            if move.stage not in AT_SOURCE | ON_TRIAL:
                raise MoveTooLate("the instance has moved", action="move it back")
            move = replace(move, cancelled_by=principal.name)
            await store.put(unit.connection, move)
            self._record(unit, principal, "cancelled", move)
            return await self._carrying.carry_on(unit, move)

    async def labels(self, moves: Sequence[Move]) -> dict[str, str]:
        """`idc/name` of the hosts concerned, by id."""
        return await self._members.labels({one for move in moves for one in (move.source_host_id, move.target_host_id)})

    async def forget(self, kept: timedelta) -> int:
        """Outcomes older than that; how many. For a periodic job."""
        async with self._database.transaction() as unit:
            return await store.forget_ended(unit.connection, unit.clock.now() - kept)

    async def _obstacle(self, unit: UnitOfWork, instance: Instance, target_id: str) -> Reason | None:
        if reason := unmovable(instance):
            return reason
        if await store.deployed(unit.connection, [instance.id]):
            return "deployed", "a deployment has placed it; change its rules, or drain its host"
        both = [instance.host_id, target_id]
        found = {one.host_id: one for one in await offers(unit.connection, at=self._members.look(), host_ids=both)}
        source, target = found.get(instance.host_id), found.get(target_id)
        if source is None or target is None:
            return "revoked", "its own host was revoked" if source is None else "that host was revoked"
        if source.absent_since is not None:
            return "source_away", f"its own host {source.label} is away"
        if reason := no_place(instance, placing.resources_of(instance.spec), source.architecture, target):
            return reason
        present, leaving = await names_by_host(unit.connection, instance.tenant_id)
        if instance.name in present[target_id] | leaving[target_id]:
            return "name", f"{target.label} has an instance of that name"
        return None

    def _record(self, unit: UnitOfWork, principal: Principal, what: str, move: Move) -> None:
        details = {"move_id": move.id, "source_host_id": move.source_host_id, "target_host_id": move.target_host_id}
        act = act_of(principal, f"instance.move_{what}", tenant=move.tenant, subject=move.instance_id, details=details)
        self._trail.record(unit, act)


def _there(move: Move | None) -> Move:
    if move is None:
        raise MoveUnknown("the instance does not move, and did not", action="move it with `longshore instance migrate`")
    return move


def _impossible(reason: Reason) -> MoveImpossible:
    word, text = reason
    return MoveImpossible(text, action="choose another host, or change the instance", reason=word)
