"""Telling the directory (etcd, where there is one) that this IDC has a regional, and where.

Invariant: a graceful stop leaves `offline` in `info` and takes the heartbeat away; a crash lets both lapse with their
lease of 30 s. A directory that is away hinders nothing: it is told as soon as it is back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from common.discovery import Registration, ServiceRegistry, keys

log = structlog.get_logger()


@asynccontextmanager
async def registered(
    registry: ServiceRegistry,
    idc: str,
    facts: Mapping[str, str | int | None],
    ttl: float = keys.HEARTBEAT_TTL_SECONDS,
) -> AsyncIterator[Registration]:
    """Registered while the context lasts; `facts` are what others may know: version, addresses, and which process it
    is. A lease that was lost is replaced within a third of `ttl` seconds. Gives the registration of `info`.
    """
    info = json.dumps({"idc": idc, "status": "online", **facts}).encode()
    info_key, heartbeat_key = keys.region_info(idc), keys.region_heartbeat(idc)
    async with registry.register(info_key, info, ttl, final_value=keys.OFFLINE) as registration:
        log.info("regional registered", key=info_key, held=registration.held)
        async with registry.register(heartbeat_key, info, ttl):
            log.info("heartbeat started", key=heartbeat_key, lease_seconds=ttl)
            yield registration


async def stay_registered(registry: ServiceRegistry, idc: str, facts: Mapping[str, str | int | None]) -> None:
    """`registered` until cancelled. Raises only what no waiting mends: wrong credentials."""
    async with registered(registry, idc, facts) as registration:
        await registration.displaced.wait()
        log.error(
            "another regional registered for this IDC; what is served goes on",
            idc=idc,
            action="stop one of the two, or give them IDCs of their own",
        )
        await asyncio.Event().wait()
