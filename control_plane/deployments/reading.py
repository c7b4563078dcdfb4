"""Deployments as people see them, and how far the draining of a host is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.errors import NotFound
from common.identifiers import is_id
from control_plane.database import Database
from control_plane.deployments import store
from control_plane.deployments.model import Deployment, Slot
from control_plane.fleet.hosts import Members
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.placement import store as placement_store
from control_plane.fleet.placement.model import HostStanding, Offer, Standing
from control_plane.instances.mobility import stays_when_drained
from control_plane.instances.model import DesiredState, Instance, Phase, Status
from control_plane.instances.offers import offers
from control_plane.instances.reading import readable_tenants
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest, page_of


class DeploymentUnknown(NotFound):
    """There is no such deployment, or none that the asker may see."""

    code = "deployment_unknown"


@dataclass(frozen=True, slots=True)
class SlotView:
    """`moving_to`: `idc/name` of the host where its successor waits."""

    number: int
    instance_id: str
    host: str
    status: Status
    moving_to: str = ""
    revision: int = 1


@dataclass(frozen=True, slots=True)
class DeploymentView:
    deployment: Deployment
    slots: Sequence[SlotView]

    @property
    def running(self) -> int:
        return sum(slot.status.phase is Phase.RUNNING for slot in self.slots)


class Leaving(StrEnum):
    """How an instance of a drained host stands."""

    STAYS = "stays"  # it cannot move
    WAITS = "waits"  # it will move
    MOVES = "moves"  # its successor is on another host
    GOES = "goes"  # it is being removed


@dataclass(frozen=True, slots=True)
class DrainedInstance:
    instance: Instance
    status: Status
    leaving: Leaving
    detail: str


@dataclass(frozen=True, slots=True)
class DrainView:
    """`finished`: everything that can move has moved."""

    host: str
    standing: HostStanding
    instances: Sequence[DrainedInstance]

    @property
    def finished(self) -> bool:
        draining = self.standing.standing is Standing.DRAINING
        return draining and all(one.leaving is Leaving.STAYS for one in self.instances)


class DeploymentReading:
    def __init__(self, database: Database, members: Members, look: Callable[[], Horizon]) -> None:
        self._database = database
        self._members = members
        self._look = look

    async def get(self, principal: Principal, deployment_id: str) -> DeploymentView:
        """By id or `tenant/name`. Raises `DeploymentUnknown`, also for those of tenants that one may not see."""
        async with self._database.reading() as connection:
            if is_id(deployment_id):
                found = await store.find(connection, deployment_id)
            else:
                tenant, _, name = deployment_id.partition("/")
                found = await store.find_by_name(connection, tenant, name)
        if found is None:
            principal.require(Permission.PLATFORM_READ)
            raise unknown(deployment_id)
        require_visible(principal, found.tenant, deployment_id)
        return (await self._shown([found]))[0]

    async def page(self, principal: Principal, tenant: str | None, request: PageRequest) -> Page[DeploymentView]:
        """Those of `tenant`, or of every tenant that one may see. Raises `NotFound` for another's."""
        principal.require(Permission.PLATFORM_READ)
        if tenant is not None:
            principal.require(Permission.INSTANCE_READ, tenant)
        wanted = readable_tenants(principal) if tenant is None else [tenant]
        async with self._database.reading() as connection:
            found = await store.page(connection, wanted, request)
        return Page(await self._shown(found.items), found.total_count, request)

    async def drain(self, principal: Principal, host: str) -> DrainView:
        """By id or `idc/name`; instances of the tenants that one may see. Raises `HostUnknown`."""
        principal.require(Permission.PLATFORM_READ)
        member = (await self._members.get("host", host)).member
        async with self._database.reading() as connection:
            standing = (await placement_store.standings(connection, [member.id])).get(member.id, HostStanding())
            found = await store.on_host(connection, member.id)
            hosts = await store.host_labels(connection, [slot for _, _, _, slot in found if slot is not None])
        shown = [
            DrainedInstance(instance, status, *_leaving(instance, deployment, slot, hosts))
            for instance, status, deployment, slot in found
            if principal.may(Permission.INSTANCE_READ, instance.tenant)
        ]
        return DrainView(f"{member.idc}/{member.name}", standing, shown)

    async def room(self, principal: Principal, idc: str | None, request: PageRequest) -> Page[Offer]:
        """What each host has, and how much of it is promised; by IDC and name."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            found = await offers(connection, at=self._look())
        wanted = sorted((one for one in found if idc in (None, one.idc)), key=lambda one: one.label)
        return page_of(wanted, request)

    async def _shown(self, found: Sequence[Deployment]) -> list[DeploymentView]:
        async with self._database.reading() as connection:
            slots = await store.slots_of(connection, [one.id for one in found])
            everything = [slot for of_one in slots.values() for slot in of_one.values()]
            instances = await store.instances_of(connection, everything)
            hosts = await store.host_labels(connection, everything)
        return [
            DeploymentView(
                one,
                [_slot_view(slot, instances, hosts) for _, slot in sorted(slots.get(one.id, {}).items())],
            )
            for one in found
        ]


def _slot_view(slot: Slot, instances: Mapping[str, tuple[Instance, Status]], hosts: Mapping[str, str]) -> SlotView:
    status = instances[slot.instance_id][1] if slot.instance_id in instances else Status()
    moving_to = hosts.get(slot.successor_host_id, "") if slot.successor_id else ""
    return SlotView(slot.number, slot.instance_id, hosts.get(slot.host_id, ""), status, moving_to, slot.revision)


def _leaving(
    instance: Instance, deployment: Deployment | None, slot: Slot | None, hosts: Mapping[str, str]
) -> tuple[Leaving, str]:
    if instance.desired_state is DesiredState.REMOVED:
        return Leaving.GOES, "it is being removed"
    if (deployment is None or slot is None) and stays_when_drained(instance) is None:
        return Leaving.WAITS, "it moves with what it wrote, when it is its turn"
    if deployment is None or slot is None:
        return Leaving.STAYS, "it was asked for on this host; run it elsewhere, or remove it"
    if deployment.rules.count is None:
        return Leaving.STAYS, "one is wanted on every host"
    if deployment.stateful:
        return Leaving.STAYS, "cannot move: stateful, it has volumes"
    if slot.instance_id != instance.id:
        return Leaving.WAITS, "it was on its way here, and gets another place"
    if slot.successor_id:
        return Leaving.MOVES, f"to {hosts.get(slot.successor_host_id, slot.successor_host_id)}"
    if deployment.unplaced:
        return Leaving.WAITS, f"there is no other place: {deployment.why.text}"
    return Leaving.WAITS, ""


def require_visible(principal: Principal, tenant: str, deployment_id: str) -> None:
    """Another tenant's deployment is unknown, not forbidden: its very id tells nothing."""
    if principal.may(Permission.INSTANCE_READ, tenant):
        return
    principal.require(Permission.PLATFORM_READ)
    raise unknown(deployment_id)


def unknown(deployment_id: str) -> DeploymentUnknown:
    return DeploymentUnknown(
        f"there is no deployment {deployment_id[:80]!r}", action="list them with `longshore deployment list`"
    )
