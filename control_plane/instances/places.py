"""Queries over the fleet's hosts, as far as instances care: where one may run, and what the place is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, false, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.tables import hosts, idcs
from control_plane.instances.model import Place

# What facts of other origin call it, in GOARCH words.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "": "amd64"}


async def named(connection: AsyncConnection, names: Collection[str]) -> list[Place]:
    """Hosts by id or `idc/name`, in the order of ids; those that do not exist are absent."""
    conditions = [_is(name) for name in names]
    return await _places(connection, or_(false(), *conditions))


async def of_idc(connection: AsyncConnection, idc: str) -> list[Place]:
    return await _places(connection, idcs.c.name == idc)


async def everywhere(connection: AsyncConnection) -> list[Place]:
    return await _places(connection, true())


async def idc_exists(connection: AsyncConnection, idc: str) -> bool:
    return await connection.scalar(select(idcs.c.id).where(idcs.c.name == idc)) is not None


async def idc_names(connection: AsyncConnection) -> list[str]:
    return list(await connection.scalars(select(idcs.c.name).order_by(idcs.c.name)))


async def of_ids(connection: AsyncConnection, host_ids: Sequence[str]) -> dict[str, Place]:
    found = await _places(connection, hosts.c.id.in_(host_ids))
    return {place.host_id: place for place in found}


def _is(name: str) -> ColumnElement[bool]:
    idc, separator, host = name.partition("/")
    return and_(idcs.c.name == idc, hosts.c.name == host) if separator else hosts.c.id == name


async def _places(connection: AsyncConnection, condition: ColumnElement[bool]) -> list[Place]:
    rows = await connection.execute(
        select(
            hosts.c.id,
            hosts.c.name,
            hosts.c.idc_id,
            hosts.c.revoked_at,
            hosts.c.facts["architecture"].as_string().label("architecture"),
            idcs.c.name.label("idc_name"),
        )
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(condition)
        .order_by(hosts.c.id)
    )
    return [_place(row) for row in rows]


def architecture_of(facts: Mapping[str, Any] | None) -> str:
    """In GOARCH words."""
    return _in_goarch_words(str((facts or {}).get("architecture", "")))


def _in_goarch_words(said: str) -> str:
    return _ARCHITECTURES.get(said, said)


def _place(row: Row[*tuple[Any, ...]]) -> Place:
    return Place(
        host_id=row.id,
        host=row.name,
        idc_id=row.idc_id,
        idc=row.idc_name,
        architecture=_in_goarch_words(row.architecture or ""),
        revoked=row.revoked_at is not None,
    )
