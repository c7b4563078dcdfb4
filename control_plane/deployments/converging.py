"""Looking at deployments whose time has come, and doing what their course says, one transaction a deployment.

Invariant: whatever is decided is written with the instances it concerns, so a replica that dies, or two that look at
the same deployment, leave nothing half done. Hosts of whom something is asked are held while their room is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.errors import Conflict, Failure, Unavailable
from common.identifiers import new_id
from control_plane.database import Database, UnitOfWork
from control_plane.deployments import revising, store, store_revisions
from control_plane.deployments.course import next_course
from control_plane.deployments.messages import DeploymentChanged
from control_plane.deployments.model import Deployment, Revision, RolloutState, Slot
from control_plane.deployments.picture import Course, Picture
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.placement import store as placement_store
from control_plane.fleet.placement.model import Offer, Resources, Standing
from control_plane.instances import placing, transitions
from control_plane.instances.model import DesiredState, Instance, InstanceSpec
from control_plane.instances.offers import Names, names_by_host, offers
from control_plane.jobs.rounds import Rounds
from control_plane.swarm.service import SwarmService

log = structlog.get_logger()

_POLL_SECONDS = 2.0
_BUSY = timedelta(seconds=1)  # while something moves
_QUIET = timedelta(seconds=30)  # while hosts may come, go or have room again
_AT_ONCE = 50
_MARGIN_SECONDS = 60
# Hosts and slots from which on planning may take more than some 5 ms: 60 ms with 5,000 and 2,000.
_PLANNED_BESIDE = 500
_PLAN_SECONDS = 30.0


class Converging:
    """`run` in any number of replicas. `look` gives the present horizon (`fleet.liveness.horizons`)."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        swarm: SwarmService,
        look: Callable[[], Horizon],
        chance: Callable[[], float],
    ) -> None:
        self._database = database
        self._clock = clock
        self._swarm = swarm
        self._look = look
        self._started = clock.now()
        self._rounds = Rounds("deployments", self._start, clock, chance, _POLL_SECONDS)

    def wake(self) -> None:
        self._rounds.wake()

    async def run(self) -> None:
        """Never returns."""
        await self._rounds.run()

    async def once(self) -> int:
        """One round, to its end: how many deployments were looked at."""
        return await self._rounds.once()

    async def _start(self, group: asyncio.TaskGroup) -> int:
        async with self._database.reading() as connection:
            ids = await store.due(connection, self._clock.now(), _AT_ONCE)
            # Read once for all of them: room is counted again, with the hosts held, where something is placed.
            found = await offers(connection, at=self._look()) if ids else []
        for deployment_id in ids:
            await self._look_at(deployment_id, found)
        # A full round may have left some out; else what is busy is due again in a second.
        return len(ids) if len(ids) >= _AT_ONCE else 0

    async def _look_at(self, deployment_id: str, found: Sequence[Offer]) -> None:
        try:
            async with self._database.transaction() as unit:
                deployment = await store.find(unit.connection, deployment_id, locked=True)
                if deployment is not None:
                    await self.converge(unit, deployment, found)
        except Conflict as failure:
            # Somebody was faster: took the room, or the name. The next look sees it.
            log.info("deployment is looked at again", deployment=deployment_id, reason=str(failure))
            await self._put_off(deployment_id, _BUSY)
        except Failure as failure:
            log.warning("deployment not carried on", deployment=deployment_id, error=str(failure))
            await self._put_off(deployment_id, _QUIET)

    async def _put_off(self, deployment_id: str, for_long: timedelta) -> None:
        async with self._database.transaction() as unit:
            found = await store.find(unit.connection, deployment_id, locked=True)
            if found is not None:
                await store.put(unit.connection, replace(found, look_at=unit.clock.now() + for_long))

    async def converge(
        self, unit: UnitOfWork, deployment: Deployment, found: Sequence[Offer] | None = None
    ) -> Deployment | None:
        """The next step of a deployment that is locked, with hosts as they were `found` a moment ago, or as they are
        now; None when nothing of it is left. Raises `NoRoom`, `HostClosed`
        or `NameTaken` when somebody was faster.
        """
        if found is None:
            found = await offers(unit.connection, at=self._look())
        picture = await self._picture(unit, deployment, found)
        course = await _course(picture)
        if deployment.removing and not course.slots:
            await store_revisions.forget_all(unit.connection, deployment.id)
            await store.remove(unit.connection, deployment.id)
            await unit.announce(DeploymentChanged(deployment.id, deployment.tenant_id, deployment.name, 0))
            return None
        slots = await self._apply(unit, picture, course)
        await store.put_slots(unit.connection, deployment.id, picture.slots, slots)
        after = await revising.went_on(unit, deployment, course, slots, picture.revisions)
        after = replace(after, look_at=_next_look(after, slots, picture, course), why=course.why)
        await store.put(unit.connection, after)
        changed = after.unplaced != deployment.unplaced or after.rollout != deployment.rollout
        if slots != picture.slots or course.remove or course.run or changed:
            await unit.announce(DeploymentChanged(deployment.id, deployment.tenant_id, deployment.name, after.unplaced))
        return after

    async def _picture(self, unit: UnitOfWork, deployment: Deployment, found: Sequence[Offer]) -> Picture:
        connection = unit.connection
        slots = (await store.slots_of(connection, [deployment.id])).get(deployment.id, {})
        instances = await store.instances_of(connection, list(slots.values()), locked=True)
        present, leaving = await names_by_host(connection, deployment.tenant_id)
        neighbours = await store.names_by_host(connection, deployment.tenant_id)
        standings = await placement_store.standings(connection)
        own = {(instance.host_id, instance.name) for instance, _ in instances.values()}
        there = present, leaving, neighbours
        numbers = {deployment.rollout.base, deployment.revision, *(slot.revision for slot in slots.values())}
        return Picture(
            deployment=deployment,
            slots=slots,
            instances=instances,
            offers={one.host_id: _named(one, deployment, there, own) for one in found},
            max_unavailable={host_id: one.max_unavailable for host_id, one in standings.items()},
            now=unit.clock.now(),
            watched_since=self._started,
            revisions=await store_revisions.of(connection, deployment.id, numbers),
        )

    async def _apply(self, unit: UnitOfWork, picture: Picture, course: Course) -> dict[int, Slot]:
        """The slots as they then are."""
        slots, now = dict(course.slots), unit.clock.now()
        known = {instance_id: instance for instance_id, (instance, _) in picture.instances.items()}
        changed = {one: transitions.removed(known[one], now) for one in course.remove}
        changed |= {
            one: transitions.towards(known[one], picture.deployment.desired_state, now)
            for one in course.run
            if one not in changed and known[one].desired_state is not DesiredState.REMOVED
        }
        added: list[Instance] = []
        for made in course.create:
            revision, offer = picture.revision(made.revision), picture.offers[made.host_id]
            instance = self._new(picture.deployment, revision, made.number, offer, now, held=made.successor)
            added.append(instance)
            if made.successor:
                there = slots[made.number]
                slots[made.number] = replace(there, successor_id=instance.id, successor_host_id=made.host_id)
            else:
                slots[made.number] = Slot(made.number, instance.id, made.host_id, revision=made.revision)
        await self._write(unit, [(known[one], after) for one, after in changed.items()], added, picture.ask)
        target = picture.deployment.own_revision
        revised = [(known[one], _revised(known[one], picture, target)) for one in course.revise if one not in changed]
        await placing.revise(unit, self._swarm, revised)
        return slots

    async def _write(
        self,
        unit: UnitOfWork,
        changed: Sequence[tuple[Instance, Instance]],
        added: list[Instance],
        ask: Resources,
    ) -> None:
        added.sort(key=lambda one: one.host_id)
        # Of two revisions that ask for different amounts, whichever is more: nobody's room is counted twice.
        await placing.require_room(unit, [one.host_id for one in added], ask)
        for before, after in sorted(changed, key=lambda pair: pair[0].host_id):
            await placing.put_desired(unit, before, after)
        await placing.add(unit, self._swarm, added)

    def _new(
        self, deployment: Deployment, revision: Revision, number: int, offer: Offer, now: datetime, *, held: bool
    ) -> Instance:
        return Instance(
            id=new_id(self._clock),
            tenant_id=deployment.tenant_id,
            tenant=deployment.tenant,
            host_id=offer.host_id,
            idc_id=offer.idc_id,
            name=deployment.instance_name(number),
            image=revision.images[offer.architecture],
            spec=_fenced(deployment, revision),
            desired_state=DesiredState.HELD if held else deployment.desired_state,
            generation=1,
            restart_nonce=0,
            created_at=now,
            updated_at=now,
        )


