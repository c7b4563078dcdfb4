"""Queries about hosts and regionals: who they are, and who is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, exists, func, insert, not_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.tls import IdentityKind
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.model import Host, Member, Regional, State
from control_plane.fleet.tables import hosts, idcs, regionals

_MOST_PARAMETERS = 10_000
TABLES = {"host": hosts, "regional": regionals}
KINDS: tuple[IdentityKind, ...] = ("host", "regional")
_COMMON = (
    "id",
    "name",
    "idc_id",
    "version",
    "created_at",
    "revoked_at",
    "last_seen_at",
    "session_id",
    "session_replica",
    "conflict_at",
    "image_tokens",
)
_OWN = {
    "host": ("facts", "labels", "assignments_generation"),
    "regional": ("addresses", "content_url", "swarm_url", "peer_address", "warnings"),
}


@dataclass(frozen=True, slots=True)
class Session:
    """A stream that ended or goes on."""

    kind: IdentityKind
    identity_id: str
    session_id: str


async def insert_member(
    connection: AsyncConnection,
    kind: IdentityKind,
    identity_id: str,
    idc_id: str,
    name: str,
    now: datetime,
    reported: Mapping[str, Any],
) -> None:
    values = {"id": identity_id, "idc_id": idc_id, "name": name, "created_at": now, **reported}
    await connection.execute(insert(TABLES[kind]).values(values))


async def find_member(
    connection: AsyncConnection, kind: IdentityKind, identity_id: str, *, locked: bool = False
) -> Member | None:
    """A host or a regional by id, revoked ones too."""
    question = _members(kind).where(TABLES[kind].c.id == identity_id)
    if locked:
        question = question.with_for_update(of=TABLES[kind])
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else _member(kind, row)


async def find_members(connection: AsyncConnection, kind: IdentityKind, ids: Collection[str]) -> list[Member]:
    """Those of them that there are, revoked ones too."""
    if not ids:
        return []
    rows = await connection.execute(_members(kind).where(TABLES[kind].c.id.in_(ids)))
    return [_member(kind, row) for row in rows]


async def find_by_name(connection: AsyncConnection, kind: IdentityKind, idc: str, name: str) -> Member | None:
    question = _members(kind).where(idcs.c.name == idc, TABLES[kind].c.name == name)
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else _member(kind, row)


async def hosts_by_id(connection: AsyncConnection, host_ids: Collection[str] | None = None) -> list[Host]:
    """Those hosts, or all, in the order of their ids, revoked ones too."""
    wanted = true() if host_ids is None else hosts.c.id.in_(host_ids)
    rows = await connection.execute(_members("host").where(wanted).order_by(hosts.c.id))
    return [member for row in rows if isinstance(member := _member("host", row), Host)]


async def list_members(
    connection: AsyncConnection,
    kind: IdentityKind,
    *,
    idc: str | None,
    state: State | None,
    at: Horizon,
    offset: int,
    limit: int,
) -> tuple[Sequence[Member], int]:
    """By IDC and name. Revoked ones only if they are asked for."""
    table = TABLES[kind]
    wanted = and_(
        true() if idc is None else idcs.c.name == idc,
        table.c.revoked_at.is_(None) if state is None else in_state(kind, state, at),
    )
    total = await connection.scalar(
        select(func.count()).select_from(table.join(idcs, idcs.c.id == table.c.idc_id)).where(wanted)
    )
    rows = await connection.execute(
        _members(kind).where(wanted).order_by(idcs.c.name, table.c.name).offset(offset).limit(limit)
    )
    return [_member(kind, row) for row in rows], int(total or 0)


def in_state(kind: IdentityKind, state: State, at: Horizon) -> ColumnElement[bool]:
    """`liveness.state_of`, as a condition."""
    table = TABLES[kind]
    revoked = table.c.revoked_at.is_not(None)
    conflict = and_(table.c.conflict_at.is_not(None), table.c.conflict_at > at.conflict_after)
    seen = true() if at.seen_after is None else table.c.last_seen_at > at.seen_after
    online = and_(table.c.session_id.is_not(None), table.c.last_seen_at.is_not(None), seen)
    return {
        State.REVOKED: revoked,
        State.CONFLICT: and_(not_(revoked), conflict),
        State.ONLINE: and_(not_(revoked), not_(conflict), online),
        State.OFFLINE: and_(not_(revoked), not_(conflict), not_(online)),
    }[state]


async def endpoints(connection: AsyncConnection, idc_id: str | None = None) -> Sequence[Regional]:
    """Regionals, of one IDC or of all, that ever said where they can be reached and are not revoked; by name."""
    question = _members("regional").where(
        regionals.c.revoked_at.is_(None),
        regionals.c.content_url != "",
        true() if idc_id is None else regionals.c.idc_id == idc_id,
    )
    rows = await connection.execute(question.order_by(regionals.c.name))
    return [member for row in rows if isinstance(member := _member("regional", row), Regional)]


async def change(connection: AsyncConnection, kind: IdentityKind, identity_id: str, **values: Any) -> None:
    table = TABLES[kind]
    await connection.execute(update(table).where(table.c.id == identity_id).values(**values))


async def change_each(
    connection: AsyncConnection, kind: IdentityKind, changes: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """What is new of each, by id; a statement for all in whom the same columns change, in the order given."""
    table = TABLES[kind]
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for identity_id, values in changes:
        row = {f"new_{name}": value for name, value in values.items()}
        alike.setdefault(tuple(sorted(values)), []).append({"identity_id": identity_id, **row})
    for names, rows in alike.items():
        values = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
        await connection.execute(update(table).where(table.c.id == bindparam("identity_id")).values(values), rows)


async def detach(connection: AsyncConnection, ended: Sequence[Session], now: datetime) -> None:
    """These streams are over; a row that a newer session took meanwhile is left alone."""
    for kind, table in TABLES.items():
        session_ids = [session.session_id for session in ended if session.kind == kind]
        if session_ids:
            await connection.execute(
                update(table).where(table.c.session_id.in_(session_ids)).values(session_id=None, last_seen_at=now)
            )


async def touch(connection: AsyncConnection, seen: Sequence[Session], now: datetime) -> None:
    """These streams were heard of: one statement a kind for up to 10,000 of them (databases bound parameters)."""
    for kind, table in TABLES.items():
        session_ids = [session.session_id for session in seen if session.kind == kind]
        for start in range(0, len(session_ids), _MOST_PARAMETERS):
            some = session_ids[start : start + _MOST_PARAMETERS]
            await connection.execute(update(table).where(table.c.session_id.in_(some)).values(last_seen_at=now))


async def assignments_generations(connection: AsyncConnection, replica_id: str) -> dict[str, int]:
    """Of the hosts that are attached to this replica and not revoked."""
    rows = await connection.execute(
        select(hosts.c.id, hosts.c.assignments_generation).where(
            hosts.c.session_replica == replica_id, hosts.c.session_id.is_not(None), hosts.c.revoked_at.is_(None)
        )
    )
    return {row.id: row.assignments_generation for row in rows}


_REFUSING = exists().where(
    regionals.c.idc_id == hosts.c.idc_id, regionals.c.revoked_at.is_(None), regionals.c.image_tokens.is_not(true())
)
# Made once: it is asked with everything that hosts are told, and building it takes a tenth of a millisecond.
_TAKING_IMAGE_TOKENS = select(hosts.c.id).where(
    hosts.c.id.in_(bindparam("host_ids", expanding=True)), hosts.c.image_tokens.is_(true()), not_(_REFUSING)
)


async def taking_image_tokens(connection: AsyncConnection, host_ids: Collection[str]) -> set[str]:
    """Those of the hosts that take one token for all contents of an image, where every regional of their IDC does."""
    return set(await connection.scalars(_TAKING_IMAGE_TOKENS, {"host_ids": list(host_ids)}))


async def ids_of_hosts(connection: AsyncConnection, idc_ids: Collection[str]) -> set[str]:
    """Of all hosts of those IDCs that are not revoked."""
    rows = await connection.execute(select(hosts.c.id).where(hosts.c.idc_id.in_(idc_ids), hosts.c.revoked_at.is_(None)))
    return {row.id for row in rows}


async def orders_generations(connection: AsyncConnection, replica_id: str) -> dict[str, int]:
    """Of the IDCs of the regionals that are attached to this replica and not revoked, by regional."""
    rows = await connection.execute(
        select(regionals.c.id, idcs.c.orders_generation)
        .join(idcs, idcs.c.id == regionals.c.idc_id)
        .where(
            regionals.c.session_replica == replica_id,
            regionals.c.session_id.is_not(None),
            regionals.c.revoked_at.is_(None),
        )
    )
    return {row.id: row.orders_generation for row in rows}


def _members(kind: IdentityKind) -> Select[Any]:
    table = TABLES[kind]
    return select(table, idcs.c.name.label("idc_name")).join(idcs, idcs.c.id == table.c.idc_id)


def _member(kind: IdentityKind, row: Row[Any]) -> Host | Regional:
    fields = row._mapping
    values = {name: fields[name] for name in (*_COMMON, *_OWN[kind])}
    maker = Host if kind == "host" else Regional
    return maker(kind=kind, idc=fields["idc_name"], **values)
