"""Use cases of deployments: ask for one, change how many and where, take it away.

Invariant: everything is checked before anything is written, and what is written is placed in the same transaction: the
answer says where it goes, or why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.identifiers import is_id, new_id
from common.reference import Reference
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.deployments import rules, store, store_revisions
from control_plane.deployments.converging import Converging
from control_plane.deployments.model import Deployment, DeploymentRequest
from control_plane.deployments.reading import require_visible, unknown
from control_plane.fleet.placement.fitting import misfit
from control_plane.fleet.placement.model import Offer, Rules
from control_plane.instances.model import InstanceImage
from control_plane.instances.offers import offers
from control_plane.instances.rules import reaches_host
from control_plane.instances.service import ImageResolver, image_meant
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of

_DEFAULT_ARCHITECTURE = "amd64"


class DeploymentExists(Conflict):
    code = "deployment_exists"


class DeploymentBeingRemoved(Conflict):
    code = "deployment_being_removed"


class DeploymentService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        images: ImageResolver,
        tenants: TenantDirectory,
        converging: Converging,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._clock = clock
        self._images = images
        self._tenants = tenants
        self._converging = converging
        self._trail = trail

    async def create(self, principal: Principal, request: DeploymentRequest) -> str:
        """Its id. The tag is resolved now and not looked at again. Raises `PlacementInvalid`, `DeploymentExists`,
        `NoRoom` when no host could ever take one, and `Invalid`, `Denied` or `NotFound` for what their texts say; then
        nothing changed.
        """
        principal.require(Permission.INSTANCE_WRITE, request.tenant)
        reference = Reference.parse(request.image)
        principal.require(Permission.IMAGE_PULL, reference.tenant)
        rules.check(request)
        if reaches_host(request.spec):
            principal.require(Permission.PLATFORM_MANAGE)
        tenant_id = (await self._tenants.ids_of([request.tenant])).get(request.tenant)
        if tenant_id is None:
            raise NotFound(f"there is no tenant {request.tenant!r}", action="check `longshore tenant list`")
        async with self._database.reading() as connection:
            known = await offers(connection)
        images = await resolved(self._images, request.image, request.rules, known)
        now = self._clock.now()
        deployment = Deployment(
            id=new_id(self._clock),
            tenant_id=tenant_id,
            tenant=request.tenant,
            name=request.name,
            reference=request.image,
            images=images,
            spec=request.spec,
            rules=request.rules,
            desired_state=request.desired_state,
            reschedule_after_seconds=request.reschedule_after_seconds,
            state_may_be_lost=request.state_may_be_lost,
            exclusive=request.exclusive,
            created_by=principal.name,
            created_at=now,
            updated_at=now,
        )
        rules.check_possible(request.rules, deployment.ask, known)
        async with self._database.transaction() as unit:
            if not await store.add(unit.connection, deployment):
                raise DeploymentExists(
                    f"{request.tenant} has a deployment {request.name} already",
                    action="change that one, or choose another name",
                )
            made = replace(deployment.own_revision, cause="made", finished_at=now)
            await store_revisions.add(unit.connection, deployment.id, made)
            await self._converging.converge(unit, deployment)
            self._record(unit, principal, "made", deployment)
        return deployment.id

    async def place(self, principal: Principal, deployment_id: str, wanted: Rules) -> None:
        """How many, and where, from now on. What fits where it is stays. Raises `DeploymentUnknown`,
        `PlacementInvalid`, `DeploymentBeingRemoved`, `NoRoom`, `Denied`; then nothing changed.
        """
        async with self._database.transaction() as unit:
            known = await writable(unit, principal, deployment_id)
            require_there(known)
            rules.check(rules.request_of(known, rules=wanted))
            if (known.rules.count is None) != (wanted.count is None):
                raise Conflict(
                    "one on every host and a number of them are different deployments", action="make another"
                )
            rules.check_possible(wanted, known.ask, await offers(unit.connection))
            if wanted != known.rules:
                await self._converging.converge(unit, replace(known, rules=wanted, updated_at=unit.clock.now()))
                self._record(unit, principal, "changed", known)

    async def remove(self, principal: Principal, deployment_id: str) -> bool:
        """Whether it is gone at once; else it goes when its hosts have removed its instances. Harmless to repeat.
        Raises `DeploymentUnknown`, `Denied`.
        """
        async with self._database.transaction() as unit:
            known = await writable(unit, principal, deployment_id)
            if not known.removing:
                self._record(unit, principal, "removed", known)
            left = await self._converging.converge(unit, replace(known, removing=True, updated_at=unit.clock.now()))
        return left is None

    def _record(self, unit: UnitOfWork, principal: Principal, verb: str, deployment: Deployment) -> None:
        details = {"image": deployment.reference}
        act = act_of(
            principal, f"deployment.{verb}", tenant=deployment.tenant, subject=deployment.name, details=details
        )
        self._trail.record(unit, act)


def require_there(deployment: Deployment) -> None:
    """Raises `DeploymentBeingRemoved`."""
    if deployment.removing:
        raise DeploymentBeingRemoved(f"{deployment.name} is being removed", action="wait until it is gone")


async def writable(unit: UnitOfWork, principal: Principal, deployment_id: str) -> Deployment:
    """Held until the unit of work ends. Raises `DeploymentUnknown`, `Denied`."""
    found = await store.find(unit.connection, deployment_id, locked=True) if is_id(deployment_id) else None
    if found is None:
        principal.require(Permission.PLATFORM_READ)
        raise unknown(deployment_id)
    require_visible(principal, found.tenant, deployment_id)
    principal.require(Permission.INSTANCE_WRITE, found.tenant)
    return found


async def resolved(
    resolver: ImageResolver, image: str, wanted: Rules, known: Sequence[Offer]
) -> dict[str, InstanceImage]:
    """The image for each architecture that a fitting host has; those that it is not made for are left out, unless it is
    made for none. Raises `NotFound`, `NameInvalid`, `TagInvalid`.
    """
    reference = Reference.parse(image)
    fitting = {offer.architecture for offer in known if not misfit(offer, wanted)}
    wished = sorted(set(wanted.architectures) or fitting or {_DEFAULT_ARCHITECTURE})
    found: dict[str, InstanceImage] = {}
    for architecture in wished:
        try:
            made = await resolver.resolve(reference, architecture)
        except NotFound:
            if architecture in wanted.architectures or (architecture == wished[-1] and not found):
                raise
            continue
        found[architecture] = image_meant(image, reference, made)
    return found
