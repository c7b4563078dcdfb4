"""Looking at open moves and taking their next step, one transaction a move.

Invariant: what a host is told follows from the row alone, and the row changes with the instance's in one transaction;
so a replica that dies, or two that look at the same move, leave nothing half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from common.clock import Clock
from common.errors import Conflict, Failure
from control_plane.database import Database, UnitOfWork
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.placement.model import Offer
from control_plane.fleet.waking import wake
from control_plane.instances import placing
from control_plane.instances import store as instance_store
from control_plane.instances.messages import InstanceChanged
from control_plane.instances.model import Instance, Status
from control_plane.instances.offers import offers
from control_plane.jobs.rounds import Rounds
from control_plane.moves import store
from control_plane.moves.course import Sight, entered, next_stage
from control_plane.moves.messages import InstanceMoves
from control_plane.moves.model import ENDED, Move, Patience, Stage
from control_plane.swarm.service import SwarmService

log = structlog.get_logger()

_POLL_SECONDS = 1.0


class Carrying:
    """`run` in any number of replicas. `look` gives the present horizon (`fleet.liveness.horizons`)."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        swarm: SwarmService,
        look: Callable[[], Horizon],
        chance: Callable[[], float],
        patience: Patience | None = None,
    ) -> None:
        self._database = database
        self._swarm = swarm
        self._look = look
        self._patience = patience or Patience()
        self._started = clock.now()
        self._rounds = Rounds("moves", self._start, clock, chance, _POLL_SECONDS)

    def wake(self) -> None:
        self._rounds.wake()

    async def run(self) -> None:
        """Never returns."""
        await self._rounds.run()

    async def once(self) -> int:
        """One round, to its end."""
        return await self._rounds.once()

    async def _start(self, _group: asyncio.TaskGroup) -> int:
        async with self._database.reading() as connection:
            ids = await store.open_ids(connection)
        for move_id in ids:
            try:
                async with self._database.transaction() as unit:
                    move = await store.find(unit.connection, move_id, locked=True)
                    if move is not None and move.ended_at is None:
                        await self.carry_on(unit, move)
            except Failure as failure:
                log.warning("move not carried on", move=move_id, error=str(failure))
        return 0

    async def carry_on(self, unit: UnitOfWork, move: Move) -> Move:
        """The next step of an open move that is locked, if it is time for one."""
        known = await self._instance(unit, move)
        there = {one.host_id: one for one in await self._offers(unit, move)}
        sight = self._sight(unit, move, known, there)
        if known is not None and move.stage is Stage.COPYING and move.taken:
            sight = replace(sight, room=await self._room(unit, move, known[0]))
        stage, why = next_stage(move, sight, self._patience)
        if stage is move.stage:
            return move
        after = await self._enter(unit, move, known[0] if known else None, stage, why)
        log.info("instance moves", move=move.id, instance=move.instance_id, stage=after.stage.value, why=after.why)
        return after

    async def _enter(self, unit: UnitOfWork, move: Move, instance: Instance | None, stage: Stage, why: str) -> Move:
        now = unit.clock.now()
        generation = move.generation if instance is None else instance.generation + 1
        after = entered(move, stage, why, generation, now)
        if instance is not None:
            wanted = replace(instance, generation=generation, updated_at=now)
            if stage is Stage.STARTING and not await self._to(unit, wanted, move.target_host_id, move.target_idc_id):
                # Somebody took the name there since the move began.
                after = entered(move, Stage.FAILED, "an instance of that name is there now", generation, now)
            elif move.stage is Stage.RETURNING and not await self._to(
                unit, wanted, move.source_host_id, move.source_idc_id
            ):
                # Somebody took its name at home. What stands there stays; it goes on once the name is free.
                return move
            await instance_store.put_desired(unit.connection, wanted)
            await unit.announce(InstanceChanged(wanted.id, wanted.tenant_id, generation, wanted.desired_state.value))
        await store.put(unit.connection, after)
        await self._want(unit, after, instance)
        await wake(unit, [move.source_host_id, move.target_host_id])
        await unit.announce(announcement(after))
        return after

    async def _to(self, unit: UnitOfWork, instance: Instance, host_id: str, idc_id: str) -> bool:
        return await store.relocate(unit.connection, replace(instance, host_id=host_id, idc_id=idc_id))

    async def _want(self, unit: UnitOfWork, move: Move, instance: Instance | None) -> None:
        """Its contents are wanted in the IDC where it is; in both, while that is not settled."""
        if instance is None or move.source_idc_id == move.target_idc_id:
            return
        if move.stage is Stage.STARTING:
            contents = placing.wanted_contents(instance.image)
            await self._swarm.want_all(unit, move.target_idc_id, instance.tenant_id, [instance.id], contents)
        elif move.stage is Stage.CLEARING:
            await self._swarm.release(unit, instance.id, move.source_idc_id)
        elif move.stage in ENDED and move.stage is not Stage.DONE:
            await self._swarm.release(unit, instance.id, move.target_idc_id)

    async def _instance(self, unit: UnitOfWork, move: Move) -> tuple[Instance, Status] | None:
        hosts = [move.source_host_id, move.target_host_id]
        found = await instance_store.of_hosts(unit.connection, hosts, [move.instance_id], locked=True)
        status = next((one[move.instance_id][1] for one in found.values() if move.instance_id in one), None)
        if status is None:
            return None
        return (await instance_store.with_ids(unit.connection, [move.instance_id]))[move.instance_id], status

    async def _offers(self, unit: UnitOfWork, move: Move) -> list[Offer]:
        hosts = [move.source_host_id, move.target_host_id]
        return await offers(unit.connection, at=self._look(), host_ids=hosts)

    def _sight(
        self, unit: UnitOfWork, move: Move, known: tuple[Instance, Status] | None, there: dict[str, Offer]
    ) -> Sight:
        target = there.get(move.target_host_id)
        return Sight(
            instance=known[0] if known else None,
            status=known[1] if known else Status(),
            now=unit.clock.now(),
            watched_since=self._started,
            source_there=move.source_host_id in there,
            target_there=target is not None,
            target_absent_since=target.absent_since if target is not None else None,
        )

    async def _room(self, unit: UnitOfWork, move: Move, instance: Instance) -> str:
        """Why the target takes it no more: others may have come meanwhile. Holds the target."""
        try:
            await placing.require_room(unit, [move.target_host_id], placing.resources_of(instance.spec))
        except Conflict as refusal:
            return str(refusal)
        return ""


def announcement(move: Move) -> InstanceMoves:
    return InstanceMoves(
        move.id, move.instance_id, move.tenant_id, move.stage.value, move.source_host_id, move.target_host_id
    )
