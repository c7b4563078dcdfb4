"""Use cases of rollouts: another image or specification for a deployment, pausing, resuming, undoing, and the history.

Invariant: everything is checked before anything is written, and the first slots are told in the transaction that begins
a rollout. What is asked for already changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.reference import Reference
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.deployments import revising, rules, store, store_revisions
from control_plane.deployments.converging import Converging
from control_plane.deployments.model import (
    Deployment,
    NothingToUndo,
    Pace,
    Revision,
    RolloutOver,
    RolloutState,
    Slot,
)
from control_plane.deployments.reading import DeploymentReading, DeploymentView
from control_plane.deployments.service import require_there, resolved, writable
from control_plane.fleet.placement.model import PlacementInvalid
from control_plane.instances.model import InstanceImage, InstanceSpec
from control_plane.instances.offers import offers
from control_plane.instances.rules import reaches_host
from control_plane.instances.service import ImageResolver
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a deployment shall change; None: as it is. `pace` None: as in the last rollout."""

    image: str | None = None
    spec: InstanceSpec | None = None
    pace: Pace | None = None


class RolloutService:
    def __init__(
        self,
        database: Database,
        reading: DeploymentReading,
        images: ImageResolver,
        converging: Converging,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._reading = reading
        self._images = images
        self._converging = converging
        self._trail = trail

    async def revise(self, principal: Principal, deployment: str, wish: Wish) -> DeploymentView:
        """By id or `tenant/name`. The tag is resolved now and not looked at again. One that is under way is followed by
        this one. Raises `DeploymentUnknown`, `DeploymentBeingRemoved`, `RolloutInvalid`, `PlacementInvalid`,
        `SpecInvalid`, `NoRoom`, and `NotFound` or `Denied` for what their texts say; then nothing changed.
        """
        seen = (await self._reading.get(principal, deployment)).deployment
        principal.require(Permission.INSTANCE_WRITE, seen.tenant)
        image = seen.reference if wish.image is None else wish.image
        principal.require(Permission.IMAGE_PULL, Reference.parse(image).tenant)
        async with self._database.reading() as connection:
            known = await offers(connection)
        images = seen.images if wish.image is None else await resolved(self._images, image, seen.rules, known)
        async with self._database.transaction() as unit:
            there = await self._there(unit, principal, seen.id)
            spec = there.spec if wish.spec is None else wish.spec
            content = replace(there.own_revision, reference=image, images=images, spec=spec)
            cause = f"image {image}" if wish.spec is None else "specification"
            await self._begin(unit, principal, there, content, wish.pace or there.rollout.pace, cause)
        return await self._reading.get(principal, seen.id)

    async def undo(self, principal: Principal, deployment: str, to: int | None = None) -> DeploymentView:
        """Back to revision `to`; None: to the one before, which is the last that was well everywhere. It becomes a new
        revision, at the pace of the last rollout. Raises `NothingToUndo` and what `revise` does.
        """
        seen = (await self._reading.get(principal, deployment)).deployment
        async with self._database.transaction() as unit:
            there = await self._there(unit, principal, seen.id)
            wanted = _before(there, await store_revisions.history(unit.connection, there.id), to)
            cause = f"undoes {there.revision}, back to {wanted.number}"
            await self._begin(unit, principal, there, wanted, there.rollout.pace, cause)
        return await self._reading.get(principal, seen.id)

    async def pause(self, principal: Principal, deployment: str) -> DeploymentView:
        """Nobody more is told; who was told goes on. Harmless to repeat. Raises `RolloutOver`."""
        seen = (await self._reading.get(principal, deployment)).deployment
        async with self._database.transaction() as unit:
            there = await self._there(unit, principal, seen.id)
            _require_under_way(there)
            if there.rollout.state is RolloutState.GOING:
                reason = f"paused by {principal.name}"
                rollout = replace(there.rollout, state=RolloutState.PAUSED, reason=reason)
                await store.put(unit.connection, replace(there, rollout=rollout, updated_at=unit.clock.now()))
                self._record(unit, principal, "rollout_paused", there)
        return await self._reading.get(principal, seen.id)

    async def resume(self, principal: Principal, deployment: str) -> DeploymentView:
        """Failures until now are forgiven. Harmless to repeat. Raises `RolloutOver`."""
        seen = (await self._reading.get(principal, deployment)).deployment
        async with self._database.transaction() as unit:
            there = await self._there(unit, principal, seen.id)
            _require_under_way(there)
            if there.rollout.state is RolloutState.PAUSED:
                now = unit.clock.now()
                rollout = replace(there.rollout, state=RolloutState.GOING, reason="", resumed_at=now)
                await self._converging.converge(unit, replace(there, rollout=rollout, updated_at=now))
                self._record(unit, principal, "rollout_resumed", there)
        return await self._reading.get(principal, seen.id)

    async def history(self, principal: Principal, deployment: str) -> Sequence[Revision]:
        """The revisions that are kept, the newest first. Raises `DeploymentUnknown`."""
        seen = (await self._reading.get(principal, deployment)).deployment
        async with self._database.reading() as connection:
            return await store_revisions.history(connection, seen.id)

    async def _there(self, unit: UnitOfWork, principal: Principal, deployment_id: str) -> Deployment:
        there = await writable(unit, principal, deployment_id)
        require_there(there)
        return there

    async def _begin(
        self, unit: UnitOfWork, principal: Principal, there: Deployment, content: Revision, pace: Pace, cause: str
    ) -> None:
        # Another image with the rights of its host is another thing that reaches into the host.
        if reaches_host(content.spec):
            principal.require(Permission.PLATFORM_MANAGE)
        rules.check(rules.request_of(there, spec=content.spec, image=content.reference))
        rules.check_pace(pace, there, content)
        known = await offers(unit.connection)
        rules.check_possible(there.rules, content.ask, known)
        slots = (await store.slots_of(unit.connection, [there.id])).get(there.id, {})
        _require_made_for(content.images, {one.host_id: one.architecture for one in known}, slots.values())
        if content.same_as(there.own_revision):
            return
        begun = await revising.begin(unit, there, content, pace, cause=cause, by=principal.name)
        await self._converging.converge(unit, begun)
        self._record(unit, principal, "revised", begun, cause)

    def _record(
        self, unit: UnitOfWork, principal: Principal, verb: str, deployment: Deployment, cause: str = ""
    ) -> None:
        details = {"image": deployment.reference, "revision": deployment.revision} | ({"cause": cause} if cause else {})
        tenant, name = deployment.tenant, deployment.name
        self._trail.record(unit, act_of(principal, f"deployment.{verb}", tenant=tenant, subject=name, details=details))


def _require_under_way(there: Deployment) -> None:
    if there.rollout.state is RolloutState.FINISHED:
        raise RolloutOver(
            f"revision {there.revision} of {there.name} is rolled out",
            action="set another image, or see `longshore deployment rollout history`",
        )


def _before(there: Deployment, history: Sequence[Revision], to: int | None) -> Revision:
    own = there.own_revision
    if to is not None:
        found = next((one for one in history if one.number == to), None)
    elif there.rollout.state is not RolloutState.FINISHED:
        found = next((one for one in history if one.number == there.rollout.base and not one.same_as(own)), None)
    else:
        earlier = (one for one in history if one.number < own.number and one.finished_at is not None)
        found = next((one for one in earlier if not one.same_as(own)), None)
    if found is None:
        raise NothingToUndo(
            f"{there.name} has no revision {to}" if to is not None else f"{there.name} has no revision to go back to",
            action="see `longshore deployment rollout history`",
        )
    return found


def _require_made_for(images: Mapping[str, InstanceImage], of_host: Mapping[str, str], slots: Iterable[Slot]) -> None:
    missing = sorted({of_host[one.host_id] for one in slots if one.host_id in of_host} - images.keys())
    if missing:
        raise PlacementInvalid(
            f"the image is not made for {', '.join(missing)}, which hosts of the deployment are",
            action="push it for these too, or place the deployment on other hosts first",
            field="image",
        )
