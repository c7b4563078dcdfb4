"""Generations of desired state: counted in the rows of hosts and IDCs, inside the unit of work that changes what they
should do. Queries about the fleet itself are in `store_*.py`, by subject.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.locks import hold_rows
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.fleet.tables import hosts, idcs

_AT_ONCE = 5_000


async def bump_assignments(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, int]:
    """Count a change of what each host should run, each once; their new generations in the order of their ids. Raises
    `HostUnknown` if one of them does not exist.

    The rows stay locked until the caller's unit of work ends, so two changes of one host are never in one generation.
    """
    wanted = sorted(set(host_ids))
    counted: dict[str, int] = {}
    if len(wanted) > 1:
        # An UPDATE of many takes its rows in whatever order; held in the order of ids, nobody waits in a circle.
        await hold_rows(connection, hosts, [(host_id,) for host_id in wanted])
    for start in range(0, len(wanted), _AT_ONCE):
        rows = await connection.execute(
            update(hosts)
            .where(hosts.c.id.in_(wanted[start : start + _AT_ONCE]))
            .values(assignments_generation=hosts.c.assignments_generation + 1)
            .returning(hosts.c.id, hosts.c.assignments_generation)
        )
        counted.update((row.id, row.assignments_generation) for row in rows)
    missing = set(wanted) - counted.keys()
    if missing:
        raise HostUnknown(f"there is no host {min(missing)}", action="see `longshore host list`")
    return {host_id: counted[host_id] for host_id in wanted}


async def bump_orders(connection: AsyncConnection, idc_id: str) -> int:
    """Count a change of what the IDC should hold; returns its new generation. Raises `IdcUnknown`."""
    generation = await connection.scalar(
        update(idcs)
        .where(idcs.c.id == idc_id)
        .values(orders_generation=idcs.c.orders_generation + 1)
        .returning(idcs.c.orders_generation)
    )
    if generation is None:
        raise IdcUnknown(f"there is no IDC {idc_id}", action="see `longshore idc list`")
    return int(generation)
