"""Use cases of preheats: ask for one, cancel it, and carry on as time passes.

Invariant: what is in force is written down: its effort, its hosts, its IDCs. `carry_on` compares that with what the
rules say now and changes it in one transaction, with the wants of the IDCs and a new generation for every host
concerned; so it may be called at any time, by any replica, any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Failure, NotFound
from common.identifiers import is_id, new_id
from common.reference import Reference
from control_plane.database import Database, UnitOfWork
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.fleet.waking import wake
from control_plane.instances.model import InstanceImage
from control_plane.instances.service import ImageResolver, image_meant
from control_plane.preheats import rules, store
from control_plane.preheats.messages import PreheatChanged
from control_plane.preheats.model import Candidate, Preheat, PreheatInvalid, PreheatRequest, State
from control_plane.preheats.reading import require_visible, unknown
from control_plane.swarm.model import WantedContent
from control_plane.swarm.service import SwarmService
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal

log = structlog.get_logger()

_DEFAULT_ARCHITECTURE = "amd64"
_OVER = (State.EXPIRED, State.CANCELLED)


class PreheatService:
    def __init__(
        self, database: Database, clock: Clock, images: ImageResolver, tenants: TenantDirectory, swarm: SwarmService
    ) -> None:
        self._database = database
        self._clock = clock
        self._images = images
        self._tenants = tenants
        self._swarm = swarm

    async def create(self, principal: Principal, request: PreheatRequest) -> str:
        """Its id. The tag is resolved now and not looked at again. Raises `PreheatInvalid`, `HostUnknown`,
        `IdcUnknown`, and `Invalid`, `Denied` or `NotFound` for what their texts say; then nothing changed.
        """
        principal.require(Permission.INSTANCE_WRITE, request.tenant)
        reference = Reference.parse(request.image)
        principal.require(Permission.IMAGE_PULL, reference.tenant)
        now = self._clock.now()
        rules.check(request, now)
        tenant_id = (await self._tenants.ids_of([request.tenant])).get(request.tenant)
        if tenant_id is None:
            raise NotFound(f"there is no tenant {request.tenant!r}", action="check `longshore tenant list`")
        preheat_id = new_id(self._clock)
        images = await self._resolved(request, reference, await self._chosen_first(request, preheat_id))
        preheat = Preheat(
            id=preheat_id,
            tenant_id=tenant_id,
            tenant=request.tenant,
            reference=request.image,
            images=images,
            targets=request.targets,
            window=request.window,
            lower_effort=request.lower_effort,
            keep_until=request.keep_until,
            created_by=principal.name,
            created_at=now,
        )
        async with self._database.transaction() as unit:
            await store.add(unit.connection, preheat)
            await self._put(unit, preheat, first=True)
        log.info("preheat made", preheat=preheat.id, tenant=preheat.tenant, image=preheat.reference)
        return preheat.id

    async def cancel(self, principal: Principal, preheat_id: str) -> None:
        """What only it wanted may go everywhere. Harmless to repeat. Raises `PreheatUnknown`, `Denied`."""
        async with self._database.transaction() as unit:
            preheat = await store.find(unit.connection, preheat_id, locked=True) if is_id(preheat_id) else None
            if preheat is None:
                principal.require(Permission.PLATFORM_READ)
                raise unknown(preheat_id)
            require_visible(principal, preheat.tenant, preheat_id)
            principal.require(Permission.INSTANCE_WRITE, preheat.tenant)
            if preheat.ended_at is None:
                await self._put(unit, replace(preheat, cancelled=True))

    async def carry_on(self) -> int:
        """Do what time and the fleet's changes ask of every living preheat; returns how many changed. For a periodic
        job, and for events that say that hosts came, went or were labelled.
        """
        async with self._database.reading() as connection:
            ids = await store.living(connection)
        changed = 0
        for preheat_id in ids:
            try:
                async with self._database.transaction() as unit:
                    preheat = await store.find(unit.connection, preheat_id, locked=True)
                    if preheat is not None and preheat.ended_at is None:
                        changed += await self._put(unit, preheat)
            except Failure as failure:
                # One that cannot go on must not stop the others; it is looked at again at the next tick.
                log.warning("preheat not carried on", preheat=preheat_id, error=str(failure))
        return changed

    async def forget_ended(self, kept: timedelta) -> int:
        async with self._database.transaction() as unit:
            return await store.forget_ended(unit.connection, unit.clock.now() - kept)

    async def _chosen_first(self, request: PreheatRequest, salt: str) -> list[Candidate]:
        """Raises `HostUnknown` if it would choose none, `IdcUnknown`."""
        targets = request.targets
        async with self._database.reading() as connection:
            missing = await store.missing_hosts(connection, targets.hosts) if targets.hosts else []
            known = await store.idc_ids(connection, targets.idcs)
            found = [] if targets.regionals_only else await store.candidates(connection, targets)
        for name in targets.idcs:
            if name not in known:
                raise IdcUnknown(f"there is no IDC {name[:80]!r}", action="see `longshore idc list`")
        if missing:
            raise HostUnknown(f"there is no host {missing[0][:300]!r}", action="give its id or idc/name")
        chosen = rules.choose(found, targets, salt)
        if not chosen and not targets.regionals_only:
            raise HostUnknown("no host fits what is asked for", action="see `longshore host list` for labels and IDCs")
        if len(chosen) > rules.MOST_HOSTS:
            raise PreheatInvalid(f"{len(chosen)} hosts fit", action=f"choose at most {rules.MOST_HOSTS}")
        return chosen

    async def _resolved(
        self, request: PreheatRequest, reference: Reference, chosen: Sequence[Candidate]
    ) -> dict[str, InstanceImage]:
        wished = set(request.targets.architectures) or {one.architecture for one in chosen}
        return {
            architecture: image_meant(request.image, reference, await self._images.resolve(reference, architecture))
            for architecture in sorted(wished or {_DEFAULT_ARCHITECTURE})
        }

    async def _put(self, unit: UnitOfWork, preheat: Preheat, *, first: bool = False) -> bool:
        """Bring what is in force to what the rules say now; whether anything changed. The preheat is locked."""
        now = unit.clock.now()
        state = rules.standing(preheat, now)
        over = state in _OVER
        before = await store.chosen(unit.connection, preheat.id)
        hosts = {} if over else {one.host_id: one for one in await self._fitting(unit, preheat)}
        idc_ids = () if over else await self._idc_ids(unit, preheat, list(hosts.values()))
        effort = rules.effort_of(preheat, state)
        after = replace(preheat, effort=effort, idc_ids=idc_ids, ended_at=now if over else None)
        if not first and after == preheat and hosts.keys() == before.keys():
            return False
        after = replace(after, generation=preheat.generation + (not first))
        await store.put_state(unit.connection, after)
        await store.add_hosts(unit.connection, preheat.id, [one for one in hosts.values() if one.host_id not in before])
        await store.remove_hosts(unit.connection, preheat.id, before.keys() - hosts.keys())
        await self._put_wants(unit, preheat, after)
        touched = before.keys() ^ hosts.keys() if effort == preheat.effort else before.keys() | hosts.keys()
        await wake(unit, touched)
        await unit.announce(PreheatChanged(preheat.id, preheat.tenant_id, state.value))
        return True

    async def _fitting(self, unit: UnitOfWork, preheat: Preheat) -> list[Candidate]:
        if preheat.targets.regionals_only:
            return []
        found = await store.candidates(unit.connection, preheat.targets)
        return [one for one in rules.choose(found, preheat.targets, preheat.id) if one.architecture in preheat.images]

    async def _idc_ids(self, unit: UnitOfWork, preheat: Preheat, hosts: Sequence[Candidate]) -> tuple[str, ...]:
        if preheat.targets.regionals_only:
            return tuple(sorted((await store.idc_ids(unit.connection, preheat.targets.idcs)).values()))
        return tuple(sorted({one.idc_id for one in hosts}))

    async def _put_wants(self, unit: UnitOfWork, before: Preheat, after: Preheat) -> None:
        for idc_id in sorted(set(before.idc_ids) - set(after.idc_ids)):
            await self._swarm.release(unit, after.id, idc_id)
        wanted = [WantedContent(one.digest, one.size_bytes, one.media_type) for one in after.contents()]
        for idc_id in after.idc_ids:
            if idc_id not in before.idc_ids or after.effort != before.effort:
                await self._swarm.want(unit, idc_id, after.tenant_id, after.id, wanted, after.effort)
