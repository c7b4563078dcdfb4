"""Use cases of commands: ask for one, cancel it, see what came of it, and take what hosts report.

Invariant: a command is durable before its host hears of it, and marked as offered before it is sent; so one that is
still queued was never sent, and can be cancelled for certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Conflict
from common.identifiers import is_id, new_id
from control_plane.audit.service import AuditTrail
from control_plane.commands import store
from control_plane.commands.messages import CommandEnded, CommandWaits
from control_plane.commands.model import (
    MOST_OPEN_PER_HOST,
    OF_INSTANCES,
    OPEN,
    Command,
    CommandDiffers,
    CommandInvalid,
    CommandUnknown,
    TooManyCommands,
    Verb,
    aged,
    cancelled,
    check_argument,
    offered,
    reported,
)
from control_plane.commands.store import CommandFilter
from control_plane.commands.wire import report_of
from control_plane.database import Database, UnitOfWork
from control_plane.database.locks import hold_row
from control_plane.fleet.hosts import Members
from control_plane.fleet.tables import hosts
from control_plane.instances.reading import InstanceReading, readable_tenants
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.web.paging import Page, PageRequest
from proto.agent.v1 import commands_pb2

log = structlog.get_logger()

KEPT = timedelta(days=30)
_AT_ONCE = 500


class HostGone(Conflict):
    code = "host_revoked"


@dataclass(frozen=True, slots=True)
class Wish:
    """`id`: chosen by the client, so that a request that is repeated is one command; empty: a new one."""

    verb: Verb
    id: str = ""
    begin_within: timedelta = timedelta(hours=1)
    end_within: timedelta = timedelta(minutes=10)
    argument: str = ""


class CommandService:
    def __init__(
        self, database: Database, clock: Clock, members: Members, instances: InstanceReading, trail: AuditTrail
    ) -> None:
        self._database = database
        self._clock = clock
        self._members = members
        self._instances = instances
        self._trail = trail

    async def ask_host(self, principal: Principal, host: str, wish: Wish) -> Command:
        """`host`: id or `idc/name`. Raises `HostUnknown`, `HostGone`, `CommandInvalid`, `CommandDiffers`,
        `TooManyCommands`, `Denied`; then nothing changed.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        if wish.verb in OF_INSTANCES:
            raise CommandInvalid(f"{wish.verb.value} concerns an instance", action="ask it of the instance")
        host_id = (await self._members.get("host", host)).member.id
        return await self._ask(principal, host_id, "", "", wish)

    async def ask_instance(self, principal: Principal, instance_id: str, wish: Wish) -> Command:
        """Raises `InstanceUnknown`, and like `ask_host`."""
        view = await self._instances.get(principal, instance_id)
        principal.require(Permission.INSTANCE_WRITE, view.instance.tenant)
        if wish.verb not in OF_INSTANCES:
            raise CommandInvalid(f"{wish.verb.value} concerns a host", action="ask it of the host")
        return await self._ask(principal, view.instance.host_id, instance_id, view.instance.tenant, wish)

    async def get(self, principal: Principal, command_id: str) -> Command:
        """With its result. Raises `CommandUnknown`, also for what one may not see."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            found = await store.find(connection, command_id) if is_id(command_id) else None
        return _visible(principal, found, command_id)

    async def page(
        self,
        principal: Principal,
        request: PageRequest,
        *,
        host: str | None = None,
        instance_id: str | None = None,
        open_only: bool = False,
    ) -> Page[Command]:
        """Newest first: those to instances that one may see; to hosts, only for the platform admin."""
        principal.require(Permission.PLATFORM_READ)
        host_id = None if host is None else (await self._members.get("host", host)).member.id
        async with self._database.reading() as connection:
            wanted = CommandFilter(host_id, instance_id, open_only)
            return await store.page(connection, wanted, readable_tenants(principal), request)

    async def labels(self, found: Sequence[Command]) -> Mapping[str, str]:
        """`idc/name` of their hosts, by id."""
        return await self._members.labels({one.host_id for one in found})

    async def cancel(self, principal: Principal, command_id: str) -> Command:
        """At once if its host was not told; else its host has the last word. Harmless to repeat. Raises
        `CommandUnknown`, `CommandTooLate`, `Denied`.
        """
        principal.require(Permission.PLATFORM_READ)
        async with self._database.transaction() as unit:
            found = await store.find(unit.connection, command_id, locked=True) if is_id(command_id) else None
            known = _visible(principal, found, command_id)
            if known.tenant:
                principal.require(Permission.INSTANCE_WRITE, known.tenant)
            else:
                principal.require(Permission.PLATFORM_MANAGE)
            after = cancelled(known, unit.clock.now())
            if after != known:
                await self._put(unit, known, after)
                await unit.announce(CommandWaits(known.host_id))
                self._record(unit, principal, "cancelled", known)
        return after

    async def offered(self, host_id: str) -> list[Command]:
        """What the host is to be told now; marked as told when this returns."""
        async with self._database.transaction() as unit:
            found = (await store.to_tell(unit.connection, [host_id], locked=True)).get(host_id, [])
            now = unit.clock.now()
            told = [offered(aged(one, now), now) for one in found]
            for before, after in zip(found, told, strict=True):
                if after != before:
                    await self._put(unit, before, after)
        return [one for one in told if one.state in OPEN]

    async def hosts_to_tell(self) -> dict[str, list[Command]]:
        async with self._database.reading() as connection:
            return await store.to_tell(connection)

    async def accept(self, host_id: str, said: Sequence[commands_pb2.CommandReport]) -> None:
        """Implements `fleet.desired.CommandSink`. Of other hosts' commands nothing is believed."""
        reports = {one[0]: one for message in said if (one := report_of(message)) is not None}
        if not reports:
            return
        async with self._database.transaction() as unit:
            for known in await store.of_host(unit.connection, host_id, list(reports)):
                _, state, detail, result = reports[known.id]
                after = reported(known, state, detail, result, unit.clock.now())
                if after != known:
                    await self._put(unit, known, after)

    async def sweep(self) -> int:
        """Give up what is too old, and forget outcomes in time; returns how many. For a periodic job."""
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            changed = 0
            for known in await store.aging(unit.connection, now, _AT_ONCE):
                after = aged(known, now)
                if after != known:
                    await self._put(unit, known, after)
                    changed += 1
            return changed + await store.forget_ended(unit.connection, now - KEPT)

    async def _ask(self, principal: Principal, host_id: str, instance_id: str, tenant: str, wish: Wish) -> Command:
        _check(wish)
        now = self._clock.now()
        command = Command(
            id=wish.id or new_id(self._clock),
            host_id=host_id,
            verb=wish.verb,
            instance_id=instance_id,
            tenant=tenant,
            requested_by=principal.name,
            created_at=now,
            begin_by=now + wish.begin_within,
            end_seconds=int(wish.end_within.total_seconds()),
            argument=wish.argument,
        )
        async with self._database.transaction() as unit:
            host = await hold_row(unit.connection, hosts, host_id)
            if host is None or host.revoked_at is not None:
                raise HostGone("its host was revoked", action="see `longshore host list`")
            there = await store.find(unit.connection, command.id)
            if there is not None:
                return _same(there, command)
            if await store.open_count(unit.connection, host_id) >= MOST_OPEN_PER_HOST:
                raise TooManyCommands(
                    f"{MOST_OPEN_PER_HOST} commands wait for that host",
                    action="wait for them, or cancel some",
                    retry_after_seconds=30,
                )
            if not await store.add(unit.connection, command):
                raise CommandDiffers("that id is taken", action="choose another one")
            await unit.announce(CommandWaits(host_id))
            self._record(unit, principal, "asked", command)
        return command

    async def _put(self, unit: UnitOfWork, before: Command, after: Command) -> None:
        await store.put(unit.connection, after)
        if after.state not in OPEN and after.state is not before.state:
            await unit.announce(CommandEnded(after.id, after.host_id, after.verb.value, after.state.value))
            log.info("command ended", command=after.id, verb=after.verb.value, state=after.state.value)

    def _record(self, unit: UnitOfWork, principal: Principal, what: str, command: Command) -> None:
        details = {"verb": command.verb.value, "host_id": command.host_id, "command_id": command.id}
        details |= {"argument": command.argument} if command.argument else {}
        act = act_of(
            principal,
            f"command.{what}",
            tenant=command.tenant,
            subject=command.instance_id or command.host_id,
            details=details,
        )
        self._trail.record(unit, act)


def _check(wish: Wish) -> None:
    check_argument(wish.verb, wish.argument)
    if wish.id and not is_id(wish.id):
        raise CommandInvalid(f"{wish.id[:80]!r} is no id", action="give a UUID, or none")
    if not timedelta(seconds=1) <= wish.begin_within <= timedelta(days=7):
        raise CommandInvalid("it cannot wait that long", action="give 1 second to 7 days to begin within")
    if not timedelta(seconds=1) <= wish.end_within <= timedelta(hours=1):
        raise CommandInvalid("it cannot take that long", action="give 1 second to 1 hour to end within")


def _same(there: Command, asked: Command) -> Command:
    if there.subject != asked.subject:
        raise CommandDiffers("that id names another command", action="choose another one", command_id=there.id)
    return there


def _visible(principal: Principal, found: Command | None, command_id: str) -> Command:
    """Commands to hosts are the platform's; those to another tenant's instances are unknown, not forbidden."""
    seen = found is not None and (
        principal.may(Permission.INSTANCE_READ, found.tenant)
        if found.tenant
        else principal.may(Permission.PLATFORM_MANAGE)
    )
    if found is None or not seen:
        raise CommandUnknown(f"there is no command {command_id[:80]!r}", action="see `longshore command list`")
    return found
