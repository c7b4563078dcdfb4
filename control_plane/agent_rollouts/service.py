"""Use cases of rollouts of the agent: begin one, cancel it, let it go on after it halted, and carry on as hosts answer.

Invariant: a move (a wave, a halt, an end) is written in one transaction with the wants of the IDCs and a new generation
for every host concerned, while the rollout's row is locked; so `carry_on` may be called at any time, by any replica.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.errors import Failure, NotFound
from common.identifiers import is_id, new_id
from common.reference import Reference
from control_plane.agent_rollouts import rules, store
from control_plane.agent_rollouts.messages import AgentRolloutChanged
from control_plane.agent_rollouts.model import (
    ENDED,
    AgentRolloutInvalid,
    AgentRolloutOver,
    AgentRolloutRaced,
    Rollout,
    RolloutRequest,
    State,
    Told,
    Waiting,
)
from control_plane.agent_rollouts.reading import unknown
from control_plane.database import Database, UnitOfWork
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.fleet.waking import wake
from control_plane.instances.model import InstanceImage
from control_plane.instances.service import ImageResolver, image_meant
from control_plane.preheats import store as choosing
from control_plane.preheats.model import Candidate, Targets
from control_plane.preheats.rules import choose
from control_plane.swarm.model import WantedContent
from control_plane.swarm.service import SwarmService
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal

log = structlog.get_logger()

_DEFAULT_ARCHITECTURE = "amd64"


class AgentRolloutService:
    """`look` gives the present horizon (`fleet.liveness.horizons`)."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        images: ImageResolver,
        tenants: TenantDirectory,
        swarm: SwarmService,
        look: Callable[[], Horizon],
    ) -> None:
        self._database = database
        self._clock = clock
        self._images = images
        self._tenants = tenants
        self._swarm = swarm
        self._look = look

    async def begin(self, principal: Principal, request: RolloutRequest) -> Rollout:
        """The tag is resolved now and not looked at again. Rollouts that chose some of its hosts are superseded. Raises
        `AgentRolloutInvalid`, `AgentRolloutRaced`, `HostUnknown`, `IdcUnknown`, and `Invalid`, `Denied` or `NotFound`
        for what their texts say; then nothing changed.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        reference = Reference.parse(request.image)
        principal.require(Permission.IMAGE_PULL, reference.tenant)
        rules.check(request)
        tenant_id = (await self._tenants.ids_of([reference.tenant])).get(reference.tenant)
        if tenant_id is None:
            raise NotFound(f"there is no tenant {reference.tenant!r}", action="check `longshore tenant list`")
        chosen = await self._chosen_first(request.targets)
        images = await self._resolved(request.image, reference, chosen)
        rollout = Rollout(
            id=new_id(self._clock),
            order=0,
            tenant_id=tenant_id,
            tenant=reference.tenant,
            reference=request.image,
            version=request.version,
            images=images,
            targets=request.targets,
            pace=request.pace,
            created_by=principal.name,
            created_at=self._clock.now(),
        )
        async with self._database.transaction() as unit:
            rollout = replace(rollout, order=await store.next_order(unit.connection))
            if not await store.add(unit.connection, rollout):
                raise AgentRolloutRaced("another rollout began at the same moment", action="look at it, then try again")
            await self._supersede(unit, rollout, {one.host_id for one in chosen})
            await self._announce(unit, rollout)
            rollout = await self._move(unit, rollout)
        log.info("agent rollout began", audit=True, rollout=rollout.id, image=rollout.reference, by=principal.name)
        return rollout

    async def cancel(self, principal: Principal, rollout_id: str) -> Rollout:
        """No further host is told; those that were keep what they run. Harmless to repeat. Raises
        `AgentRolloutUnknown`.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            rollout = await self._locked(unit, rollout_id)
            if rollout.state in ENDED:
                return rollout
            ended = replace(rollout, state=State.CANCELLED, ended_at=unit.clock.now(), idc_ids=())
            await store.put(unit.connection, ended)
            await self._swarm.release(unit, rollout.id)
            await wake(unit, [one.host_id for one in await store.told(unit.connection, rollout.id)])
            await self._announce(unit, ended)
        log.info("agent rollout cancelled", audit=True, rollout=rollout.id, by=principal.name)
        return ended

    async def resume(self, principal: Principal, rollout_id: str) -> Rollout:
        """One that halted goes on: hosts that failed try again, under a newer order. Raises `AgentRolloutUnknown`,
        `AgentRolloutOver` if it did not halt.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            rollout = await self._locked(unit, rollout_id)
            if rollout.state is not State.HALTED:
                raise AgentRolloutOver(
                    f"the rollout is {rollout.state.value}", action="only one that halted can go on; begin another one"
                )
            again = replace(
                rollout,
                order=await store.next_order(unit.connection),
                state=State.RUNNING,
                reason="",
                settled_at=None,
            )
            await store.put(unit.connection, again)
            told = await store.told(unit.connection, rollout.id)
            seen = await store.presence(unit.connection, {one.host_id for one in told}, self._look())
            await store.ask_again(unit.connection, rollout.id, {one: seen[one][0] for one in sorted(seen)})
            await wake(unit, [one.host_id for one in told])
            await self._announce(unit, again)
        log.info("agent rollout goes on", audit=True, rollout=rollout.id, by=principal.name)
        return again

    async def carry_on(self) -> int:
        """Make the next move of every rollout that goes on; returns how many moved. For a periodic job."""
        return await self._carry_on(State.RUNNING)

    async def tell_latecomers(self) -> int:
        """Hosts that joined after the last wave; returns how many rollouts had some. For a job that runs more seldom:
        it looks at every host for as long as a rollout is in force.
        """
        return await self._carry_on(State.DONE)

    async def _carry_on(self, state: State) -> int:
        async with self._database.reading() as connection:
            ids = await store.in_state(connection, state)
        moved = 0
        for rollout_id in ids:
            try:
                async with self._database.transaction() as unit:
                    rollout = await self._locked(unit, rollout_id)
                    if rollout.state is state:
                        moved += await self._move(unit, rollout) != rollout
            except Failure as failure:
                log.warning("agent rollout not carried on", rollout=rollout_id, error=str(failure))
        return moved

    async def forget_ended(self, kept: timedelta) -> int:
        async with self._database.transaction() as unit:
            return await store.forget_ended(unit.connection, unit.clock.now() - kept)

    async def _move(self, unit: UnitOfWork, rollout: Rollout) -> Rollout:
        """The rollout is locked."""
        now = unit.clock.now()
        picture, candidates = await self._picture(unit, rollout, now)
        move = self._next(rollout, picture, now)
        match move:
            case rules.Tell(wave, host_ids):
                after = replace(rollout, wave=max(wave, rollout.wave), settled_at=None)
                online = {one.host_id: one.online for one in picture.waiting}
                chosen = [(candidates[host_id], online[host_id]) for host_id in host_ids]
                await store.tell(unit.connection, rollout.id, wave, chosen)
                after = await self._want(unit, after, {one.idc_id for one, _ in chosen})
                await wake(unit, host_ids)
            case rules.Halt(reason):
                after = replace(rollout, state=State.HALTED, reason=reason)
                log.error("agent rollout halted", rollout=rollout.id, image=rollout.reference, reason=reason)
            case rules.Finish():
                after = replace(rollout, state=State.DONE)
            case rules.Wait(settled):
                after = replace(rollout, settled_at=(rollout.settled_at or now) if settled else None)
        if after != rollout:
            await store.put(unit.connection, after)
            if (after.state, after.wave) != (rollout.state, rollout.wave):
                await self._announce(unit, after)
        return after

    def _next(self, rollout: Rollout, picture: rules.Picture, now: datetime) -> rules.Move:
        if rollout.state is State.RUNNING:
            return rules.next_move(picture, rollout.pace, rollout.id, now)
        late = tuple(sorted(one.host_id for one in picture.waiting))
        return rules.Tell(rules.LAST_WAVE, late) if late else rules.Wait(settled=rollout.settled_at is not None)

    async def _picture(
        self, unit: UnitOfWork, rollout: Rollout, now: datetime
    ) -> tuple[rules.Picture, dict[str, Candidate]]:
        connection = unit.connection
        newer = await store.hosts_of_newer(connection, rollout.order)
        rows = [one for one in await store.told(connection, rollout.id) if one.host_id not in newer]
        known = {one.host_id for one in rows}
        fitting = choose(await choosing.candidates(connection, rollout.targets), rollout.targets, rollout.id)
        waiting = {
            one.host_id: one
            for one in fitting
            if one.host_id not in known and one.host_id not in newer and one.architecture in rollout.images
        }
        seen = await store.presence(connection, known | waiting.keys(), self._look())
        told = [self._told(one, *seen.get(one.host_id, (False, None)), rollout, now) for one in rows]
        picture = rules.Picture(
            rollout.wave, rollout.settled_at, told, [Waiting(one, seen.get(one, (False, None))[0]) for one in waiting]
        )
        return picture, waiting

    def _told(
        self, row: store.ToldRow, online: bool, last_seen_at: datetime | None, rollout: Rollout, now: datetime
    ) -> Told:
        silent = not online and (last_seen_at is None or now - last_seen_at > rollout.pace.patience)
        return Told(row.host_id, row.wave, row.was_online, row.phase, online, silent, row.detail)

    async def _chosen_first(self, targets: Targets) -> Sequence[Candidate]:
        async with self._database.reading() as connection:
            missing = await choosing.missing_hosts(connection, targets.hosts) if targets.hosts else []
            known = await choosing.idc_ids(connection, targets.idcs)
            found = await choosing.candidates(connection, targets)
        for name in targets.idcs:
            if name not in known:
                raise IdcUnknown(f"there is no IDC {name[:80]!r}", action="see `longshore idc list`")
        if missing:
            raise HostUnknown(f"there is no host {missing[0][:300]!r}", action="give its id or idc/name")
        chosen = choose(found, targets, "")
        if not chosen:
            raise HostUnknown("no host fits what is asked for", action="see `longshore host list` for labels and IDCs")
        if len(chosen) > rules.MOST_HOSTS:
            raise AgentRolloutInvalid(f"{len(chosen)} hosts fit", action=f"choose at most {rules.MOST_HOSTS}")
        return chosen

    async def _resolved(
        self, written: str, reference: Reference, chosen: Sequence[Candidate]
    ) -> dict[str, InstanceImage]:
        wished = {one.architecture for one in chosen if one.architecture} or {_DEFAULT_ARCHITECTURE}
        return {
            architecture: image_meant(written, reference, await self._images.resolve(reference, architecture))
            for architecture in sorted(wished)
        }

    async def _supersede(self, unit: UnitOfWork, newer: Rollout, host_ids: set[str]) -> None:
        """Rollouts whose hosts, told or to be told, are among these."""
        for rollout_id in await store.not_ended(unit.connection):
            if rollout_id == newer.id:
                continue
            older = await self._locked(unit, rollout_id)
            told = {one.host_id for one in await store.told(unit.connection, older.id)}
            fitting = choose(await choosing.candidates(unit.connection, older.targets), older.targets, older.id)
            if host_ids.isdisjoint(told | {one.host_id for one in fitting}):
                continue
            ended = replace(older, state=State.SUPERSEDED, ended_at=unit.clock.now(), reason=f"by {newer.id}")
            await store.put(unit.connection, ended)
            await self._announce(unit, ended)

    async def _want(self, unit: UnitOfWork, rollout: Rollout, idc_ids: set[str]) -> Rollout:
        wanted = [WantedContent(one.digest, one.size_bytes, one.media_type) for one in rollout.contents()]
        for idc_id in sorted(idc_ids - set(rollout.idc_ids)):
            await self._swarm.want(unit, idc_id, rollout.tenant_id, rollout.id, wanted)
        return replace(rollout, idc_ids=tuple(sorted({*rollout.idc_ids, *idc_ids})))

    async def _announce(self, unit: UnitOfWork, rollout: Rollout) -> None:
        await unit.announce(AgentRolloutChanged(rollout.id, rollout.state.value, rollout.wave, rollout.reason))

    async def _locked(self, unit: UnitOfWork, rollout_id: str) -> Rollout:
        found = await store.find(unit.connection, rollout_id, locked=True) if is_id(rollout_id) else None
        if found is None:
            raise unknown(rollout_id)
        return found
