"""What is shown of machines and install tasks, and how many there are of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median

from common.clock import Clock
from common.identifiers import is_id
from control_plane.database import Database
from control_plane.machines import sight, store, store_events, store_logs, store_profiles, store_tasks
from control_plane.machines.model import Machine, MachineState, TimelineEvent
from control_plane.machines.profiles import readable
from control_plane.machines.profiles import unknown as profile_unknown
from control_plane.machines.service import unknown as machine_unknown
from control_plane.machines.tasks import unknown as task_unknown
from control_plane.machines.tasks_model import HistoryEntry, InstallTask, LogLine, TaskState
from control_plane.machines.transitions import OVER
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest

_SPAN = timedelta(days=30)
_MOST_DURATIONS = 5000


@dataclass(frozen=True, slots=True)
class IdcStatistics:
    """`machines` by state, `tasks` that are not over by state, `ended` in the last 30 days by state.
    `median_seconds`: from the first step to the end, of those that were completed; None without any.
    """

    idc: str
    machines: dict[MachineState, int]
    tasks: dict[TaskState, int]
    ended: dict[TaskState, int]
    median_seconds: float | None


class MachineReading:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, principal: Principal, machine_id: str) -> Machine:
        """Raises `MachineUnknown`."""
        async with self._database.reading() as connection:
            found = await store.find(connection, machine_id) if is_id(machine_id) else None
        return _visible(principal, machine_id, found)

    async def named(self, principal: Principal, name: str) -> str:
        """The id of what a person calls by its id or as idc/name. Raises `MachineUnknown`."""
        if is_id(name):
            return name
        idc, _, short = name.partition("/")
        async with self._database.reading() as connection:
            found = await store.find_by_name(connection, idc, short)
        return _visible(principal, name, found).id

    async def profile_named(self, principal: Principal, name: str) -> str:
        """The id of what a person calls by its id, as tenant/name, or by name where it is the platform's. Raises
        `ProfileUnknown`.
        """
        if is_id(name):
            return name
        tenant, _, short = name.rpartition("/")
        async with self._database.reading() as connection:
            found = await store_profiles.find_by_name(connection, tenant, short)
        if found is None or not readable(principal, found):
            principal.require(Permission.PLATFORM_READ)
            raise profile_unknown(name)
        return found.id

    async def page(self, principal: Principal, chosen: store.Filter, page: PageRequest) -> Page[Machine]:
        """By IDC and name, of those that one may see."""
        chosen = replace(chosen, tenants=_narrowed(chosen.tenants, sight.tenants_seen(principal)))
        async with self._database.reading() as connection:
            return await store.page(connection, chosen, page)

    async def events(self, principal: Principal, machine_id: str, page: PageRequest) -> Page[TimelineEvent]:
        """The boot timeline, newest first. Raises `MachineUnknown`."""
        machine = await self.get(principal, machine_id)
        async with self._database.reading() as connection:
            return await store_events.events(connection, machine.id, page)

    async def task(self, principal: Principal, task_id: str) -> InstallTask:
        """Raises `TaskUnknown`."""
        async with self._database.reading() as connection:
            found = await store_tasks.find(connection, task_id) if is_id(task_id) else None
        if found is None:
            principal.require(Permission.PLATFORM_READ)
            raise task_unknown(task_id)
        sight.require(principal, Permission.MACHINE_READ, found.tenant, task_unknown(task_id))
        return found

    async def tasks(self, principal: Principal, chosen: store_tasks.Filter, page: PageRequest) -> Page[InstallTask]:
        """Newest first."""
        chosen = replace(chosen, tenants=_narrowed(chosen.tenants, sight.tenants_seen(principal)))
        async with self._database.reading() as connection:
            return await store_tasks.page(connection, chosen, page)

    async def history(self, principal: Principal, task_id: str) -> list[HistoryEntry]:
        """Oldest first. Raises `TaskUnknown`."""
        task = await self.task(principal, task_id)
        async with self._database.reading() as connection:
            return await store_logs.history(connection, task.id)

    async def logs(self, principal: Principal, task_id: str, after: int, page: PageRequest) -> Page[LogLine]:
        """Lines after number `after`, oldest first. Raises `TaskUnknown`."""
        task = await self.task(principal, task_id)
        async with self._database.reading() as connection:
            return await store_logs.logs(connection, task.id, after, page)

    async def statistics(self, principal: Principal) -> Sequence[IdcStatistics]:
        """Of each IDC that has machines which one may see, by name."""
        tenants, since = sight.tenants_seen(principal), self._clock.now() - _SPAN
        async with self._database.reading() as connection:
            machines = await store.counts(connection, tenants)
            tasks = await store_tasks.counts(connection, tenants, since)
            durations = await store_tasks.durations(connection, tenants, since, _MOST_DURATIONS)
        found = []
        for idc in sorted({name for name, _ in (*machines, *tasks)}):
            counted = {TaskState(state): count for (name, state), count in tasks.items() if name == idc}
            seconds = [seconds for name, seconds in durations if name == idc]
            found.append(
                IdcStatistics(
                    idc=idc,
                    machines={MachineState(state): count for (name, state), count in machines.items() if name == idc},
                    tasks={state: count for state, count in counted.items() if state not in OVER},
                    ended={state: count for state, count in counted.items() if state in OVER},
                    median_seconds=median(seconds) if seconds else None,
                )
            )
        return found


def _narrowed(wished: frozenset[str] | None, seen: frozenset[str] | None) -> frozenset[str] | None:
    if wished is None or seen is None:
        return seen if wished is None else wished
    return wished & seen


def _visible(principal: Principal, name: str, found: Machine | None) -> Machine:
    if found is None:
        principal.require(Permission.PLATFORM_READ)
        raise machine_unknown(name)
    sight.require(principal, Permission.MACHINE_READ, found.tenant, machine_unknown(name))
    return found
