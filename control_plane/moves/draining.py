"""Hosts that are drained: their LXD instances move to other hosts of the same data centre, a few at a time.

Those of deployments are the deployments' business. What cannot move stays, and so does what nobody may move: a label
`longshore-drain=stay`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.errors import Failure
from control_plane.database import Database
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.placement import store as placement_store
from control_plane.fleet.placement.model import HostStanding, Offer, Standing
from control_plane.instances.mobility import stays_when_drained
from control_plane.instances.model import Instance
from control_plane.instances.offers import offers
from control_plane.instances.placing import resources_of
from control_plane.jobs.rounds import Rounds
from control_plane.moves import store
from control_plane.moves.model import Move
from control_plane.moves.rules import no_place
from control_plane.moves.service import MoveService

log = structlog.get_logger()

_POLL_SECONDS = 5.0
_WITHIN = timedelta(hours=6)
# What came back is tried again when somebody may have mended what hindered it.
_AGAIN_AFTER = timedelta(minutes=10)


class Draining:
    """`run` in any number of replicas. `look` gives the present horizon."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        service: MoveService,
        look: Callable[[], Horizon],
        chance: Callable[[], float],
    ) -> None:
        self._database = database
        self._clock = clock
        self._service = service
        self._look = look
        self._rounds = Rounds("draining", self._start, clock, chance, _POLL_SECONDS)

    async def run(self) -> None:
        """Never returns."""
        await self._rounds.run()

    async def once(self) -> int:
        """One round, to its end."""
        return await self._rounds.once()

    async def _start(self, _group: asyncio.TaskGroup) -> int:
        async with self._database.reading() as connection:
            standings = await placement_store.standings(connection)
            drained = {key: one for key, one in standings.items() if one.standing is Standing.DRAINING}
            if not drained:
                return 0
            there = await store.on_hosts(connection, drained.keys())
            deployed = await store.deployed(connection, [one.id for one in there])
            lasts = {
                one.id: await store.last_of(connection, one.id) for one in there if stays_when_drained(one) is None
            }
            on_the_way = await store.on_the_way(connection, drained.keys())
            found = await offers(connection, at=self._look())
        movable = [one for one in there if one.id not in deployed and one.id in lasts]
        for instance, target in chosen(movable, lasts, drained, found, on_the_way, self._clock.now()):
            try:
                async with self._database.transaction() as unit:
                    await self._service.put(unit, instance.id, target.host_id, target.idc_id, _WITHIN, "drain")
                log.info("instance leaves a drained host", instance=instance.id, target=target.label)
            except Failure as failure:
                log.info("instance does not leave a drained host", instance=instance.id, reason=str(failure))
        return 0


def chosen(
    movable: Sequence[Instance],
    lasts: Mapping[str, Move | None],
    drained: Mapping[str, HostStanding],
    found: Sequence[Offer],
    on_the_way: Mapping[str, int],
    now: datetime,
) -> list[tuple[Instance, Offer]]:
    """Which instances begin to move now, and where to. As many of a host at a time as may be down there, with those
    that are `on_the_way` from it already.
    """
    offered = {one.host_id: one for one in found}
    down = Counter(on_the_way)
    added: Counter[str] = Counter()
    moves: list[tuple[Instance, Offer]] = []
    for instance in movable:
        last, source = lasts[instance.id], offered.get(instance.host_id)
        rests = last is not None and (last.ended_at is None or now - last.ended_at < _AGAIN_AFTER)
        full = down[instance.host_id] >= drained[instance.host_id].max_unavailable
        if source is None or rests or full:
            continue
        fitting = [one for one in found if one.idc_id == source.idc_id]
        ask = resources_of(instance.spec)
        fitting = [one for one in fitting if no_place(instance, ask, source.architecture, one) is None]
        if fitting:
            target = min(fitting, key=lambda one: (one.instances + added[one.host_id], one.host_id))
            moves.append((instance, target))
            added[target.host_id] += 1
            down[instance.host_id] += 1
    return moves
