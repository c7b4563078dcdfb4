"""Manifests and tags of mirrors: brought when they are missing, tags asked for upstream when they are old.

A tag that is here is served whatever upstream does, unless upstream itself says that it is gone. How old it may get is
the mirror's `tag_ttl_seconds`; when it was checked is remembered by each process, so that a start checks once more.
After a failure the upstream is left alone for a while (as long as it asks for, at most five minutes), and what is here
is served without waiting for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure
from common.lifecycle import Lifecycle
from control_plane.registry.mirroring.directory import Mirrored
from control_plane.registry.mirroring.failures import UpstreamAway, UpstreamDenies
from control_plane.registry.mirroring.flights import SingleFlight
from control_plane.registry.mirroring.memory import Expiring
from control_plane.registry.mirroring.metrics import MirrorMetrics
from control_plane.registry.mirroring.troubles import is_about_upstream, translated
from control_plane.registry.model import Manifest
from control_plane.registry.remote.failures import RemoteMissing
from control_plane.registry.remote.model import RemoteManifest

_REMEMBERED = 100_000
_ABSENT_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 300.0
_FLIGHT_SECONDS = 120.0
log = structlog.get_logger()
_Key = tuple[str, str]


class ManifestShelf(Protocol):
    """The registry, as this module uses it."""

    async def tagged(self, repository: str, tag: str) -> Manifest | None: ...

    async def held(self, repository: str, digest: Digest) -> Manifest | None: ...

    async def store(self, mirrored: Mirrored, manifest: RemoteManifest, tag: str | None) -> None: ...

    async def untag(self, mirrored: Mirrored, tag: str) -> None: ...


class Freshness:
    def __init__(self, shelf: ManifestShelf, clock: Clock, lifecycle: Lifecycle, metrics: MirrorMetrics) -> None:
        self._shelf = shelf
        self._metrics = metrics
        self._checked: Expiring[_Key, bool] = Expiring(clock, _REMEMBERED)
        self._absent: Expiring[_Key, bool] = Expiring(clock, _REMEMBERED)
        self._paused: Expiring[tuple[str, int], Failure] = Expiring(clock, _REMEMBERED)
        self._flights: SingleFlight[_Key, bool] = SingleFlight(lifecycle, _FLIGHT_SECONDS)

    async def tag(self, mirrored: Mirrored, tag: str) -> None:
        """Raises an upstream's failure only if there is nothing to serve instead."""
        key = (mirrored.repository, tag)
        if self._checked.get(key) is None and self._absent.get(key) is None:
            await self._flown(mirrored, key, lambda: self._refresh(mirrored, tag))

    async def manifest(self, mirrored: Mirrored, digest: Digest) -> bool:
        """Whether it is here now."""
        key = (mirrored.repository, str(digest))
        if self._absent.get(key) is not None:
            return False
        return await self._flown(mirrored, key, lambda: self._fetch(mirrored, digest))

    async def _flown(self, mirrored: Mirrored, key: _Key, work: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await self._flights.run(key, work)
        except TimeoutError as error:
            raise translated(error, mirrored) from error

    def is_absent(self, mirrored: Mirrored, digest: Digest) -> bool:
        return self._absent.get((mirrored.repository, str(digest))) is not None

    def note_absent(self, mirrored: Mirrored, reference: str | Digest) -> None:
        self._absent.keep((mirrored.repository, str(reference)), True, _ABSENT_SECONDS)

    def check_pause(self, mirrored: Mirrored) -> None:
        """Raises what the upstream failed with a moment ago."""
        key = (mirrored.mirror.mirror_id, mirrored.mirror.revision)
        failure = self._paused.get(key)
        if failure is not None:
            if isinstance(failure, UpstreamAway | UpstreamDenies):
                failure.retry_after_seconds = max(1.0, self._paused.seconds_left(key))
            raise failure

    def note_failure(self, mirrored: Mirrored, failure: Failure) -> None:
        if isinstance(failure, UpstreamAway | UpstreamDenies):
            pause = min(failure.retry_after_seconds, _LONGEST_PAUSE_SECONDS)
            self._paused.keep((mirrored.mirror.mirror_id, mirrored.mirror.revision), failure, pause)

    async def _refresh(self, mirrored: Mirrored, tag: str) -> bool:
        key = (mirrored.repository, tag)
        here = await self._shelf.tagged(mirrored.repository, tag)
        try:
            self.check_pause(mirrored)
            await self._bring(mirrored, tag, here)
        except RemoteMissing:
            self._metrics.count("tag", "absent")
            self.note_absent(mirrored, tag)
            if here is not None:
                await self._untag(mirrored, tag)
            return False
        except (Failure, TimeoutError) as error:
            failure = translated(error, mirrored)
            self.note_failure(mirrored, failure)
            self._metrics.count("tag", "failed" if here is None else "stale")
            if here is None:
                raise failure from error
            # Whatever it is, an old image is better than none; also when a rule of ours keeps the tag where it is.
            log.warning("stale tag served", repository=mirrored.repository, tag=tag, failure=str(failure))
            if is_about_upstream(failure):
                return True
        self._checked.keep(key, True, mirrored.mirror.tag_ttl_seconds)
        return True

    async def _untag(self, mirrored: Mirrored, tag: str) -> None:
        try:
            await self._shelf.untag(mirrored, tag)
        except Failure as failure:
            log.warning("tag is gone upstream", repository=mirrored.repository, tag=tag, kept_because=str(failure))
        else:
            log.info("tag is gone upstream", repository=mirrored.repository, tag=tag)

    async def _bring(self, mirrored: Mirrored, tag: str, here: Manifest | None) -> None:
        digest = None
        if here is not None:
            # HEAD costs no pull of Docker Hub's limit, and no body.
            digest = await mirrored.client.manifest_digest(mirrored.there, tag)
            if digest == here.digest:
                self._metrics.count("tag", "unchanged")
                return
        known = await self._shelf.held(mirrored.repository, digest) if digest is not None else None
        if known is not None:
            found = RemoteManifest(known.digest, known.media_type, known.payload)
        else:
            found = await mirrored.client.manifest(mirrored.there, digest or tag)
        if here is None or found.digest != here.digest:
            await self._shelf.store(mirrored, found, tag)
        self._metrics.count("tag", "fetched")

    async def _fetch(self, mirrored: Mirrored, digest: Digest) -> bool:
        try:
            self.check_pause(mirrored)
            await self._shelf.store(mirrored, await mirrored.client.manifest(mirrored.there, digest), None)
        except RemoteMissing:
            self._metrics.count("manifest", "absent")
            self.note_absent(mirrored, digest)
            return False
        except (Failure, TimeoutError) as error:
            failure = translated(error, mirrored)
            self.note_failure(mirrored, failure)
            self._metrics.count("manifest", "failed")
            raise failure from error
        self._metrics.count("manifest", "fetched")
        return True
