"""Rows of agent rollouts in, models out; never commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.agent_rollouts.model import ENDED, HostStanding, Pace, Rollout, State
from control_plane.agent_rollouts.tables import agent_rollout_hosts, agent_rollouts
from control_plane.database.upserts import insert_or_ignore, inserted
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.model import State as Presence
from control_plane.fleet.store_members import in_state as member_in_state
from control_plane.fleet.tables import hosts, idcs
from control_plane.instances.model import Phase
from control_plane.instances.records import image_of, image_record
from control_plane.preheats.model import Candidate, Targets
from control_plane.web.paging import Page, PageRequest

_ENDED = sorted(state.value for state in ENDED)


@dataclass(frozen=True, slots=True)
class Told:
    """What one host was told: the rollout, the host's architecture as it was then, and the name of its IDC."""

    rollout: Rollout
    architecture: str
    idc: str


@dataclass(frozen=True, slots=True)
class ToldRow:
    """A host that was told, as it is written down."""

    host_id: str
    idc_id: str
    wave: int
    was_online: bool
    phase: Phase
    detail: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a host said of an order."""

    order: int
    phase: str
    detail: str


async def next_order(connection: AsyncConnection) -> int:
    return int(await connection.scalar(select(func.coalesce(func.max(agent_rollouts.c.order_number), 0))) or 0) + 1


async def add(connection: AsyncConnection, rollout: Rollout) -> bool:
    """False if another one took its number meanwhile."""
    return await inserted(connection, agent_rollouts, _row(rollout))


async def find(connection: AsyncConnection, rollout_id: str, *, locked: bool = False) -> Rollout | None:
    question = select(agent_rollouts).where(agent_rollouts.c.id == rollout_id)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _rollout(row)


async def put(connection: AsyncConnection, rollout: Rollout) -> None:
    """What changes in a rollout's life."""
    row = _row(rollout)
    changing = ("order_number", "state", "reason", "wave", "settled_at", "idc_ids", "ended_at")
    await connection.execute(
        update(agent_rollouts).where(agent_rollouts.c.id == rollout.id).values({name: row[name] for name in changing})
    )


async def page(connection: AsyncConnection, ended: bool, request: PageRequest) -> Page[Rollout]:
    """Newest first; `ended`: also those that are over."""
    wanted = true() if ended else agent_rollouts.c.state.not_in(_ENDED)
    total = await connection.scalar(select(func.count()).select_from(agent_rollouts).where(wanted))
    rows = await connection.execute(
        select(agent_rollouts)
        .where(wanted)
        .order_by(agent_rollouts.c.order_number.desc())
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_rollout(row) for row in rows], int(total or 0), request)


async def in_state(connection: AsyncConnection, state: State) -> list[str]:
    """Their ids, newest first."""
    question = select(agent_rollouts.c.id).where(agent_rollouts.c.state == state.value)
    return list(await connection.scalars(question.order_by(agent_rollouts.c.order_number.desc())))


async def not_ended(connection: AsyncConnection) -> list[str]:
    question = select(agent_rollouts.c.id).where(agent_rollouts.c.state.not_in(_ENDED))
    return list(await connection.scalars(question.order_by(agent_rollouts.c.id)))


async def told(connection: AsyncConnection, rollout_id: str) -> list[ToldRow]:
    """Those that are not revoked, by host id."""
    rows = await connection.execute(
        select(agent_rollout_hosts)
        .join(hosts, hosts.c.id == agent_rollout_hosts.c.host_id)
        .where(agent_rollout_hosts.c.rollout_id == rollout_id, hosts.c.revoked_at.is_(None))
        .order_by(agent_rollout_hosts.c.host_id)
    )
    return [ToldRow(row.host_id, row.idc_id, row.wave, row.was_online, Phase(row.phase), row.detail) for row in rows]


async def presence(
    connection: AsyncConnection, host_ids: Collection[str], at: Horizon
) -> dict[str, tuple[bool, datetime | None]]:
    """Of each host whether it is there, and when it was last heard of."""
    online = member_in_state("host", Presence.ONLINE, at)
    rows = await connection.execute(select(hosts.c.id, online.label("online"), hosts.c.last_seen_at))
    return {row.id: (bool(row.online), row.last_seen_at) for row in rows if row.id in host_ids}


async def tell(
    connection: AsyncConnection, rollout_id: str, wave: int, chosen: Sequence[tuple[Candidate, bool]]
) -> None:
    """`chosen`: hosts, each with whether it is there."""
    rows = [
        {
            "rollout_id": rollout_id,
            "host_id": one.host_id,
            "idc_id": one.idc_id,
            "architecture": one.architecture,
            "wave": wave,
            "was_online": online,
            "phase": Phase.PENDING.value,
            "detail": "",
        }
        for one, online in chosen
    ]
    await insert_or_ignore(connection, agent_rollout_hosts, rows)


async def ask_again(connection: AsyncConnection, rollout_id: str, online: Mapping[str, bool]) -> None:
    """Hosts by id, each with whether it is there now: nothing that they said before counts."""
    for host_id, there in sorted(online.items()):
        await connection.execute(
            update(agent_rollout_hosts)
            .where(agent_rollout_hosts.c.rollout_id == rollout_id, agent_rollout_hosts.c.host_id == host_id)
            .values(was_online=there, phase=Phase.PENDING.value, detail="")
        )


