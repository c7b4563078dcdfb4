"""How this host becomes a member: its identity, and the one place where the agent waits for the control plane.

An agent that has an identity starts without the control plane, from its journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import structlog

from agent.settings import AgentSettings
from common.backoff import Backoff
from common.clock import Clock
from common.enrolment import enrol
from common.errors import Conflict, RateLimited, Unauthenticated, Unavailable
from common.tls import Identity

log = structlog.get_logger()


class NotEnrolled(Unauthenticated):
    code = "not_enrolled"


class IdentityForeign(Conflict):
    """The identity in the data directory is not a host's."""

    code = "identity_foreign"


async def identity_of(
    settings: AgentSettings, http: aiohttp.ClientSession, clock: Clock, random: Callable[[], float], version: str
) -> Identity:
    """The one in the data directory, or a new one for the join token. Raises `NotEnrolled`, `IdentityForeign`, and what
    `common.enrolment.enrol` raises, except that an unreachable control plane is waited for.
    """
    identity = await asyncio.to_thread(Identity.load, settings.identity_dir)
    if identity is None:
        identity = await _enrolled(settings, http, clock, random, version)
    if identity.name.kind != "host":
        raise IdentityForeign(
            f"the identity in {settings.identity_dir} is {identity.name.uri()}, not a host's",
            action="name another directory with --data, or remove it and enrol with a join token for a host",
        )
    return identity


async def _enrolled(
    settings: AgentSettings, http: aiohttp.ClientSession, clock: Clock, random: Callable[[], float], version: str
) -> Identity:
    token = await asyncio.to_thread(settings.read_join_token)
    if not token:
        raise NotEnrolled(
            f"there is no identity in {settings.identity_dir}",
            action="make a join token for a host and give it with --join-token or --join-token-file",
        )
    backoff = Backoff(random, initial_seconds=0.5, cap_seconds=30.0)
    while True:
        try:
            return await enrol(
                settings.server,
                token,
                kind="host",
                name=settings.name,
                identity_dir=settings.identity_dir,
                http=http,
                version=version,
            )
        except (Unavailable, RateLimited) as failure:
            delay = max(backoff.next_delay(), min(failure.retry_after_seconds, 30.0) * random())
            log.warning("not enrolled yet", error=str(failure), retry_in_seconds=round(delay, 2))
            await clock.sleep(delay)
