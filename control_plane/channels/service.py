"""Opening a channel to an instance: whether one may, how many there are, that it is written down, and the host asked.

Invariant: nothing runs in a container that the audit trail does not have: a command's entry, with its words and without
anything that is typed, is committed before the host hears of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from control_plane.audit.service import AuditTrail
from control_plane.channels.calls import Calls
from control_plane.channels.exchange import Exchange
from control_plane.channels.lines import Line
from control_plane.channels.model import CommandWanted, ConsoleWanted, ExportWanted, HostAway, LogsWanted, Wanted
from control_plane.channels.rules import audited_command, check_command, check_size, dialable
from control_plane.channels.shares import Shares
from control_plane.channels.store import Whose
from control_plane.channels.wire import order_message
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.fleet.model import State
from control_plane.instances.model import InstanceView
from control_plane.instances.reading import InstanceReading
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of

log = structlog.get_logger()

# Asks who speaks, once more: raises `Unauthenticated` when the credentials have ended.
Again = Callable[[], Awaitable[Principal]]


class ChannelService:
    """`address`: host:port where hosts reach the attach listener of this very replica; "" or every interface: where
    they attach.
    """

    def __init__(
        self,
        database: Database,
        reading: InstanceReading,
        members: Members,
        exchange: Exchange,
        shares: Shares,
        calls: Calls,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._reading = reading
        self._members = members
        self._exchange = exchange
        self._shares = shares
        self._calls = calls
        self._trail = trail
        self.address: Callable[[], str] = lambda: ""

    async def admit(self, principal: Principal, instance_id: str) -> None:
        """Whether one may have a channel for typing, asked before a WebSocket is taken. Raises `Unauthenticated`,
        `InstanceUnknown`, `Denied`.
        """
        view = await self._reading.get(principal, instance_id)
        principal.require(Permission.INSTANCE_EXEC, view.instance.tenant)

    @contextlib.asynccontextmanager
    async def open(self, principal: Principal, instance_id: str, wanted: Wanted, again: Again) -> AsyncIterator[Line]:
        """A channel whose host has come; it is over when the block is left, or when `again` finds that its client may
        not have it any more. Raises `InstanceUnknown`, `Denied`, `ChannelRequestInvalid`, `TooManyChannels`,
        `HostAway`, `ChannelNotOpened`, and what the host says.
        """
        view = await self._reading.get(principal, instance_id)
        instance, permission = view.instance, _permission(wanted)
        principal.require(permission, instance.tenant)
        _check(wanted)
        await self._require_host(view)
        user = principal.user_id or ""
        with self._exchange.line(instance.host_id, instance.tenant, user) as (line, secret), self._shares.held(line.id):

            async def still() -> None:
                (await again()).require(permission, instance.tenant)
                if not await self._members.may_read(f"host/{instance.host_id}"):
                    raise HostAway(f"host {view.idc}/{view.host} was revoked", action="see `longshore host list`")

            line.still = still
            here = self._exchange.counted(instance.host_id, instance.tenant, user)
            await self._shares.take(line.id, Whose(instance.host_id, instance.tenant_id, user), here)
            await self._record(principal, view, wanted)
            longest = self._exchange.limits.longest_seconds
            order = order_message(line.id, secret, dialable(self.address()), instance.id, longest, wanted)
            await self._calls.call(instance.host_id, order)
            await line.opened()
            log.info("channel opened", kind=_verb(wanted), instance=instance.id, user=principal.name, channel=line.id)
            try:
                yield line
            finally:
                log.info("channel ended", kind=_verb(wanted), instance=instance.id, channel=line.id)

    async def _require_host(self, view: InstanceView) -> None:
        seen = await self._members.get("host", view.instance.host_id)
        if seen.state in (State.OFFLINE, State.REVOKED):
            raise HostAway(
                f"host {view.idc}/{view.host} is {seen.state.value}",
                action="try again when it is attached; see `longshore host list`",
                retry_after_seconds=10,
            )

    async def _record(self, principal: Principal, view: InstanceView, wanted: Wanted) -> None:
        if isinstance(wanted, LogsWanted):
            return
        details: dict[str, object] = {"instance_id": view.instance.id, "host": f"{view.idc}/{view.host}"}
        if isinstance(wanted, CommandWanted):
            details |= {**audited_command(wanted.argv), "terminal": wanted.terminal is not None, "user": wanted.user}
        act = act_of(
            principal,
            f"instance.{_verb(wanted)}",
            tenant=view.instance.tenant,
            subject=view.instance.name,
            details=details,
        )
        async with self._database.transaction() as unit:
            self._trail.record(unit, act)


def _permission(wanted: Wanted) -> Permission:
    return Permission.INSTANCE_READ if isinstance(wanted, LogsWanted) else Permission.INSTANCE_EXEC


def _verb(wanted: Wanted) -> str:
    match wanted:
        case LogsWanted():
            return "logs"
        case CommandWanted():
            return "exec"
        case ConsoleWanted():
            return "console"
        case ExportWanted():
            return "export"


def _check(wanted: Wanted) -> None:
    match wanted:
        case CommandWanted():
            check_command(wanted)
        case ConsoleWanted():
            check_size(wanted.terminal)
