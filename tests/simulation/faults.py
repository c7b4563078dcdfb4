"""What befalls a simulated fleet: each fault lasts a while and ends by itself; which ones when is the seed's choice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.rollout import Rollout
    from tests.simulation.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    at: float
    seconds: float
    hosts: tuple[str, ...]
    happen: Callable[[Any, Fault], Awaitable[None]]


async def _connection_breaks(rollout: Rollout, fault: Fault) -> None:
    for host_id in fault.hosts:
        rollout.network.cut(host_id, silently=rollout.chance.random() < 0.3)


async def _partition(rollout: Rollout, fault: Fault) -> None:
    for host_id in fault.hosts:
        rollout.network.partition(host_id)
    await asyncio.sleep(fault.seconds)
    for host_id in fault.hosts:
        rollout.network.heal(host_id)


async def _agent_killed(rollout: Rollout, fault: Fault) -> None:
    for host_id in fault.hosts:
        await rollout.hosts[host_id].kill(torn=rollout.chance.random() < 0.2)
    await asyncio.sleep(fault.seconds / 4)
    for host_id in fault.hosts:
        rollout.hosts[host_id].start(rollout.agents)


async def _killed_again_and_again(rollout: Rollout, fault: Fault) -> None:
    """A life is shorter than a change of generation: every step of it is somebody's last one."""
    host = rollout.hosts[fault.hosts[0]]
    for _ in range(rollout.chance.randrange(3, 12)):
        await host.kill(torn=rollout.chance.random() < 0.1)
        host.start(rollout.agents)
        await asyncio.sleep(rollout.chance.uniform(0.0, 4.0))


async def _host_rebooted(rollout: Rollout, fault: Fault) -> None:
    for host_id in fault.hosts:
        await rollout.hosts[host_id].kill(torn=rollout.chance.random() < 0.2)
        rollout.hosts[host_id].engine_killed()
    await asyncio.sleep(fault.seconds)
    for host_id in fault.hosts:
        rollout.hosts[host_id].start(rollout.agents)


async def _engine_killed(rollout: Rollout, fault: Fault) -> None:
    host = rollout.hosts[fault.hosts[0]]
    host.engine_killed()
    host.engine.away = True
    await asyncio.sleep(fault.seconds / 2)
    host.engine.away = False


async def _engine_hangs(rollout: Rollout, fault: Fault) -> None:
    host = rollout.hosts[fault.hosts[0]]
    host.engine.away = True
    await asyncio.sleep(fault.seconds)
    host.engine.away = False


async def _answers_lost(rollout: Rollout, fault: Fault) -> None:
    for host_id in fault.hosts:
        rollout.hosts[host_id].lost_answers = 0.3
    await asyncio.sleep(fault.seconds)
    for host_id in fault.hosts:
        rollout.hosts[host_id].lost_answers = 0.0


async def _disk_full(rollout: Rollout, fault: Fault) -> None:
    disk = rollout.hosts[fault.hosts[0]].disk
    disk.full = True
    await asyncio.sleep(fault.seconds)
    disk.full = False


async def _spec_refused(rollout: Rollout, fault: Fault) -> None:
    """The engine does not start what is wanted now, for a while."""
    host = rollout.hosts[fault.hosts[0]]
    host.engine.refuse = {rollout.database.spec_of(instance) for instance in rollout.rows.of_host(host.id)}
    await asyncio.sleep(fault.seconds)
    host.engine.refuse = set()


async def _plane_killed(rollout: Rollout, fault: Fault) -> None:
    await rollout.end_plane(gracefully=False)
    await asyncio.sleep(fault.seconds / 4)
    rollout.start_plane()


async def _plane_restarted(rollout: Rollout, fault: Fault) -> None:
    await rollout.end_plane(gracefully=True)
    await asyncio.sleep(fault.seconds / 10)
    rollout.start_plane()


async def _database_away(rollout: Rollout, fault: Fault) -> None:
    rollout.database.away = True
    await asyncio.sleep(fault.seconds / 2)
    rollout.database.away = False


_OF_ONE = (
    _connection_breaks,
    _partition,
    _agent_killed,
    _killed_again_and_again,
    _host_rebooted,
    _engine_killed,
    _engine_hangs,
    _answers_lost,
    _disk_full,
    _spec_refused,
)
_OF_MANY = (_connection_breaks, _partition, _agent_killed, _host_rebooted, _answers_lost)
_OF_THE_PLANE = (_plane_killed, _plane_restarted, _database_away)


def misfortunes(scenario: Scenario, hosts: Iterable[str], chance: random.Random) -> Sequence[Fault]:
    names = list(hosts)
    span = scenario.rollout_seconds * 1.2

    def fault(kinds: Sequence[Callable[[Any, Fault], Awaitable[None]]], of: Sequence[str]) -> Fault:
        kind = chance.choice(kinds)
        seconds = min(chance.expovariate(1 / 20), 120.0)
        return Fault(kind.__name__.lstrip("_"), chance.uniform(0.0, span), seconds, tuple(of), kind)

    found = [fault(_OF_ONE, [chance.choice(names)]) for _ in range(round(scenario.hosts * scenario.faults_a_host))]
    # A rack, a switch, a bad morning.
    found += [fault(_OF_MANY, chance.sample(names, max(1, len(names) // 4))) for _ in range(2)]
    found += [fault(_OF_THE_PLANE, ()) for _ in range(scenario.plane_faults)]
    return found
