"""Putting instances on hosts and changing what is wanted of them, inside the caller's unit of work.

Invariant: rows, wants of contents, a new generation of each host concerned and the messages that wake its stream commit
together. Hosts are touched in the order of their ids, here and everywhere: transactions that touch several never wait
in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.errors import Conflict
from control_plane.database import UnitOfWork
from control_plane.database.locks import hold_rows
from control_plane.fleet.placement import store as placement_store
from control_plane.fleet.placement.fitting import lacking
from control_plane.fleet.placement.model import NOTHING, HostClosed, NoRoom, Resources, Standing
from control_plane.fleet.tables import hosts
from control_plane.fleet.waking import wake
from control_plane.instances import store
from control_plane.instances.messages import InstanceChanged, InstanceRequested
from control_plane.instances.model import Instance, InstanceImage, InstanceSpec
from control_plane.instances.offers import offers
from control_plane.swarm.model import WantedContent
from control_plane.swarm.service import SwarmService

_MOST_NAMED = 10


class NameTaken(Conflict):
    """Somebody else asked for an instance of that name at the same moment."""

    code = "instance_name_taken"


def resources_of(spec: InstanceSpec) -> Resources:
    """What of a host is promised to such an instance."""
    return Resources(round(spec.cpus * 1000), spec.memory_bytes, int(getattr(spec, "disk_bytes", 0)))


async def require_room(unit: UnitOfWork, host_ids: Sequence[str], ask: Resources) -> None:
    """Raises `HostClosed` or `NoRoom`, naming the hosts, unless each takes one such instance more, or as many as
    it is named times. Hosts of whom something is asked are held until the unit of work ends, so nobody else takes the
    same room.
    """
    times = Counter(host_ids)
    concerned = set(host_ids)
    if ask.nothing:
        # Who asks for nothing finds room wherever it is open: 1,000 hosts need not be read for that.
        concerned &= (await placement_store.standings(unit.connection, concerned)).keys()
    elif concerned:
        await hold_rows(unit.connection, hosts, [(host_id,) for host_id in concerned])
    if not concerned:
        return
    found = await offers(unit.connection, host_ids=concerned)
    shut = [f"{one.label} is {one.standing.value}" for one in found if one.standing is not Standing.OPEN]
    if shut:
        raise HostClosed(_listed(shut), action="choose other hosts, or `longshore host uncordon` them")
    full = [f"{one.label}: {short}" for one in found if (short := lacking(one, ask, ask.times(times[one.host_id] - 1)))]
    if full:
        raise NoRoom(_listed(full), action="ask for less, choose other hosts, or see `longshore host capacity`")


async def add(unit: UnitOfWork, swarm: SwarmService, added: Sequence[Instance]) -> None:
    """New instances, in the order of their hosts' ids. Raises `NameTaken`."""
    if not await store.add(unit.connection, added):
        raise NameTaken("an instance of that name appeared on one of the hosts", action="ask again")
    await wake(unit, [instance.host_id for instance in added])
    for idc_id, tenant_id, image, owners in _alike(added):
        await swarm.want_all(unit, idc_id, tenant_id, owners, wanted_contents(image))
    await unit.announce(*(_requested(instance) for instance in added))


def _alike(added: Sequence[Instance]) -> list[tuple[str, str, InstanceImage, list[str]]]:
    """Ids of those that want the same contents in the same IDC; IDCs in the order of their ids."""
    # One image object goes to many hosts: to compare a thousand of them takes longer than to see that they are one.
    images = {id(instance.image): instance.image for instance in added}
    alike: dict[tuple[str, str, int], list[str]] = {}
    for instance in sorted(added, key=lambda one: one.idc_id):
        alike.setdefault((instance.idc_id, instance.tenant_id, id(instance.image)), []).append(instance.id)
    return [(idc_id, tenant_id, images[image], owners) for (idc_id, tenant_id, image), owners in alike.items()]


def _requested(instance: Instance) -> InstanceRequested:
    digest = str(instance.image.manifest.digest)
    return InstanceRequested(instance.id, instance.tenant_id, instance.host_id, instance.name, digest)


async def put_desired(unit: UnitOfWork, known: Instance, wanted: Instance) -> None:
    """`known` is there and locked."""
    if wanted == known:
        return
    await store.put_desired(unit.connection, wanted)
    await wake(unit, [wanted.host_id])
    await unit.announce(InstanceChanged(wanted.id, wanted.tenant_id, wanted.generation, wanted.desired_state.value))


async def revise(unit: UnitOfWork, swarm: SwarmService, revised: Sequence[tuple[Instance, Instance]]) -> None:
    """Other images or specifications for instances that are there and locked: (as it is, as it shall be). Hosts of whom
    more is asked are held until the unit of work ends. Raises `NoRoom`, naming them; then nothing may be committed.
    """
    changed = sorted((pair for pair in revised if pair[0] != pair[1]), key=lambda pair: pair[0].host_id)
    await _require_more(unit, changed)
    for _, wanted in changed:
        await store.put_revised(unit.connection, wanted)
    await wake(unit, [wanted.host_id for _, wanted in changed])
    for known, wanted in sorted(changed, key=lambda pair: pair[0].idc_id):
        await swarm.release(unit, wanted.id)
        await swarm.want(unit, wanted.idc_id, wanted.tenant_id, wanted.id, wanted_contents(wanted.image))
        await unit.announce(InstanceChanged(wanted.id, wanted.tenant_id, wanted.generation, known.desired_state.value))


async def _require_more(unit: UnitOfWork, changed: Sequence[tuple[Instance, Instance]]) -> None:
    more: dict[str, Resources] = {}
    for known, wanted in changed:
        extra = resources_of(wanted.spec).beyond(resources_of(known.spec))
        if not extra.nothing:
            more[known.host_id] = more.get(known.host_id, NOTHING).plus(extra)
    if not more:
        return
    await hold_rows(unit.connection, hosts, [(host_id,) for host_id in more])
    found = await offers(unit.connection, host_ids=set(more))
    full = [f"{one.label}: {short}" for one in found if (short := lacking(one, more[one.host_id]))]
    if full:
        raise NoRoom(_listed(full), action="ask for less, or see `longshore host capacity`")


def wanted_contents(image: InstanceImage) -> list[WantedContent]:
    return [WantedContent(content.digest, content.size_bytes, content.media_type) for content in image.all_contents()]


def _listed(reasons: Sequence[str]) -> str:
    more = len(reasons) - _MOST_NAMED
    return "; ".join(reasons[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
