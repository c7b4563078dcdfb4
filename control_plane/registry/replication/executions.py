"""Use cases around executions: start, look, stop; and what a periodic job does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from common.clock import Clock
from control_plane.database import Database, UnitOfWork
from control_plane.registry.replication import access, execution_store, rule_store, task_store
from control_plane.registry.replication.failures import ExecutionUnknown
from control_plane.registry.replication.making import new_execution, new_task
from control_plane.registry.replication.model import OPEN, Cause, Execution, Rule, State, Tally, Task, Work
from control_plane.registry.replication.rules import permitted
from control_plane.tenants.access import Principal
from control_plane.web.paging import Page, PageRequest

_DUE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Tallied:
    execution: Execution
    tally: Tally


class ExecutionService:
    """`wake` is called when there is something to do."""

    def __init__(self, database: Database, clock: Clock, wake: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._wake = wake

    async def start(self, principal: Principal, rule_id: str) -> Tallied:
        """Copy all that the rule wants; one that does so already is joined. A disabled rule may be run by hand too.
        Raises `RuleUnknown`, `Denied`.
        """
        async with self._database.transaction() as unit:
            rule = permitted(principal, await rule_store.find(unit.connection, rule_id, hold=True), rule_id)
            execution = await self._begun(unit, rule, Cause.MANUAL)
            tally = (await execution_store.tallies(unit.connection, [execution.execution_id]))[execution.execution_id]
        self._wake()
        return Tallied(execution, tally)

    async def start_due(self) -> int:
        """For a periodic job: runs whose time has come; one that still runs is not doubled."""
        now = self._clock.now()
        async with self._database.reading() as connection:
            due = await rule_store.due(connection, now, _DUE_AT_ONCE)
        for rule_id in due:
            async with self._database.transaction() as unit:
                rule = await rule_store.find(unit.connection, rule_id, hold=True)
                if rule is None or rule.next_run_at is None or rule.next_run_at > now:
                    continue
                await self._begun(unit, rule, Cause.SCHEDULE)
                await rule_store.change(unit.connection, replace(rule, next_run_at=rule.scheduled(now)))
        if due:
            self._wake()
        return len(due)

    async def _begun(self, unit: UnitOfWork, rule: Rule, cause: Cause) -> Execution:
        running = await execution_store.open_run(unit.connection, rule.rule_id)
        if running is not None:
            return running
        execution = new_execution(self._clock, rule, cause)
        await execution_store.add(unit.connection, execution)
        await task_store.add(unit.connection, [new_task(self._clock, execution, rule, Work.PLAN)])
        return execution

    async def stop(self, principal: Principal, execution_id: str) -> Tallied:
        """Nothing of it begins any more; what is under way ends within a third of its lease, and what it has copied
        stays. One that has ended is left as it is. Raises `ExecutionUnknown`, `Denied`.
        """
        async with self._database.transaction() as unit:
            found = await execution_store.find(unit.connection, execution_id, hold=True)
            execution = _permitted(principal, found, execution_id)
            if execution.state in OPEN:
                now = self._clock.now()
                await task_store.stop(unit.connection, execution_id, now)
                await execution_store.set_state(unit.connection, execution_id, State.STOPPED, now)
                execution = replace(execution, state=State.STOPPED, ended_at=now)
            tally = (await execution_store.tallies(unit.connection, [execution_id]))[execution_id]
        return Tallied(execution, tally)

    async def get(self, principal: Principal, execution_id: str) -> Tallied:
        """Raises `ExecutionUnknown`, `Denied`."""
        async with self._database.reading() as connection:
            execution = _permitted(principal, await execution_store.find(connection, execution_id), execution_id)
            return Tallied(execution, (await execution_store.tallies(connection, [execution_id]))[execution_id])

    async def list(
        self, principal: Principal, tenant: str | None, rule_id: str | None, page: PageRequest
    ) -> Page[Tallied]:
        """The newest first."""
        owners = access.visible(principal, tenant)
        async with self._database.reading() as connection:
            found, total = await execution_store.page(connection, owners, rule_id, page.offset, page.limit)
            tallies = await execution_store.tallies(connection, [each.execution_id for each in found])
        return Page([Tallied(each, tallies[each.execution_id]) for each in found], total, page)

    async def tasks(
        self, principal: Principal, execution_id: str, state: State | None, page: PageRequest
    ) -> Page[Task]:
        """Raises `ExecutionUnknown`, `Denied`."""
        async with self._database.reading() as connection:
            _permitted(principal, await execution_store.find(connection, execution_id), execution_id)
            found, total = await task_store.page(connection, execution_id, state, page.offset, page.limit)
        return Page(found, total, page)

    async def forget(self, keep: timedelta) -> int:
        """For a periodic job: executions that ended longer ago; returns how many."""
        async with self._database.transaction() as unit:
            return await execution_store.forget_ended(unit.connection, self._clock.now() - keep)


def _permitted(principal: Principal, found: Execution | None, execution_id: str) -> Execution:
    unknown = ExecutionUnknown(
        f"there is no execution {execution_id[:80]}",
        action="see `longshore replication status`; old ones are forgotten",
    )
    access.check(principal, None if found is None else found.tenant, unknown)
    if found is None:
        raise unknown
    return found
