"""Every outcome reaches the control plane once it can, the newest state of each object only.

Invariants: a report is kept until the control plane acknowledged that very state; an older generation of an instance
never replaces a newer one; nothing is sent twice that was acknowledged and did not change. What waits is written to the
journal within `flush_seconds`, because some of it (an instance is gone) cannot be observed again after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.commands_model import CommandReport
from agent.commands_wire import report_from as command_report_from
from agent.commands_wire import report_message as command_report_message
from agent.journal import Journal, failed_write_is_logged
from agent.model import ContentReport, InstanceReport, MoveReport
from agent.offence import Offence
from agent.wire import move_message, reports_from, reports_message
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure
from proto.agent.v1 import agent_pb2

Key: TypeAlias = "str | tuple[str, Digest]"
Report: TypeAlias = "InstanceReport | ContentReport | Offence | CommandReport | MoveReport"

_RECORD = "reports"
# About 300 bytes each: a batch stays far below the stream's message limit whatever piled up while the plane was away.
_BATCH = 500


@dataclass(frozen=True)
class Batch:
    sequence: int
    reports: dict[Key, Report] = field(default_factory=dict)

    def message(self) -> agent_pb2.Reports:
        instances = [one for one in self.reports.values() if isinstance(one, InstanceReport)]
        contents = [one for one in self.reports.values() if isinstance(one, ContentReport)]
        offences = [one for one in self.reports.values() if isinstance(one, Offence)]
        message = reports_message(self.sequence, instances, contents, offences)
        commands = [one for one in self.reports.values() if isinstance(one, CommandReport)]
        message.commands.extend(command_report_message(one) for one in commands)
        moves = [one for one in self.reports.values() if isinstance(one, MoveReport)]
        message.moves.extend(move_message(one) for one in moves)
        return message


class Reporter:
    def __init__(self, journal: Journal, clock: Clock, *, flush_seconds: float = 1.0) -> None:
        self._journal = journal
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._waiting: dict[Key, Report] = {}
        self._acknowledged: dict[Key, Report] = {}
        self._sequence = 0
        self._sent: Batch | None = None
        self._dirty = False
        self.due = asyncio.Event()
        # What others know better of an object than whoever reports it.
        self.amend: Callable[[Report], Report] = lambda report: report

    async def load(self) -> None:
        stored = await self._journal.load_message(_RECORD, agent_pb2.Reports())
        if stored is None:
            return
        try:
            reports: list[Report] = [*reports_from(stored), *map(command_report_from, stored.commands)]
        except Failure:
            return
        for report in reports:
            self.report(report)

    def report(self, report: Report) -> None:
        report = self.amend(report)
        key = _key(report)
        known = self._waiting.get(key) or self._acknowledged.get(key)
        if known == report or _is_older(report, known):
            return
        self._waiting[key] = report
        self._dirty = True
        self.due.set()

    def begin_round(self) -> None:
        """A new stream: whatever was sent on the last one and not acknowledged is sent again."""
        self._sent = None
        self.due.set()

    def next_batch(self) -> Batch | None:
        """None while one is unacknowledged or nothing waits. What changes meanwhile is in the batch after it."""
        if self._sent is not None or not self._waiting:
            return None
        self._sequence += 1
        self._sent = Batch(self._sequence, dict(_first(self._waiting)))
        return self._sent

    def acknowledged(self, sequence: int) -> None:
        """Acknowledgements of other batches than the last one mean nothing."""
        if self._sent is None or self._sent.sequence != sequence:
            return
        for key, report in self._sent.reports.items():
            self._acknowledged[key] = report
            if self._waiting.get(key) == report:
                del self._waiting[key]
        self._sent = None
        self._dirty = True
        self.due.set()

    def forget_all_but(self, instances: Collection[str], contents: Collection[tuple[str, Digest]]) -> None:
        """What is no longer assigned need not be remembered once it was acknowledged."""
        for key in [key for key in self._acknowledged if key not in instances and key not in contents]:
            del self._acknowledged[key]

    async def flush(self) -> None:
        self._dirty = False
        try:
            await self._journal.save(_RECORD, lambda: Batch(0, self._waiting).message().SerializeToString())
        except BaseException:
            self._dirty = True
            raise

    async def flush_forever(self) -> None:
        while True:
            await self._clock.sleep(self._flush_seconds)
            if self._dirty:
                with failed_write_is_logged("unsent reports"):
                    await self.flush()


def _first(waiting: dict[Key, Report]) -> Iterator[tuple[Key, Report]]:
    """As many as make a batch; at least one. A command's result weighs what it takes."""
    room, first = _BATCH, next(iter(waiting))
    for key, report in waiting.items():
        room -= 1 + (len(report.result) // 300 if isinstance(report, CommandReport) else 0)
        if room < 0 and key != first:
            return
        yield key, report


def _key(report: Report) -> Key:
    if isinstance(report, CommandReport):
        return f"command {report.command_id}"
    if isinstance(report, MoveReport):
        return f"move {report.move_id}"
    if isinstance(report, Offence):
        return f"offence {report.id}"
    return report.instance_id if isinstance(report, InstanceReport) else (report.tenant_id, report.digest)


def _is_older(report: Report, known: Report | None) -> bool:
    return (
        isinstance(report, InstanceReport)
        and isinstance(known, InstanceReport)
        and report.generation < known.generation
    )