async def _course(picture: Picture) -> Course:
    """Beside the event loop where it may take long. Raises `Unavailable` when it takes absurdly long."""
    if len(picture.offers) + len(picture.slots) < _PLANNED_BESIDE:
        return next_course(picture)
    try:
        async with asyncio.timeout(_PLAN_SECONDS):
            return await asyncio.to_thread(next_course, picture)
    except TimeoutError:
        raise Unavailable(
            f"planning {picture.deployment.name} took longer than {_PLAN_SECONDS:.0f} s",
            action="it is tried again; fewer rules of spread, or fewer hosts by `idcs` and `where`, help",
        ) from None


def _revised(instance: Instance, picture: Picture, target: Revision) -> Instance:
    image = target.images[picture.offers[instance.host_id].architecture]
    return transitions.revised(instance, image, _fenced(picture.deployment, target), picture.now)


def _fenced(deployment: Deployment, revision: Revision) -> InstanceSpec:
    return replace(revision.spec, stop_when_cut_off_seconds=fence_seconds(deployment, revision.spec))


def fence_seconds(deployment: Deployment, spec: InstanceSpec) -> int:
    """After how long a host that nobody reaches stops its instance; 0: never. Earlier than another host may start it,
    by the time that a host needs to see that it is cut off (`common.channels`: 40 s) and to stop a container.
    """
    if not deployment.exclusive or not deployment.reschedule_after_seconds:
        return 0
    return max(1, deployment.reschedule_after_seconds - _MARGIN_SECONDS - (spec.stop_grace_seconds or 10))


