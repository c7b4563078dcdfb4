"""What regionals say of machines: each report counted once, in the order it came, or refused with a reason.

Invariants: a report is written down in the transaction that remembers its id, so delivering it again changes nothing. A
regional speaks only of machines of its own IDC, and of intents of the machine that it names; anything else is refused,
and so are reports that make no sense: refusing one never holds up the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Denied, Failure, Invalid, Unavailable
from common.identifiers import is_id
from control_plane.database import Database, UnitOfWork
from control_plane.machines import store, store_events, store_logs, store_tasks, transitions, wire
from control_plane.machines.arming import Arming, announced
from control_plane.machines.enlisting import Enlisting
from control_plane.machines.messages import MachineBooted
from control_plane.machines.model import Machine, TimelineEvent
from control_plane.machines.power.orders import PowerOrders
from control_plane.machines.tasks_model import InstallTask, LogLine
from proto.regional.v1 import machines_pb2

log = structlog.get_logger()

_MOST_REPORTS = 1000
_MOST_EVENTS = 500
_MOST_LINES, _LONGEST_LINE = 500, 1000
_KEPT_LINES = 5000
_REPORTS_KEPT = timedelta(days=60)
_PENDING_KEPT = timedelta(days=30)


class ReportRefused(Denied):
    """It is not for this regional to say."""

    code = "machine_report_refused"


class ReportMalformed(Invalid):
    code = "machine_report_malformed"


@dataclass(frozen=True, slots=True)
class Reporter:
    """The regional that speaks."""

    regional_id: str
    idc_id: str
    idc: str


class Receiving:
    def __init__(
        self, database: Database, clock: Clock, enlisting: Enlisting, arming: Arming, power: PowerOrders
    ) -> None:
        self._database = database
        self._clock = clock
        self._enlisting = enlisting
        self._arming = arming
        self._power = power
        self._takers: Mapping[str, Callable[[UnitOfWork, Reporter, machines_pb2.MachineReport], Awaitable[None]]] = {
            "sighting": self._sighting,
            "inventory": self._inventory,
            "event": self._event,
            "operation": self._operation,
            "install": self._install,
            "power": self._ordered,
        }

    async def accept(
        self, reporter: Reporter, reports: Sequence[machines_pb2.MachineReport]
    ) -> list[machines_pb2.RefusedReport]:
        """Durable when it returns; those that are refused, with the reason. Raises `Unavailable` if the database is
        away: then it may be delivered again, and what was counted is not counted twice.
        """
        refused = [_refusal(report, "there are too many reports in one message") for report in reports[_MOST_REPORTS:]]
        taken = reports[:_MOST_REPORTS]
        try:
            async with self._database.transaction() as unit:
                for report in taken:
                    await self._count(unit, reporter, report)
        except Unavailable:
            raise
        except Failure:
            # One of them is wrong, and undid the others: each for itself.
            refused += await self._one_by_one(reporter, taken)
        return refused

    async def forget(self) -> int:
        """Ids of reports that nobody delivers any more, and machines that came by once and were nobody's."""
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            gone = await store_events.forget_reports(unit.connection, now - _REPORTS_KEPT)
            return gone + await store.forget_pending(unit.connection, now - _PENDING_KEPT)

    async def _one_by_one(
        self, reporter: Reporter, reports: Sequence[machines_pb2.MachineReport]
    ) -> list[machines_pb2.RefusedReport]:
        refused = []
        for report in reports:
            try:
                async with self._database.transaction() as unit:
                    await self._count(unit, reporter, report)
            except Unavailable:
                raise
            except Failure as failure:
                log.warning("machine report refused", regional=reporter.regional_id, error=str(failure))
                refused.append(_refusal(report, f"{failure.code}: {failure.detail}"))
        return refused

    async def _count(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        if not 8 <= len(report.id) <= 64 or not report.id.isascii() or not report.id.isprintable():
            raise ReportMalformed("a report has no id", action="give it 8 to 64 letters and digits, for good")
        body = report.WhichOneof("body")
        # One that a newer regional sends and this version does not know says nothing here, and is not refused.
        taker = self._takers.get(body or "")
        first = await store_events.counted_first(unit.connection, reporter.regional_id, report.id, unit.clock.now())
        if first and taker is not None:
            await taker(unit, reporter, report)

    async def _sighting(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        if report.machine_id:
            await self._machine(unit, reporter, report.machine_id)
        await self._enlisting.sighted(
            unit, reporter.idc_id, reporter.idc, report.sighting, wire.moment(report.occurred_ms, unit.clock.now())
        )

    async def _inventory(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        at = wire.moment(report.occurred_ms, unit.clock.now())
        found = wire.inventory(report.inventory)
        if report.machine_id:
            machine = await self._machine(unit, reporter, report.machine_id)
            await self._enlisting.described(unit, machine, found, at)
        else:
            await self._enlisting.introduced(unit, reporter.idc_id, reporter.idc, found, at)

    async def _event(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        said, at = report.event, wire.moment(report.occurred_ms, unit.clock.now())
        machine = await self._enlisting.meant(unit, reporter.idc_id, report.machine_id, said.mac)
        if machine is None:
            return  # Of a stranger that is not enlisted (any more): there is nowhere to write it.
        event = TimelineEvent(
            id=self._enlisting.new_id(),
            at=at,
            stage=wire.text(said.stage, 32) or "event",
            detail=wire.text(said.detail, 1000),
            trouble=said.trouble,
        )
        await store_events.add_event(unit.connection, machine.id, event, _MOST_EVENTS)
        await store.saw(unit.connection, machine.id, max(at, machine.seen_at or at), "", "")
        await unit.announce(
            MachineBooted(
                machine.id, machine.idc, machine.tenant, machine.name, event.stage, event.detail, event.trouble
            )
        )

    async def _install(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        what = wire.SAID.get(report.install.phase)
        if what is None:
            raise ReportMalformed("an install report says nothing", action="give a phase")
        found = await self._task(unit, reporter, report.machine_id, report.install.intent_id)
        if found is None:
            return
        task, machine = found
        detail = wire.text(report.install.detail, 1000)
        after = transitions.said(task, report.install.intent_id, what, detail, unit.clock.now())
        if after != task:
            await self._arming.moved(unit, task, after, machine, "")
        if after.begun:
            await self._power.withdraw_for(unit, task.id, "the installation began without it")

    async def _ordered(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        machine = await self._machine(unit, reporter, report.machine_id)
        at = wire.moment(report.occurred_ms, unit.clock.now())
        await self._power.reported(unit, machine, reporter.regional_id, report.power, at)

    async def _operation(self, unit: UnitOfWork, reporter: Reporter, report: machines_pb2.MachineReport) -> None:
        said = report.operation
        found = await self._task(unit, reporter, report.machine_id, said.intent_id)
        if found is None:
            return
        task, machine = found
        after = task
        at = wire.moment(report.occurred_ms, unit.clock.now())
        phase = wire.STEPS.get(said.phase)
        if phase is not None:
            detail = wire.text(said.text, 500)
            after = transitions.stepped(task, said.intent_id, said.operation_id, phase, said.percent, detail, at)
        if said.text and said.phase != machines_pb2.OPERATION_PHASE_PROGRESS:
            kept = wire.lines(said.text, _MOST_LINES, _LONGEST_LINE)
            logged = [
                LogLine(task.log_lines + number, at, task.attempt, wire.text(said.operation_id, 64), line)
                for number, line in enumerate(kept, start=1)
            ]
            await store_logs.add_logs(unit.connection, task.id, logged)
            await store_logs.drop_logs(unit.connection, task.id, task.log_lines + len(kept) - _KEPT_LINES)
            after = replace(after, log_lines=task.log_lines + len(kept))
        if after == task:
            return
        if (after.state, after.begun) != (task.state, task.begun):
            await self._arming.moved(unit, task, after, machine, "")
        else:
            await store_tasks.put(unit.connection, after)
            if after.steps != task.steps:
                await unit.announce(announced(after, machine))

    async def _task(
        self, unit: UnitOfWork, reporter: Reporter, machine_id: str, intent_id: str
    ) -> tuple[InstallTask, Machine] | None:
        """None: the task of an intent that was replaced or removed; late words of it say nothing any more."""
        machine = await self._machine(unit, reporter, machine_id)
        task = await store_tasks.find_by_intent(unit.connection, intent_id, locked=True) if is_id(intent_id) else None
        if task is not None and task.machine_id != machine.id:
            raise ReportRefused("the intent is another machine's", machine=machine.id, intent=intent_id)
        return None if task is None else (task, machine)

    async def _machine(self, unit: UnitOfWork, reporter: Reporter, machine_id: str) -> Machine:
        """Locked. Raises `ReportRefused` for another IDC's, also for one that is nobody's: it cannot be told apart."""
        found = await store.find(unit.connection, machine_id, locked=True) if is_id(machine_id) else None
        if found is None or found.idc_id != reporter.idc_id:
            raise ReportRefused(f"{reporter.idc} has no machine {machine_id[:80]!r}")
        return found


def _refusal(report: machines_pb2.MachineReport, reason: str) -> machines_pb2.RefusedReport:
    return machines_pb2.RefusedReport(id=report.id[:64], reason=reason[:500])
