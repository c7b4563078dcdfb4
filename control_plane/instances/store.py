"""Queries over instances and what hosts said of them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Text, cast, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore_each, insert_or_replace
from control_plane.fleet.tables import hosts, idcs
from control_plane.instances.model import (
    DesiredState,
    Health,
    Instance,
    InstanceImage,
    InstanceSpec,
    Phase,
    Status,
    Wish,
)
from control_plane.instances.records import image_in, image_of, image_record, spec_in, spec_of, spec_record
from control_plane.instances.tables import instance_statuses, instances

# SQLite binds 32,766 values in one statement, PostgreSQL 65,535.
_MOST_IDS = 10_000
# What differs between the instances of one request.
_EACH = ("id", "host_id", "idc_id", "name")


@dataclass(frozen=True, slots=True)
class AssignedGenerations:
    """What one host shall run at one generation: each instance's own, by its id. `idc`: the name of its IDC."""

    generation: int
    idc: str
    instances: Mapping[str, int]


async def add(connection: AsyncConnection, added: Sequence[Instance]) -> bool:
    """False if one of the names was taken on its host at the same moment; the caller then rolls back."""
    for some in _alike(added):
        each = {name: [getattr(one, name) for one in some] for name in _EACH}
        row = {name: value for name, value in _row(some[0]).items() if name not in each}
        await insert_or_ignore_each(connection, instances, each, row)
    ids = [instance.id for instance in added]
    written = await connection.scalars(select(instances.c.id).where(instances.c.id.in_(ids)))
    return len(list(written)) == len(ids)


def _alike(added: Sequence[Instance]) -> list[list[Instance]]:
    """Those together that differ in `_EACH` only, in the order given."""
    found: dict[Hashable, list[list[Instance]]] = {}
    for one in added:
        wish = (one.desired_state, one.generation, one.restart_nonce, one.created_at, one.updated_at)
        groups = found.setdefault((one.tenant_id, one.image, wish), [])
        # A specification has no hash; one request or deployment has one, or few.
        same = next((group for group in groups if group[0].spec == one.spec), None)
        if same is None:
            groups.append([one])
        else:
            same.append(one)
    return [group for groups in found.values() for group in groups]


async def find(connection: AsyncConnection, instance_id: str) -> Instance | None:
    row = (await connection.execute(select(instances).where(instances.c.id == instance_id))).one_or_none()
    return None if row is None else instance_of(row)


async def find_locked(connection: AsyncConnection, instance_id: str) -> Instance | None:
    """Like `find`; other changes of this instance wait until our transaction ends."""
    row = (
        await connection.execute(select(instances).where(instances.c.id == instance_id).with_for_update())
    ).one_or_none()
    return None if row is None else instance_of(row)


async def named(connection: AsyncConnection, tenant_id: str, name: str, host_ids: Sequence[str]) -> dict[str, Instance]:
    """By host id, locked, in the order of ids."""
    rows = await connection.execute(
        select(instances)
        .where(instances.c.tenant_id == tenant_id, instances.c.name == name, instances.c.host_id.in_(host_ids))
        .order_by(instances.c.id)
        .with_for_update()
    )
    return {row.host_id: instance_of(row) for row in rows}


async def put_desired(connection: AsyncConnection, instance: Instance) -> None:
    """The desired side of an instance that is there and locked."""
    await connection.execute(
        update(instances)
        .where(instances.c.id == instance.id)
        .values(
            desired_state=instance.desired_state.value,
            generation=instance.generation,
            restart_nonce=instance.restart_nonce,
            updated_at=instance.updated_at,
        )
    )


async def put_revised(connection: AsyncConnection, instance: Instance) -> None:
    """`put_desired`, with another image or specification."""
    made_of = {"image": image_record(instance.image), "spec": spec_record(instance.spec)}
    await connection.execute(update(instances).where(instances.c.id == instance.id).values(made_of))
    await put_desired(connection, instance)


async def remove(connection: AsyncConnection, instance_id: str) -> None:
    await connection.execute(delete(instance_statuses).where(instance_statuses.c.instance_id == instance_id))
    await connection.execute(delete(instances).where(instances.c.id == instance_id))


async def assigned_generations(
    connection: AsyncConnection, host_ids: Collection[str]
) -> dict[str, AssignedGenerations]:
    """Of those hosts that there are."""
    rows = await connection.execute(
        select(hosts.c.id, hosts.c.assignments_generation, idcs.c.name, instances.c.id, instances.c.generation)
        .select_from(
            hosts.join(idcs, idcs.c.id == hosts.c.idc_id).outerjoin(instances, instances.c.host_id == hosts.c.id)
        )
        .where(hosts.c.id.in_(host_ids))
    )
    found: dict[str, tuple[int, str, dict[str, int]]] = {}
    for host_id, assigned_at, idc, instance_id, generation in rows:
        _, _, assigned = found.setdefault(host_id, (assigned_at, idc, {}))
        if instance_id is not None:
            assigned[instance_id] = generation
    return {host_id: AssignedGenerations(*one) for host_id, one in found.items()}


