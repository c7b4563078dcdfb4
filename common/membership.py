"""How a service of the edge becomes a member: its identity, and the one place where it waits for the control plane.

One that has an identity starts without the control plane. One that has none waits for it, with backoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog

from common.backoff import Backoff
from common.clock import Clock
from common.enrolment import enrol
from common.errors import Conflict, RateLimited, Unauthenticated, Unavailable
from common.tls import Identity, IdentityKind

log = structlog.get_logger()


class NotEnrolled(Unauthenticated):
    code = "not_enrolled"


class IdentityForeign(Conflict):
    """The identity in the data directory is not of the applicant's kind or IDC."""

    code = "identity_foreign"


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who wants to be a member of the control plane at `server`. `join_token` is asked only where there is no identity;
    `addresses`: those that others will dial; `idc`: the only one it may be of, if it says so itself.
    """

    kind: IdentityKind
    name: str
    server: str
    identity_dir: Path
    join_token: Callable[[], str | None]
    version: str
    addresses: tuple[str, ...] = ()
    idc: str | None = None

    def __str__(self) -> str:
        return f"a {self.kind}" if self.idc is None else f"a {self.kind} of {self.idc}"


async def identity_of(
    applicant: Applicant, http: aiohttp.ClientSession, clock: Clock, random: Callable[[], float]
) -> Identity:
    """The one in the data directory, or a new one for the join token. Raises `NotEnrolled`, `IdentityForeign`, and what
    `common.enrolment.enrol` raises, except that an unreachable control plane is waited for.
    """
    identity = await asyncio.to_thread(Identity.load, applicant.identity_dir)
    if identity is None:
        identity = await _enrolled(applicant, http, clock, random)
    if identity.name.kind != applicant.kind or applicant.idc not in (None, identity.name.idc):
        raise IdentityForeign(
            f"the identity in {applicant.identity_dir} is {identity.name.uri()}, not {applicant}",
            action=f"name another directory with --data, or remove it and enrol with a join token for {applicant}",
        )
    return identity


async def _enrolled(
    applicant: Applicant, http: aiohttp.ClientSession, clock: Clock, random: Callable[[], float]
) -> Identity:
    token = await asyncio.to_thread(applicant.join_token)
    if not token:
        raise NotEnrolled(
            f"there is no identity in {applicant.identity_dir}",
            action=f"make a join token for {applicant} and give it with --join-token or --join-token-file",
        )
    backoff = Backoff(random, initial_seconds=0.5, cap_seconds=30.0)
    while True:
        try:
            return await enrol(
                applicant.server,
                token,
                kind=applicant.kind,
                name=applicant.name,
                identity_dir=applicant.identity_dir,
                http=http,
                addresses=applicant.addresses,
                version=applicant.version,
            )
        except (Unavailable, RateLimited) as failure:
            delay = max(backoff.next_delay(), min(failure.retry_after_seconds, 30.0) * random())
            log.warning("not enrolled yet", error=str(failure), retry_in_seconds=round(delay, 2))
            await clock.sleep(delay)
