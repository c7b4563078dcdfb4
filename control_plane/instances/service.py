"""Use cases of instances: run, start, stop, restart, remove.

Invariant: a call checks everything before it writes anything, then writes in one transaction: the rows, the wants of
their contents, a new generation for every host that is concerned, and the messages that wake streams. All hosts or
none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.identifiers import is_id, new_id
from common.reference import Reference
from control_plane.database import Database, UnitOfWork
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.fleet.placement import store as placement_store
from control_plane.instances import places, placing, rules, store, transitions
from control_plane.instances.forgetting import forget
from control_plane.instances.model import (
    ImageContent,
    Instance,
    InstanceImage,
    InstanceView,
    Place,
    RunRequest,
)
from control_plane.instances.reading import InstanceReading, require_visible, unknown
from control_plane.registry.model import Descriptor, ResolvedImage
from control_plane.swarm.service import SwarmService
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal

Transition = Callable[[Instance, datetime], Instance]


class HostRevoked(Conflict):
    code = "host_revoked"


class ImageResolver(Protocol):
    """`registry.RegistryService`. Raises `NotFound`."""

    async def resolve(
        self, reference: Reference, architecture: str = "amd64", operating_system: str = "linux"
    ) -> ResolvedImage: ...


class InstanceService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        images: ImageResolver,
        tenants: TenantDirectory,
        swarm: SwarmService,
        reading: InstanceReading,
        give_way: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`give_way` returns when the hosts have been told, for whom the answer to a request may wait."""
        self._database = database
        self._clock = clock
        self._images = images
        self._tenants = tenants
        self._swarm = swarm
        self._reading = reading
        self._give_way = give_way or _nobody_is_told

    async def run(self, principal: Principal, request: RunRequest) -> list[InstanceView]:
        """One instance on each host. Harmless to repeat: what runs already as asked stays as it is.

        Raises `InstanceDiffers` if the name has another specification on one of the hosts, `InstanceBeingRemoved`,
        `HostRevoked`, `HostClosed`, `NoRoom`, `NameTaken`, and `Invalid`, `Denied` or `NotFound` for what their texts
        say; then nothing changed.
        """
        principal.require(Permission.INSTANCE_WRITE, request.tenant)
        rules.check_name(request.name)
        rules.check_spec(request.spec)
        rules.check_selection(request)
        if rules.reaches_host(request.spec):
            principal.require(Permission.PLATFORM_MANAGE)
        reference = Reference.parse(request.image)
        principal.require(Permission.IMAGE_PULL, reference.tenant)
        tenant_id = await self._tenant_id(request.tenant)
        chosen = await self._places(request)
        images = {
            architecture: image_meant(request.image, reference, await self._images.resolve(reference, architecture))
            for architecture in sorted({place.architecture for place in chosen})
        }
        async with self._database.transaction() as unit:
            ids, added = await self._put(
                unit, request, tenant_id, {place: images[place.architecture] for place in chosen}
            )
        # The hosts first: to read and show 1,000 rows takes 60 ms of this process, which the last of them would wait.
        await self._give_way()
        views = [*await self._reading.shown(ids), *await self._reading.added(added)]
        return sorted(views, key=lambda view: (view.idc, view.host, view.instance.id))

    async def start(self, principal: Principal, instance_id: str) -> InstanceView:
        """Harmless to repeat; also makes a held instance run. Raises `InstanceUnknown`, `Denied`,
        `InstanceBeingRemoved`.
        """
        return await self._change(principal, instance_id, transitions.started)

    async def stop(self, principal: Principal, instance_id: str) -> InstanceView:
        """Harmless to repeat. Raises like `start`."""
        return await self._change(principal, instance_id, transitions.stopped)

    async def pause(self, principal: Principal, instance_id: str) -> InstanceView:
        """Its processes stand still. Harmless to repeat. Raises like `start`."""
        return await self._change(principal, instance_id, transitions.paused)

    async def resume(self, principal: Principal, instance_id: str) -> InstanceView:
        """Nothing happens to one that is not wanted paused. Raises like `start`."""
        return await self._change(principal, instance_id, transitions.resumed)

    async def restart(self, principal: Principal, instance_id: str) -> InstanceView:
        """One restart a call. Raises like `start`."""
        return await self._change(principal, instance_id, transitions.restarted)

    async def remove(self, principal: Principal, instance_id: str, *, force: bool = False) -> InstanceView | None:
        """None if it is gone at once: its host is revoked or gone, or `force`. Otherwise it goes when its host says so;
        a host that was never heard of keeps it pending. After `force` a host removes what it has of it as soon as it
        hears that it is not assigned. Raises `InstanceUnknown`, `Denied`.
        """
        async with self._database.transaction() as unit:
            instance = await self._writable(unit, principal, instance_id)
            place = (await places.of_ids(unit.connection, [instance.host_id])).get(instance.host_id)
            if force or place is None or place.revoked:
                await forget(unit, instance.wish, self._swarm, host_exists=place is not None)
                return None
            await placing.put_desired(unit, instance, transitions.removed(instance, unit.clock.now()))
        return next(iter(await self._reading.shown([instance_id])), None)

    async def sweep(self) -> int:
        """Forget what is to be removed from hosts that were revoked or deleted since; returns how many. For a periodic
        job and for `fleet.identity_revoked`.
        """
        async with self._database.transaction() as unit:
            doomed = await store.unremovable(unit.connection)
            known = await places.of_ids(unit.connection, sorted({instance.host_id for instance in doomed}))
            for instance in doomed:
                await forget(unit, instance.wish, self._swarm, host_exists=instance.host_id in known)
        return len(doomed)

    async def _put(
        self, unit: UnitOfWork, request: RunRequest, tenant_id: str, images: dict[Place, InstanceImage]
    ) -> tuple[list[str], dict[Place, Instance]]:
        """Ids of those of the instances asked for that were there already, and the new ones."""
        now = unit.clock.now()
        # Hosts in the order of their ids, here and everywhere: transactions that touch several never wait in a circle.
        chosen = sorted(images, key=lambda place: place.host_id)
        there = await store.named(unit.connection, tenant_id, request.name, [place.host_id for place in chosen])
        added: dict[Place, Instance] = {}
        for place in chosen:
            known = there.get(place.host_id)
            if known is None:
                added[place] = self._new(request, tenant_id, place, images[place], now)
                continue
            again = transitions.asked_again(known, images[place], request.spec, request.desired_state, now)
            await placing.put_desired(unit, known, again)
        await placing.require_room(unit, [place.host_id for place in added], placing.resources_of(request.spec))
        await placing.add(unit, self._swarm, list(added.values()))
        return [instance.id for instance in there.values()], added

    def _new(self, request: RunRequest, tenant_id: str, place: Place, image: InstanceImage, now: datetime) -> Instance:
        return Instance(
            id=new_id(self._clock),
            tenant_id=tenant_id,
            tenant=request.tenant,
            host_id=place.host_id,
            idc_id=place.idc_id,
            name=request.name,
            image=image,
            spec=request.spec,
            desired_state=request.desired_state,
            generation=1,
            restart_nonce=0,
            created_at=now,
            updated_at=now,
        )

    async def _change(self, principal: Principal, instance_id: str, transition: Transition) -> InstanceView:
        async with self._database.transaction() as unit:
            instance = await self._writable(unit, principal, instance_id)
            await placing.put_desired(unit, instance, transition(instance, unit.clock.now()))
        shown = await self._reading.shown([instance_id])
        if not shown:
            raise unknown(instance_id)
        return shown[0]

    async def _writable(self, unit: UnitOfWork, principal: Principal, instance_id: str) -> Instance:
        instance = await store.find_locked(unit.connection, instance_id) if is_id(instance_id) else None
        if instance is None:
            principal.require(Permission.PLATFORM_READ)
            raise unknown(instance_id)
        require_visible(principal, instance.tenant, instance_id)
        principal.require(Permission.INSTANCE_WRITE, instance.tenant)
        return instance

    async def _tenant_id(self, tenant: str) -> str:
        found = (await self._tenants.ids_of([tenant])).get(tenant)
        if found is None:
            raise NotFound(f"there is no tenant {tenant!r}", action="check the name with `longshore tenant list`")
        return found

    async def _places(self, request: RunRequest) -> list[Place]:
        """The hosts that the request names; of an IDC or of everywhere, those that take new instances."""
        async with self._database.reading() as connection:
            if request.hosts:
                found = await places.named(connection, request.hosts)
            elif request.idc is not None:
                if not await places.idc_exists(connection, request.idc):
                    raise IdcUnknown(f"there is no IDC {request.idc[:80]!r}", action="see `longshore idc list`")
                found = await places.of_idc(connection, request.idc)
            else:
                found = await places.everywhere(connection)
            shut = await placement_store.standings(connection)
        if request.hosts:
            _require_all(request.hosts, found)
            return found
        usable = [place for place in found if not place.revoked and place.host_id not in shut]
        if not usable:
            where = f"in IDC {request.idc!r}" if request.idc is not None else "in any IDC"
            raise HostUnknown(f"there is no host {where}", action="list them with `longshore host list`")
        return usable


async def _nobody_is_told() -> None:
    """Where there is no fleet."""


def _require_all(names: Sequence[str], found: Sequence[Place]) -> None:
    known = {place.host_id for place in found} | {f"{place.idc}/{place.host}" for place in found}
    for name in names:
        if name not in known:
            raise HostUnknown(f"there is no host {name[:300]!r}", action="give its id or idc/name", host=name[:300])
    for place in found:
        if place.revoked:
            raise HostRevoked(
                f"host {place.idc}/{place.host} was revoked", action="enrol it again, or leave it out", host=place.host
            )


def image_meant(written: str, reference: Reference, resolved: ResolvedImage) -> InstanceImage:
    return InstanceImage(
        reference=written,
        repository=resolved.repository,
        tag=resolved.tag or reference.tag or "",
        manifest=_content(resolved.manifest),
        contents=tuple(_content(descriptor) for descriptor in resolved.contents),
    )


def _content(descriptor: Descriptor) -> ImageContent:
    return ImageContent(descriptor.digest, descriptor.size, descriptor.media_type)