async def hosts_of_newer(connection: AsyncConnection, order: int) -> frozenset[str]:
    """Hosts that a newer rollout told."""
    rows = await connection.scalars(
        select(agent_rollout_hosts.c.host_id)
        .join(agent_rollouts, agent_rollouts.c.id == agent_rollout_hosts.c.rollout_id)
        .where(agent_rollouts.c.order_number > order, agent_rollouts.c.state != State.CANCELLED)
    )
    return frozenset(rows)


async def of_hosts(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, Told]:
    """By host: the newest that told it and is not cancelled."""
    rows = await connection.execute(
        select(
            agent_rollouts,
            agent_rollout_hosts.c.architecture,
            agent_rollout_hosts.c.host_id,
            idcs.c.name.label("idc_name"),
        )
        .join(agent_rollout_hosts, agent_rollout_hosts.c.rollout_id == agent_rollouts.c.id)
        .join(hosts, hosts.c.id == agent_rollout_hosts.c.host_id)
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(agent_rollout_hosts.c.host_id.in_(host_ids), agent_rollouts.c.state != State.CANCELLED)
        .order_by(agent_rollouts.c.order_number)
    )
    return {row.host_id: Told(_rollout(row), row.architecture, row.idc_name) for row in rows}


async def phases_of(
    connection: AsyncConnection, host_ids: Collection[str], ids: Collection[str]
) -> dict[str, dict[str, Said]]:
    """By host and rollout."""
    rows = await connection.execute(
        select(agent_rollout_hosts, agent_rollouts.c.order_number)
        .join(agent_rollouts, agent_rollouts.c.id == agent_rollout_hosts.c.rollout_id)
        .where(agent_rollout_hosts.c.host_id.in_(host_ids), agent_rollout_hosts.c.rollout_id.in_(ids))
    )
    found: dict[str, dict[str, Said]] = {host_id: {} for host_id in host_ids}
    for row in rows:
        found[row.host_id][row.rollout_id] = Said(row.order_number, row.phase, row.detail)
    return found


async def put_phases(connection: AsyncConnection, host_id: str, said: Mapping[str, Said]) -> None:
    for rollout_id, one in sorted(said.items()):
        await connection.execute(
            update(agent_rollout_hosts)
            .where(agent_rollout_hosts.c.host_id == host_id, agent_rollout_hosts.c.rollout_id == rollout_id)
            .values(phase=one.phase, detail=one.detail)
        )


async def host_page(connection: AsyncConnection, rollout_id: str, request: PageRequest) -> Page[HostStanding]:
    """By wave, IDC and name."""
    chosen = agent_rollout_hosts.c.rollout_id == rollout_id
    total = await connection.scalar(select(func.count()).select_from(agent_rollout_hosts).where(chosen))
    rows = await connection.execute(
        select(agent_rollout_hosts, hosts.c.name.label("host"), idcs.c.name.label("idc"), hosts.c.version)
        .join(hosts, hosts.c.id == agent_rollout_hosts.c.host_id)
        .join(idcs, idcs.c.id == agent_rollout_hosts.c.idc_id)
        .where(chosen)
        .order_by(agent_rollout_hosts.c.wave, idcs.c.name, hosts.c.name)
        .limit(request.limit)
        .offset(request.offset)
    )
    found = [
        HostStanding(row.host_id, row.host, row.idc, row.wave, Phase(row.phase), row.detail, row.version)
        for row in rows
    ]
    return Page(found, int(total or 0), request)


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    """Never the newest: its number must not be given again."""
    newest = select(func.max(agent_rollouts.c.order_number)).scalar_subquery()
    gone = await connection.scalars(
        delete(agent_rollouts)
        .where(agent_rollouts.c.ended_at < before, agent_rollouts.c.order_number < newest)
        .returning(agent_rollouts.c.id)
    )
    return len(list(gone))


def _row(rollout: Rollout) -> dict[str, Any]:
    targets, pace = rollout.targets, rollout.pace
    return {
        "id": rollout.id,
        "order_number": rollout.order,
        "tenant_id": rollout.tenant_id,
        "tenant": rollout.tenant,
        "reference": rollout.reference,
        "version": rollout.version,
        "images": {name: image_record(image) for name, image in rollout.images.items()},
        "targets": {"idcs": list(targets.idcs), "labels": dict(targets.labels), "hosts": list(targets.hosts)},
        "pace": {
            "canaries": pace.canaries,
            "share": pace.share,
            "bake": pace.bake.total_seconds(),
            "max_failures": pace.max_failures,
            "healthy": pace.healthy.total_seconds(),
            "patience": pace.patience.total_seconds(),
        },
        "created_by": rollout.created_by,
        "created_at": rollout.created_at,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "wave": rollout.wave,
        "settled_at": rollout.settled_at,
        "idc_ids": list(rollout.idc_ids),
        "ended_at": rollout.ended_at,
    }


def _rollout(row: Row[Any]) -> Rollout:
    targets, pace = row.targets, row.pace
    return Rollout(
        id=row.id,
        order=row.order_number,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        reference=row.reference,
        version=row.version,
        images={name: image_of(record) for name, record in row.images.items()},
        targets=Targets(tuple(targets["idcs"]), targets["labels"], hosts=tuple(targets["hosts"])),
        pace=Pace(
            canaries=pace["canaries"],
            share=pace["share"],
            bake=timedelta(seconds=pace["bake"]),
            max_failures=pace["max_failures"],
            healthy=timedelta(seconds=pace["healthy"]),
            patience=timedelta(seconds=pace["patience"]),
        ),
        created_by=row.created_by,
        created_at=row.created_at,
        state=State(row.state),
        reason=row.reason,
        wave=row.wave,
        settled_at=row.settled_at,
        idc_ids=tuple(row.idc_ids),
        ended_at=row.ended_at,
    )
