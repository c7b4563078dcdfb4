"""Queries for people: of a preheat's contents, what regionals and hosts hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.tables import hosts, idcs, regionals
from control_plane.instances.model import InstanceImage, Phase
from control_plane.preheats.model import HostProgress, IdcProgress, Preheat
from control_plane.preheats.tables import preheat_hosts
from control_plane.swarm.tables import host_contents, regional_contents
from control_plane.web.paging import Page, PageRequest


@dataclass
class _Sums:
    hosts: int = 0
    hosts_held: int = 0
    held_bytes: int = 0


async def host_progress(connection: AsyncConnection, preheat: Preheat, request: PageRequest) -> Page[HostProgress]:
    chosen = preheat_hosts.c.preheat_id == preheat.id
    total = await connection.scalar(select(func.count()).select_from(preheat_hosts).where(chosen))
    rows = await connection.execute(
        select(preheat_hosts, hosts.c.name.label("host"), idcs.c.name.label("idc"))
        .join(hosts, hosts.c.id == preheat_hosts.c.host_id)
        .join(idcs, idcs.c.id == preheat_hosts.c.idc_id)
        .where(chosen)
        .order_by(idcs.c.name, hosts.c.name)
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page(await _with_holdings(connection, preheat, rows.all()), int(total or 0), request)


async def idc_progress(connection: AsyncConnection, preheat: Preheat) -> list[IdcProgress]:
    rows = await connection.execute(
        select(preheat_hosts, hosts.c.name.label("host"), idcs.c.name.label("idc"))
        .join(hosts, hosts.c.id == preheat_hosts.c.host_id)
        .join(idcs, idcs.c.id == preheat_hosts.c.idc_id)
        .where(preheat_hosts.c.preheat_id == preheat.id)
    )
    sums: dict[str, _Sums] = {}
    for one in await _with_holdings(connection, preheat, rows.all()):
        of_idc = sums.setdefault(one.idc, _Sums())
        of_idc.hosts += 1
        of_idc.hosts_held += one.held
        of_idc.held_bytes += one.held_bytes
    contents = preheat.contents()
    total = sum(content.size_bytes for content in contents)
    names = await connection.execute(select(idcs.c.id, idcs.c.name).where(idcs.c.id.in_(preheat.idc_ids)))
    at_regionals = await _at_regionals(connection, preheat)
    return [
        IdcProgress(row.name, total, *at_regionals.get(row.id, (0, 0)), **vars(sums.get(row.name, _Sums())))
        for row in sorted(names, key=lambda row: str(row.name))
    ]


async def _at_regionals(connection: AsyncConnection, preheat: Preheat) -> dict[str, tuple[int, int]]:
    """By IDC: what its best regional holds, and what crossed the WAN for it."""
    rows = await connection.execute(
        select(
            regionals.c.idc_id,
            regional_contents.c.regional_id,
            func.sum(regional_contents.c.held_bytes).label("held"),
            func.sum(regional_contents.c.from_centre_bytes).label("crossed"),
        )
        .join(regionals, regionals.c.id == regional_contents.c.regional_id)
        .where(
            regional_contents.c.tenant_id == preheat.tenant_id,
            regional_contents.c.digest.in_(_digests(preheat)),
            regionals.c.idc_id.in_(preheat.idc_ids),
        )
        .group_by(regionals.c.idc_id, regional_contents.c.regional_id)
    )
    best: dict[str, tuple[int, int]] = {}
    for row in rows:
        held, crossed = best.get(row.idc_id, (0, 0))
        best[row.idc_id] = max(held, int(row.held)), crossed + int(row.crossed)
    return best


async def _with_holdings(connection: AsyncConnection, preheat: Preheat, rows: Sequence[Row[Any]]) -> list[HostProgress]:
    by_architecture: dict[str, list[str]] = {}
    for row in rows:
        by_architecture.setdefault(row.architecture, []).append(row.host_id)
    held: dict[str, Any] = {}
    for architecture in by_architecture:
        image = preheat.images.get(architecture)
        if image is not None:
            held |= await _held(connection, preheat, image, architecture)
    found = []
    for row in rows:
        image = preheat.images.get(row.architecture)
        contents = image.all_contents() if image is not None else ()
        found.append(_progress(row, held.get(row.host_id), [content.size_bytes for content in contents]))
    return found


async def _held(
    connection: AsyncConnection, preheat: Preheat, image: InstanceImage, architecture: str
) -> dict[str, Any]:
    verified = func.sum(case((host_contents.c.verified, 1), else_=0))
    rows = await connection.execute(
        select(
            host_contents.c.host_id,
            func.sum(host_contents.c.held_bytes).label("held"),
            verified.label("verified"),
            func.sum(host_contents.c.from_centre_bytes).label("centre"),
            func.sum(host_contents.c.from_regional_bytes).label("regional"),
            func.sum(host_contents.c.from_peers_bytes).label("peers"),
        )
        .join(
            preheat_hosts,
            and_(
                preheat_hosts.c.host_id == host_contents.c.host_id,
                preheat_hosts.c.preheat_id == preheat.id,
                preheat_hosts.c.architecture == architecture,
            ),
        )
        .where(
            host_contents.c.tenant_id == preheat.tenant_id,
            host_contents.c.digest.in_([str(content.digest) for content in image.all_contents()]),
        )
        .group_by(host_contents.c.host_id)
    )
    return {row.host_id: row for row in rows}


def _progress(row: Row[Any], held: Any | None, sizes: Sequence[int]) -> HostProgress:
    return HostProgress(
        host_id=row.host_id,
        host=row.host,
        idc=row.idc,
        phase=Phase(row.phase),
        detail=row.detail,
        total_bytes=sum(sizes),
        held_bytes=int(held.held) if held else 0,
        from_centre_bytes=int(held.centre) if held else 0,
        from_regional_bytes=int(held.regional) if held else 0,
        from_peers_bytes=int(held.peers) if held else 0,
        held=held is not None and int(held.verified) == len(sizes),
    )


def _digests(preheat: Preheat) -> list[str]:
    return [str(content.digest) for content in preheat.contents()]
