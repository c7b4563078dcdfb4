"""A rollout of generation 1, 2 and 3 over a simulated fleet while everything breaks; one seed is one history.

After the faults have ended the fleet must reach what is wanted without anybody's help, and at no time may an invariant
of `host` or `plane` have been broken.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, replace

from agent.model import ContainerState
from common.digest import Digest
from control_plane.instances import transitions
from control_plane.instances.model import (
    DesiredState,
    Instance,
    InstanceImage,
    Phase,
)
from tests.simulation.faults import Fault, misfortunes
from tests.simulation.host import Broken, SimulatedHost
from tests.simulation.network import Network
from tests.simulation.plane import Database, PlaneProcess
from tests.simulation.scenario import Scenario, image, new_instance
from tests.simulation.simulated_loop import SimulatedClock, simulate

_WHIMS = {"removed": 15, "forget": 5, "stopped": 20, "started": 30, "restarted": 15, "another image": 15, "hold": 5}
# The longest that anybody waits before trying again: a refused spec, ten minutes (agent/attempts.py).
_CONVERGENCE_SECONDS = 1500.0
_STAYS_SECONDS = 60.0


@dataclass
class Outcome:
    """What a run was like; equal for equal seeds."""

    seconds_to_converge: float
    faults: Counter[str]
    agent_deaths: int
    plane_lives: int
    containers: int
    digest: str

    @property
    def words(self) -> str:
        return (
            f"as wanted {self.seconds_to_converge:.0f} s after the last of {self.faults.total()} faults; "
            f"{self.agent_deaths} agents died, the plane lived {self.plane_lives} times, {self.containers} containers"
        )


class Rollout:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.chance = random.Random(f"{scenario.seed} rollout")
        loop = asyncio.get_running_loop()
        self.clock = SimulatedClock(loop)
        self.network = Network(random.Random(f"{scenario.seed} network"))
        self.hosts = {
            name: SimulatedHost(name, self.network, scenario.tempo, str(scenario.seed))
            for name in (f"host-{number:04d}" for number in range(scenario.hosts))
        }
        self.database = Database(self.clock, self.hosts, random.Random(f"{scenario.seed} database"))
        self.rows = self.database.rows
        self.plane: PlaneProcess | None = None
        self.plane_lives = 0
        self.agents: asyncio.TaskGroup
        self.befallen: Counter[str] = Counter()
        self._ids = random.Random(f"{scenario.seed} ids")

    async def run(self) -> Outcome:
        """Raises `Broken`."""
        async with asyncio.TaskGroup() as self.agents:
            self.start_plane()
            for host in self.hosts.values():
                host.skew_seconds = self.chance.choice((0.0, 0.0, 3600.0, -3600.0))
                host.start(self.agents)
            async with asyncio.TaskGroup() as story:
                story.create_task(self._roll_out())
                for _ in range(round(self.scenario.hosts * self.scenario.whims_a_host)):
                    story.create_task(self._whim())
                for fault in misfortunes(self.scenario, self.hosts, self.chance):
                    story.create_task(self._befall(fault))
            await self._heal()
            seconds = await self._converge()
            for host in self.hosts.values():
                await host.kill()
            await self._end_plane()
        deaths = sum(host.deaths for host in self.hosts.values())
        made = sum(next(host.engine.numbers) - 1 for host in self.hosts.values())
        return Outcome(seconds, self.befallen, deaths, self.plane_lives, made, self._digest())

    def _digest(self) -> str:
        """Of what came of it all, container by container: equal for equal histories."""
        seen = [
            f"{host.id} {one.runtime_id} {one.order.instance_id} {one.order.spec_hash} {one.starts}"
            for host in self.hosts.values()
            for one in host.ours()
        ]
        return Digest.of("\n".join([*seen, str(sorted(self.rows.statuses.items()))]).encode()).hex

    # The plane's lives.

    def start_plane(self) -> None:
        if self.plane is None:
            self.plane_lives += 1
            arguments = self.plane_lives, self.database, self.network, self.scenario.tempo, str(self.scenario.seed)
            self.plane = PlaneProcess(*arguments)
            self.plane.task = self.agents.create_task(self.plane.run(), name="plane")

    async def end_plane(self, *, gracefully: bool) -> None:
        plane, self.plane = self.plane, None
        if plane is not None:
            await (plane.stop() if gracefully else plane.kill())

    async def _end_plane(self) -> None:
        await self.end_plane(gracefully=False)

    # What people want.

    async def _roll_out(self) -> None:
        images = [image(number) for number in (1, 2, 3)]
        for host_id in self.hosts:
            for number in range(self.chance.choice(self.scenario.instances_a_host)):
                self._want(host_id, f"web-{number}", images[0])
        for following in images[1:]:
            await self._pass(self.scenario.rollout_seconds / 3)
            for wave in _waves(list(self.hosts), self.chance):
                for host_id in wave:
                    self._move_on(host_id, following)
                await self._pass(self.scenario.rollout_seconds / 15)

    def _move_on(self, host_id: str, following: InstanceImage) -> None:
        for instance in self.rows.of_host(host_id):
            if instance.desired_state is DesiredState.REMOVED:
                continue
            moved = replace(instance, image=following, generation=instance.generation + 1)
            self._wish(moved)

    async def _whim(self) -> None:
        """Somebody wants something else, often in the middle of a step, and soon after something else again."""
        await asyncio.sleep(self.chance.uniform(0.0, self.scenario.rollout_seconds * 1.2))
        of_host = self.rows.of_host(self.chance.choice(list(self.hosts)))
        if not of_host:
            return
        instance_id = self.chance.choice(of_host).id
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            instance = self.rows.instances.get(instance_id)
            if instance is None or instance.desired_state is DesiredState.REMOVED:
                return
            self._change(instance, self.chance.choices(list(_WHIMS), list(_WHIMS.values()))[0])
            await asyncio.sleep(self.chance.choice((0.0, 1.0, 10.0)) * self.chance.random())

    def _change(self, instance: Instance, whim: str) -> None:
        now = self.clock.now()
        match whim:
            case "forget":
                self.rows.forget(instance)
            case "another image":
                chosen = image(self.chance.choice((1, 2, 3)))
                self._wish(replace(instance, image=chosen, generation=instance.generation + 1))
            case "hold":
                held = replace(instance, desired_state=DesiredState.HELD, generation=instance.generation + 1)
                self._wish(held)
            case _:
                self._wish(getattr(transitions, whim)(instance, now))
        if whim in ("removed", "forget") and self.chance.random() < 0.5:
            self._want(instance.host_id, f"{instance.name}-again", instance.image)

    def _want(self, host_id: str, name: str, wanted: InstanceImage) -> None:
        self._wish(new_instance(host_id, name, wanted, self.clock.now(), self._ids))

    def _wish(self, instance: Instance) -> None:
        self.database.spec_of(instance)
        if self.rows.instances.get(instance.id) != instance:
            self.rows.put(instance)

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.chance.uniform(0.2, 1.8))

    # What fate wants.

    async def _befall(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        self.befallen[fault.name] += 1
        await fault.happen(self, fault)

    async def _heal(self) -> None:
        self.database.away = False
        self.start_plane()
        for host in self.hosts.values():
            host.lost_answers, host.disk.full = 0.0, False
            host.engine.away, host.engine.refuse = False, set()
            self.network.heal(host.id)
            host.start(self.agents)

    # What must come of it.

    async def _converge(self) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = list(self.hosts.values())
        while waiting:
            waiting = [host for host in waiting if self._missing(host)]
            if waiting and loop.time() - began > _CONVERGENCE_SECONDS:
                raise Broken(f"{len(waiting)} hosts do not converge; {waiting[0].id}: {self._missing(waiting[0])}")
            await asyncio.sleep(2.0)
        # It must also stay: nobody turns round after a while.
        await asyncio.sleep(_STAYS_SECONDS)
        for host in self.hosts.values():
            if missing := self._missing(host):
                raise Broken(f"{host.id} did not stay as it was wanted: {missing}")
        return loop.time() - began - _STAYS_SECONDS

    def _missing(self, host: SimulatedHost) -> str:
        """What keeps the host from being as wanted; empty if nothing does."""
        wanted = {instance.id: instance for instance in self.rows.of_host(host.id)}
        for one in host.ours():
            if one.order.instance_id not in wanted:
                return f"{one.order.name} is left over"
        for instance in wanted.values():
            if missing := self._missing_of(host, instance):
                return f"{instance.name} ({instance.desired_state}, generation {instance.generation}): {missing}"
        return ""

    def _missing_of(self, host: SimulatedHost, instance: Instance) -> str:
        containers = [one for one in host.ours() if one.order.instance_id == instance.id]
        running = [one for one in containers if one.state is ContainerState.RUNNING]
        status = self.rows.statuses.get(instance.id)
        if status is None or status.observed_generation != instance.generation:
            return f"the plane knows of {status}"
        match instance.desired_state:
            case DesiredState.RUNNING:
                spec = self.database.spec_of(instance)
                right = len(containers) == 1 and running and running[0].order.spec_hash == spec
                return "" if right and status.phase is Phase.RUNNING else f"{containers} with {status}"
            case DesiredState.HELD:
                return "" if not containers and status.phase is Phase.VERIFIED else f"{containers} with {status}"
            case DesiredState.STOPPED:
                return "" if not running and status.phase is Phase.STOPPED else f"{containers} with {status}"
            case _:
                return f"still there, with {status}"


def run(scenario: Scenario) -> Outcome:
    """One history from its seed. Raises `Broken` with the words that repeat it."""

    async def lived() -> Outcome:
        return await Rollout(scenario).run()

    try:
        return simulate(lived)
    except Exception as error:
        error.add_note(f"repeat it with: {scenario.words}")
        raise


def _waves(hosts: list[str], chance: random.Random) -> list[list[str]]:
    """One host, 5 %, 25 %, all."""
    chance.shuffle(hosts)
    marks = [0, 1, max(1, len(hosts) // 20), max(1, len(hosts) // 4), len(hosts)]
    return [hosts[begin:end] for begin, end in itertools.pairwise(marks)]
