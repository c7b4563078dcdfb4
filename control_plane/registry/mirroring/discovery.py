"""What an upstream lists: the tags of a repository, and what refers to a manifest.

Tags that nobody pulled yet are in the list all the same, as they are in that of every registry that reads through:
whoever looks for newer versions asks the mirror and not its upstream. Referrers are fetched as manifests when their
subject is asked for, so that signatures are found, listed in pages and verified like pushed ones; their blobs come when
somebody reads them.

A list is asked for again when it is old (the mirror's `tag_ttl_seconds`, but not more often than every ten seconds, for
clients walk long lists page by page), once for all who wait. What was listed before is served while upstream is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure
from common.lifecycle import Lifecycle
from control_plane.registry.failures import ManifestInvalid
from control_plane.registry.mirroring.directory import Mirrored
from control_plane.registry.mirroring.flights import SingleFlight
from control_plane.registry.mirroring.freshness import Freshness, ManifestShelf
from control_plane.registry.mirroring.memory import Expiring
from control_plane.registry.mirroring.metrics import MirrorMetrics
from control_plane.registry.mirroring.troubles import translated
from control_plane.registry.recent import Recent
from control_plane.registry.remote.failures import RemoteMissing, RemoteUntrue

MOST_TAGS = 200_000  # of one repository; Docker Hub's longest lists have some ten thousand
MOST_REFERRERS = 500
_REMEMBERED_TAGS = 1_000_000  # of all repositories, some 100 MB
_REMEMBERED_SUBJECTS = 100_000
_STALE_SECONDS = 86_400.0
_LEAST_SECONDS = 10.0
_FLIGHT_SECONDS = 120.0
_WAIT_SECONDS = 20.0
_AT_ONCE = 8
log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Listed:
    names: tuple[str, ...]
    fresh_until: float


class Discovery:
    def __init__(
        self,
        shelf: ManifestShelf,
        freshness: Freshness,
        clock: Clock,
        lifecycle: Lifecycle,
        metrics: MirrorMetrics,
    ) -> None:
        self._shelf = shelf
        self._metrics = metrics
        self._freshness = freshness
        self._clock = clock
        self._listed: Recent[str, _Listed] = Recent(clock, _REMEMBERED_TAGS, _STALE_SECONDS)
        self._asked: Expiring[tuple[str, str], bool] = Expiring(clock, _REMEMBERED_SUBJECTS)
        self._listing: SingleFlight[str, tuple[str, ...]] = SingleFlight(lifecycle, _FLIGHT_SECONDS)
        self._bringing: SingleFlight[tuple[str, str], None] = SingleFlight(lifecycle, _FLIGHT_SECONDS)

    async def tags(self, mirrored: Mirrored) -> tuple[str, ...]:
        """In byte order; none if upstream has no such repository. Raises the upstream's failure, in the words of the
        mirror, if nothing was listed before.
        """
        known = self._listed.get(mirrored.repository)
        if known is not None and self._clock.monotonic() < known.fresh_until:
            return known.names
        try:
            return await self._waited(mirrored, self._listing.run(mirrored.repository, lambda: self._list(mirrored)))
        except Failure as failure:
            if known is None:
                raise
            log.warning("stale list of tags served", repository=mirrored.repository, failure=str(failure))
            return known.names

    async def referrers(self, mirrored: Mirrored, subject: Digest) -> None:
        """Afterwards the manifests of what refers to it are here. Raises the upstream's failure."""
        key = (mirrored.repository, str(subject))
        if self._asked.get(key) is None:
            await self._waited(mirrored, self._bringing.run(key, lambda: self._bring(mirrored, subject)))

    async def _waited(self, mirrored: Mirrored, flight: Awaitable[T]) -> T:
        """No longer than clients are patient; the work goes on, and who asks again finds it done."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await flight
        except TimeoutError as error:
            raise translated(error, mirrored) from error

    async def _list(self, mirrored: Mirrored) -> tuple[str, ...]:
        begun, seconds = self._listed.begin(), max(_LEAST_SECONDS, mirrored.mirror.tag_ttl_seconds)
        names: set[str] = set()
        try:
            self._freshness.check_pause(mirrored)
            async for name in mirrored.client.tags(mirrored.there):
                names.add(name)
                if len(names) > MOST_TAGS:
                    raise RemoteUntrue(f"{mirrored.there} has more than {MOST_TAGS} tags", action="list them upstream")
        except RemoteMissing:
            names.clear()
        except (Failure, TimeoutError) as error:
            self._metrics.count("tags", "failed")
            raise self._noted(mirrored, error) from error
        self._metrics.count("tags", "fetched" if names else "absent")
        found = tuple(sorted(names))
        listed = _Listed(found, self._clock.monotonic() + seconds)
        self._listed.keep(mirrored.repository, listed, begun, max(1, len(found)))
        return found

    async def _bring(self, mirrored: Mirrored, subject: Digest) -> None:
        try:
            self._freshness.check_pause(mirrored)
            found = await mirrored.client.referrers(mirrored.there, subject)
            if len(found) > MOST_REFERRERS:
                log.warning("not all referrers are fetched", repository=mirrored.repository, upstream=len(found))
            turns = asyncio.Semaphore(_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for descriptor in found[:MOST_REFERRERS]:
                    group.create_task(self._bring_one(turns, mirrored, descriptor.digest))
        except BaseExceptionGroup as failures:
            first = failures.exceptions[0]
            raise self._noted(mirrored, first) if isinstance(first, Exception) else first from None
        except (Failure, TimeoutError) as error:
            raise self._noted(mirrored, error) from error
        self._metrics.count("referrers", "fetched" if found else "absent")
        seconds = max(_LEAST_SECONDS, mirrored.mirror.tag_ttl_seconds)
        self._asked.keep((mirrored.repository, str(subject)), True, seconds)

    async def _bring_one(self, turns: asyncio.Semaphore, mirrored: Mirrored, digest: Digest) -> None:
        async with turns:
            if await self._shelf.held(mirrored.repository, digest) is not None:
                return
            try:
                await self._shelf.store(mirrored, await mirrored.client.manifest(mirrored.there, digest), None)
            except (RemoteMissing, RemoteUntrue, ManifestInvalid) as failure:
                # One that is no manifest must not hide the others.
                log.warning(
                    "a referrer is left out", repository=mirrored.repository, digest=str(digest), failure=str(failure)
                )

    def _noted(self, mirrored: Mirrored, error: Exception) -> Failure:
        failure = translated(error, mirrored)
        self._freshness.note_failure(mirrored, failure)
        return failure
