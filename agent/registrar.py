"""Telling the directory (etcd, where there is one) that this host lives, under a lease.

Invariant: the key is there while the agent runs and goes with it: at once after a graceful stop, with its lease of 30 s
after a crash. A directory that is away hinders nothing: it is told as soon as it is back. A host is known there by its
id, which no other can have; its name is in the value.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import structlog

from common.discovery import ServiceRegistry, keys
from common.errors import Failure
from common.tls import Name

log = structlog.get_logger()


async def stay_registered(registry: ServiceRegistry, host: Name, facts: Mapping[str, str | int]) -> None:
    """Until cancelled. Wrong credentials are logged and end it: no waiting mends them, and the agent works without."""
    key = keys.host(host.idc, host.id)
    value = json.dumps({"host_id": host.id, "idc": host.idc, "status": "online", **facts}).encode()
    try:
        async with registry.register(key, value, keys.HEARTBEAT_TTL_SECONDS) as registration:
            log.info("host registered", key=key, held=registration.held, lease_seconds=keys.HEARTBEAT_TTL_SECONDS)
            await registration.displaced.wait()
            log.error("another process registered this host", key=key, action="stop one of the two")
            await asyncio.Event().wait()
    except Failure as failure:
        log.error("host not registered", key=key, error=str(failure))
