"""The parts of `/v2/`, wired to each other; the daemon gives what comes from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
from aiohttp import web

from common.backoff import jittered
from common.clock import Clock
from common.lifecycle import Lifecycle
from regional.cache import Cache
from regional.metrics import Metrics
from regional.v2.answers import Answers
from regional.v2.centre import CentreRegistry
from regional.v2.gate import Gate
from regional.v2.links import Links
from regional.v2.manifests import Manifests
from regional.v2.passing import Passing
from regional.v2.rights import CentreRights, PullRights
from regional.v2.routes import RegistryRoutes
from regional.v2.tokens import RegistryVerifier
from regional.v2.trust import Trust

_PRUNE_SECONDS = 3600.0


class EdgeRegistry:
    """`directory`: for what must survive a restart. `keep`: how long the centre's answers count while it is away.
    `own_logins`: clients get their tokens through us. `rights` is closed by whoever made it.
    """

    def __init__(
        self,
        directory: Path,
        cache: Cache,
        http: aiohttp.ClientSession,
        rights: PullRights,
        clock: Clock,
        random: Callable[[], float],
        lifecycle: Lifecycle,
        metrics: Metrics,
        *,
        keep: timedelta = timedelta(hours=72),
        own_logins: bool = False,
    ) -> None:
        self._clock = clock
        self._random = random
        self._lifecycle = lifecycle
        self._answers = Answers(directory / "answers.sqlite", clock, keep)
        verifier = RegistryVerifier(clock)
        centre = CentreRegistry(http, lambda: cache.centre.base_url, clock)
        self._trust = Trust(centre, verifier, directory / "trust.json", clock, random)
        links = Links(rights, self._answers, clock, lifecycle.spawn)
        self._routes = RegistryRoutes(
            Gate(verifier, self._trust, own_logins=own_logins),
            Manifests(centre, self._answers, links),
            links,
            Passing(centre),
            self._answers,
            cache.edge,
            metrics,
        )

    async def start(self) -> None:
        """Take up what earlier processes learned; the centre need not be there."""
        await self._lifecycle.enter(self._opened())
        await self._trust.load()
        self._lifecycle.spawn("registry keys", self._trust.keep_fresh())
        self._lifecycle.spawn("registry answers", self._prune_forever())

    def routes(self) -> list[web.RouteDef]:
        return self._routes.routes()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self._answers.open)
        try:
            yield
        finally:
            await asyncio.to_thread(self._answers.close)

    async def _prune_forever(self) -> None:
        while True:
            await self._clock.sleep(jittered(_PRUNE_SECONDS, 0.2, self._random))
            await asyncio.to_thread(self._answers.prune)


@asynccontextmanager
async def centre_rights(identity_dir: Path, address: Callable[[], Awaitable[str]]) -> AsyncIterator[CentreRights]:
    rights = CentreRights(identity_dir, address)
    try:
        yield rights
    finally:
        await rights.close()