def _named(
    offer: Offer, deployment: Deployment, there: tuple[Names, Names, Names], own: Collection[tuple[str, str]]
) -> Offer:
    """As the deployment's tenant sees the host. `there`: its instances, those that go, its deployments, by host. `own`:
    host and name of the slots' instances. Where another instance has a name that a slot could have (one that is given
    up and still goes, or somebody else's), none is placed.
    """
    present, going, neighbours = (names.get(offer.host_id, set()) for names in there)
    if not (present or going or neighbours):
        return offer  # as most hosts of a large fleet are to one tenant
    foreign = [name for name in present | going if (offer.host_id, name) not in own]
    taken = any(name.rpartition("-")[0] == deployment.name for name in foreign)
    return replace(
        offer,
        present=frozenset(present | neighbours),
        taken_names=frozenset({deployment.name} if taken else ()),
    )


def _next_look(deployment: Deployment, slots: dict[int, Slot], picture: Picture, course: Course) -> datetime | None:
    now = picture.now
    if deployment.removing or course.soon or any(slot.successor_id for slot in slots.values()):
        return now + _BUSY
    waits = deployment.unplaced or deployment.reschedule_after_seconds or deployment.rules.count is None
    waits = waits or deployment.rollout.state is RolloutState.GOING
    # What stays on a host that is drained or gone would else be looked at in every round.
    hosts = [picture.offers.get(slot.host_id) for slot in slots.values()]
    disturbed = any(one is None or one.standing is Standing.DRAINING for one in hosts)
    return now + _QUIET if waits or disturbed else None
