"""How this regional becomes and stays a member: its identity, and the one place where it waits for the centre.

A regional that has an identity starts without the centre. One that has none waits for it, with backoff; everything that
needs no identity (files, health) is served meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import structlog

from common.backoff import Backoff
from common.clock import Clock
from common.enrolment import enrol
from common.errors import Conflict, RateLimited, Unauthenticated, Unavailable
from common.tls import Identity
from regional.settings import RegionalSettings

log = structlog.get_logger()


class NotEnrolled(Unauthenticated):
    code = "not_enrolled"


class IdcForeign(Conflict):
    """The identity in the data directory, or the join token, is of another IDC than `--idc` says."""

    code = "idc_foreign"


async def identity_of(
    settings: RegionalSettings,
    server: str,
    http: aiohttp.ClientSession,
    clock: Clock,
    random: Callable[[], float],
    version: str,
) -> Identity:
    """The one in the data directory, or a new one for the join token. Raises `NotEnrolled`, `IdcForeign`, and what
    `common.enrolment.enrol` raises, except that an unreachable centre is waited for.
    """
    identity = await asyncio.to_thread(Identity.load, settings.identity_dir)
    if identity is None:
        identity = await _enrolled(settings, server, http, clock, random, version)
    if identity.name.kind != "regional" or identity.name.idc != settings.idc:
        raise IdcForeign(
            f"the identity in {settings.identity_dir} is {identity.name.uri()}, not a regional of {settings.idc}",
            action="start with the IDC it was made for, or remove it and enrol again with a new join token",
        )
    return identity


async def _enrolled(
    settings: RegionalSettings,
    server: str,
    http: aiohttp.ClientSession,
    clock: Clock,
    random: Callable[[], float],
    version: str,
) -> Identity:
    token = await asyncio.to_thread(settings.read_join_token)
    if not token:
        raise NotEnrolled(
            f"there is no identity in {settings.identity_dir}",
            action="make a join token for this IDC and give it with --join-token or --join-token-file",
        )
    backoff = Backoff(random, initial_seconds=0.5, cap_seconds=30.0)
    while True:
        try:
            return await enrol(
                server,
                token,
                kind="regional",
                name=settings.name or f"regional-{settings.idc}",
                identity_dir=settings.identity_dir,
                http=http,
                addresses=(settings.server_ip,),
                version=version,
            )
        except (Unavailable, RateLimited) as failure:
            delay = max(backoff.next_delay(), min(failure.retry_after_seconds, 30.0) * random())
            log.warning("not enrolled yet", error=str(failure), retry_in_seconds=round(delay, 2))
            await clock.sleep(delay)