async def with_ids(connection: AsyncConnection, instance_ids: Collection[str]) -> dict[str, Instance]:
    """Those that there are, by id."""
    ids = sorted(instance_ids)
    found: dict[str, Instance] = {}
    for start in range(0, len(ids), _MOST_IDS):
        some = ids[start : start + _MOST_IDS]
        rows = await connection.execute(select(*_WITH_TEXTS).where(instances.c.id.in_(some)))
        found |= {row.id: _instance(row, image_in(row.image), spec_in(row.spec)) for row in rows}
    return found


async def of_hosts(
    connection: AsyncConnection, host_ids: Collection[str], instance_ids: Collection[str], *, locked: bool = False
) -> dict[str, dict[str, tuple[Wish, Status]]]:
    """Those of the given instances that are on those hosts, by host and id, with what was said of them last."""
    statement = (
        select(*_WISH_COLUMNS, *STATUS_COLUMNS)
        .select_from(instances)
        .outerjoin(instance_statuses, instance_statuses.c.instance_id == instances.c.id)
        .where(instances.c.host_id.in_(host_ids), instances.c.id.in_(instance_ids))
        .order_by(instances.c.id)
    )
    # PostgreSQL locks no rows on the outer side of a join.
    rows = await connection.execute(statement.with_for_update(of=instances) if locked else statement)
    found: dict[str, dict[str, tuple[Wish, Status]]] = {host_id: {} for host_id in host_ids}
    for row in rows:
        wish = Wish(row.id, row.tenant_id, row.host_id, DesiredState(row.desired_state), row.generation)
        found[row.host_id][row.id] = (wish, status_of(row))
    return found


async def of_host(
    connection: AsyncConnection, host_id: str, instance_ids: Collection[str], *, locked: bool = False
) -> dict[str, tuple[Wish, Status]]:
    """`of_hosts` of one."""
    return (await of_hosts(connection, [host_id], instance_ids, locked=locked))[host_id]


async def put_statuses(connection: AsyncConnection, statuses: Mapping[str, Status]) -> None:
    """By instance id; each has its `reported_at`. One of an older generation than the row's changes nothing, whatever
    two transactions knew when they began.
    """
    await insert_or_replace(
        connection,
        instance_statuses,
        unless_older="observed_generation",
        rows=[
            {
                "instance_id": instance_id,
                "observed_generation": status.observed_generation,
                "phase": status.phase.value,
                "health": status.health.value,
                "detail": status.detail,
                "runtime_id": status.runtime_id,
                "restart_count": status.restart_count,
                "reported_at": status.reported_at,
            }
            for instance_id, status in sorted(statuses.items())
        ],
    )


async def unremovable(connection: AsyncConnection) -> list[Instance]:
    """What is to be removed from hosts that will never say that it is: they were revoked, or are gone. Locked."""
    rows = await connection.execute(
        select(instances)
        .where(
            instances.c.desired_state == DesiredState.REMOVED.value,
            ~exists().where(hosts.c.id == instances.c.host_id, hosts.c.revoked_at.is_(None)),
        )
        .order_by(instances.c.host_id, instances.c.id)
        .with_for_update()
    )
    return [instance_of(row) for row in rows]


def instance_of(row: Row[Any]) -> Instance:
    return _instance(row, image_of(row.image), spec_of(row.spec))


def _instance(row: Row[Any], image: InstanceImage, spec: InstanceSpec) -> Instance:
    return Instance(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        host_id=row.host_id,
        idc_id=row.idc_id,
        name=row.name,
        image=image,
        spec=spec,
        desired_state=DesiredState(row.desired_state),
        generation=row.generation,
        restart_nonce=row.restart_nonce,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def status_of(row: Row[Any]) -> Status:
    if row.observed_generation is None:
        return Status()
    return Status(
        observed_generation=row.observed_generation,
        phase=Phase(row.phase),
        health=Health(row.health),
        detail=row.detail,
        runtime_id=row.runtime_id,
        restart_count=row.restart_count,
        reported_at=row.reported_at,
    )


# A fleet runs few images and specifications on many hosts: their texts are recognised before anybody decodes them.
_WITH_TEXTS = tuple(
    cast(column, Text).label(column.name) if column.name in ("image", "spec") else column for column in instances.c
)
_WISH_COLUMNS = (
    instances.c.id,
    instances.c.tenant_id,
    instances.c.host_id,
    instances.c.desired_state,
    instances.c.generation,
)
# Without the key, whose name the instances have too.
STATUS_COLUMNS = tuple(column for column in instance_statuses.c if column.name != "instance_id")


def _row(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "tenant_id": instance.tenant_id,
        "tenant": instance.tenant,
        "host_id": instance.host_id,
        "idc_id": instance.idc_id,
        "name": instance.name,
        "image": image_record(instance.image),
        "spec": spec_record(instance.spec),
        "desired_state": instance.desired_state.value,
        "generation": instance.generation,
        "restart_nonce": instance.restart_nonce,
        "created_at": instance.created_at,
        "updated_at": instance.updated_at,
    }
