"""What hosts' reports tell of spreads: that one begins, and that it is done. In the transaction of the reports, and
nothing is written for the many reports between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_plane.database import UnitOfWork
from control_plane.swarm.model import HostContent
from control_plane.swarm.spreads import store

Known = Mapping[tuple[str, str], HostContent]  # by tenant and digest


async def observed(
    unit: UnitOfWork, host_id: str, known: Known, said: Sequence[HostContent], smallest_bytes: int
) -> None:
    """`smallest_bytes`: smaller contents are no spread. `known`: what was said before."""
    large = [one for one in said if one.size_bytes >= smallest_bytes]
    begun = [one for one in large if _begins(known.get((one.tenant_id, str(one.digest))), one)]
    done = [one for one in large if one.verified and one not in begun and not _verified(known, one)]
    now = unit.clock.now()
    if begun:
        await store.begin(unit.connection, host_id, begun, now)
    if done:
        await store.end(unit.connection, host_id, done, now)


def _begins(before: HostContent | None, now: HostContent) -> bool:
    if before is None:
        return True
    return before.verified and not now.verified  # it was evicted and comes again


def _verified(known: Known, one: HostContent) -> bool:
    before = known.get((one.tenant_id, str(one.digest)))
    return before is not None and before.verified
