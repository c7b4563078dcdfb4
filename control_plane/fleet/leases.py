"""What the directory (etcd) knows of who lives, told to the sessions of this replica.

Invariant: a lease is never evidence against a stream that speaks; it only shortens the patience with a silent one.
"""

from __future__ import annotations

import contextlib

from common.discovery import Change, ServiceRegistry, keys
from control_plane.fleet.sessions import Place, Sessions


async def follow_leases(registry: ServiceRegistry, sessions: Sessions) -> None:
    """For the whole life of the process, where a directory is configured."""
    async with contextlib.aclosing(registry.watch("/os/")) as changes:
        async for change in changes:
            place = place_of_key(change)
            if place is not None:
                sessions.lease_changed(place, lapsed=is_lapsed(change))


def place_of_key(change: Change) -> Place | None:
    """Whose life the key stands for; None for keys that stand for nobody's."""
    match keys.parse(change.key):
        case keys.HostKey(idc, host):
            return ("host", idc, host)
        case keys.RegionKey(idc, "heartbeat"):
            return ("regional", idc, "")
        case _:
            return None


def is_lapsed(change: Change) -> bool:
    return change.value is None or change.value == keys.OFFLINE
