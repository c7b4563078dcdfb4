"""Writing down that a task began and how it ended; an execution ends with its last task, in the same transaction."""

from __future__ import annotations

from datetime import datetime

from common.clock import Clock
from control_plane.database import Database, UnitOfWork
from control_plane.registry import repository_store
from control_plane.registry.replication import execution_store, task_store
from control_plane.registry.replication.course import Outcome
from control_plane.registry.replication.messages import Replicated, ReplicationFailed
from control_plane.registry.replication.model import OPEN, PLATFORM, Claimed, Direction, State, Work

_LONGEST = 2000


class Settling:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, claimed: Claimed) -> None:
        async with self._database.transaction() as unit:
            held = await execution_store.find(unit.connection, claimed.task.execution_id, hold=True)
            if held is not None and held.state is State.PENDING:
                await execution_store.set_state(unit.connection, held.execution_id, State.RUNNING, None)

    async def end(self, claimed: Claimed, state: State, moved: int, outcome: Outcome) -> bool:
        """False if the task is not ours any more; then nothing is written."""
        detail, now = outcome.detail[:_LONGEST].replace("\x00", "?"), self._clock.now()
        async with self._database.transaction() as unit:
            # The execution first, like everybody: the last two tasks must see each other end.
            execution = await execution_store.find(unit.connection, claimed.task.execution_id, hold=True)
            if execution is None or not await task_store.end(unit.connection, claimed, state, now, moved, detail):
                return False
            await self._tell(unit, claimed, state, moved, outcome)
            await _end_execution(unit, claimed.task.execution_id, now)
        return True

    async def _tell(self, unit: UnitOfWork, claimed: Claimed, state: State, moved: int, outcome: Outcome) -> None:
        task, rule = claimed.task, claimed.rule
        if state is State.SUCCEEDED and not outcome.changed:
            return
        common = {
            "tenant_id": await _owner(unit, claimed),
            "rule": rule.name,
            "direction": rule.direction.value,
            "endpoint": claimed.endpoint.name,
            "repository": task.repository,
            "destination": task.destination,
            "reference": task.reference,
        }
        if state is State.SUCCEEDED:
            deleted = task.work is Work.DELETE
            await unit.announce(Replicated(**common, bytes=moved, deleted=deleted))
        else:
            await unit.announce(ReplicationFailed(**common, error=outcome.detail[:_LONGEST]))


async def _owner(unit: UnitOfWork, claimed: Claimed) -> str:
    """Whose image it is; for the platform's rules that of the repository here, if there is one."""
    if claimed.rule.tenant_id != PLATFORM:
        return claimed.rule.tenant_id
    push = claimed.rule.direction is Direction.PUSH
    here = claimed.task.repository if push else claimed.task.destination
    held = await repository_store.find_repository(unit.connection, here)
    return "" if held is None else held.tenant_id


async def _end_execution(unit: UnitOfWork, execution_id: str, now: datetime) -> None:
    states = await task_store.states_of(unit.connection, execution_id)
    if states & set(OPEN):
        return
    ended = next((each for each in (State.STOPPED, State.FAILED) if each in states), State.SUCCEEDED)
    await execution_store.set_state(unit.connection, execution_id, ended, now)
