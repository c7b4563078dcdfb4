"""The registry's `Upstreams`, for repositories that are mirrors; and the registry as the fetching side uses it.

`attach` comes after the registry was made: it is handed to the registry as a hook, and stores through it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, NotFound
from common.lifecycle import Lifecycle
from control_plane.database import Database
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.completeness import Incomplete
from control_plane.registry.failures import BlobUnknown, ManifestInvalid, ManifestUnknown
from control_plane.registry.manifests import parse_manifest
from control_plane.registry.mirroring.directory import MirrorDirectory, Mirrored
from control_plane.registry.mirroring.discovery import Discovery
from control_plane.registry.mirroring.failures import PushToMirror, UpstreamAway
from control_plane.registry.mirroring.fetches import Fetch, Fetches
from control_plane.registry.mirroring.freshness import Freshness
from control_plane.registry.mirroring.metrics import MirrorMetrics
from control_plane.registry.mirroring.model import is_keeper
from control_plane.registry.mirroring.troubles import translated
from control_plane.registry.mirroring.turns import Turns
from control_plane.registry.model import Manifest, Pushed
from control_plane.registry.referrer_store import page_of_referrers
from control_plane.registry.remote.model import RemoteManifest
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Principal

# Who wants to run an image waits for it; in time for any client's patience.
_BRING_SECONDS = 10.0
_BROUGHT_AT_ONCE = 8
# As many, and as large, as are looked at when signatures are verified.
_MOST_EVIDENCE = 64
_LARGEST_EVIDENCE = 1 << 20
log = structlog.get_logger()


class RegistryShelf:
    """Storing as a push would, with everything that takes part in one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._registry: RegistryService | None = None

    def attach(self, registry: RegistryService) -> None:
        self._registry = registry

    @property
    def registry(self) -> RegistryService:
        assert self._registry is not None  # noqa: S101  `app` attaches it before anything runs
        return self._registry

    async def has(self, mirrored: Mirrored, digest: Digest) -> bool:
        try:
            await self.registry.contents.blob_size(mirrored.mirror.keeper, mirrored.repository, digest)
        except NotFound:
            return False
        return True

    async def keep(
        self, by: Principal, repository: str, digest: Digest, chunks: AsyncIterator[bytes], size: int
    ) -> Pushed:
        return await self.registry.uploads.push_whole(by, repository, digest, chunks, size)

    async def tagged(self, repository: str, tag: str) -> Manifest | None:
        async with self._database.reading() as connection:
            return await manifest_store.find_by_tag(connection, repository, tag)

    async def held(self, repository: str, digest: Digest) -> Manifest | None:
        async with self._database.reading() as connection:
            return await manifest_store.find_by_digest(connection, repository, digest)

    async def knows(self, repository: str) -> bool:
        async with self._database.reading() as connection:
            return await repository_store.find_repository(connection, repository) is not None

    async def referring(self, repository: str, subject: Digest, most: int) -> list[Digest]:
        """What refers to it here."""
        async with self._database.reading() as connection:
            found, _ = await page_of_referrers(
                connection, repository, subject, artifact_type=None, after="", limit=most, max_bytes=0
            )
        return [each.digest for each in found]

    async def store(self, mirrored: Mirrored, manifest: RemoteManifest, tag: str | None) -> None:
        """Without its blobs and images, which come when somebody pulls them."""
        await self.registry.images.push(
            mirrored.mirror.keeper,
            mirrored.repository,
            manifest.payload,
            manifest.media_type or None,
            digest=manifest.digest,
            tags=[tag] if tag is not None else [],
            incomplete=Incomplete.ALL,
        )

    async def untag(self, mirrored: Mirrored, tag: str) -> None:
        with contextlib.suppress(ManifestUnknown):
            await self.registry.images.delete_tag(mirrored.mirror.keeper, mirrored.repository, tag)


class PullThrough:
    """Use as an async context manager: leaving it ends what is being fetched."""

    def __init__(
        self,
        directory: MirrorDirectory,
        database: Database,
        clock: Clock,
        spools: Path,
        turns: Turns,
        metrics: MirrorMetrics,
    ) -> None:
        self._directory = directory
        self._lifecycle = Lifecycle(stop_seconds=5)
        self._shelf = RegistryShelf(database)
        self._freshness = Freshness(self._shelf, clock, self._lifecycle, metrics)
        self._discovery = Discovery(self._shelf, self._freshness, clock, self._lifecycle, metrics)
        self._fetches = Fetches(spools, self._shelf, self._lifecycle, turns, metrics)

    def attach(self, registry: RegistryService) -> None:
        self._shelf.attach(registry)

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_error: object) -> None:
        await self._lifecycle.__aexit__(None, None, None)

    async def check_push(self, by: Principal, repository: str) -> None:
        if is_keeper(by):
            return
        mirror = await self._directory.covers(repository)
        if mirror is not None:
            raise PushToMirror(
                f"{repository} belongs to the mirror {mirror.name} of {mirror.upstream}",
                action="push to the upstream, or to a repository outside of the mirror",
                mirror=mirror.name,
            )

    async def refresh_tag(self, repository: str, tag: str) -> None:
        mirrored = await self._directory.find(repository)
        if mirrored is not None:
            await self._freshness.tag(mirrored, tag)

    async def fetch_manifest(self, repository: str, digest: Digest) -> bool:
        mirrored = await self._directory.find(repository)
        return mirrored is not None and await self._freshness.manifest(mirrored, digest)

    async def tag_names(self, repository: str) -> Sequence[str]:
        mirrored = await self._directory.find(repository)
        if mirrored is None:
            return ()
        try:
            return await self._discovery.tags(mirrored)
        except Failure as failure:
            if not await self._shelf.knows(repository):
                raise
            log.warning("only tags that are here are listed", repository=repository, failure=str(failure))
            return ()

    async def bring_referrers(self, repository: str, subject: Digest) -> None:
        mirrored = await self._directory.find(repository)
        if mirrored is None:
            return
        try:
            await self._discovery.referrers(mirrored, subject)
        except Failure as failure:
            if not await self._shelf.referring(repository, subject, 1):
                raise
            log.warning("only referrers that are here are listed", repository=repository, failure=str(failure))

    async def bring_evidence(self, repository: str, image: Digest) -> bool:
        mirrored = await self._directory.find(repository)
        if mirrored is None:
            return False
        await self._discovery.referrers(mirrored, image)
        tag = f"{image.algorithm}-{image.hex}.sig"
        await self._freshness.tag(mirrored, tag)
        tagged = await self._shelf.tagged(repository, tag)
        attached = [] if tagged is None else [tagged.payload]
        for digest in await self._shelf.referring(repository, image, _MOST_EVIDENCE):
            found = await self._shelf.held(repository, digest)
            attached += [] if found is None else [found.payload]
        await self.bring(repository, _evidence_in(attached))
        return True

    async def blob_size(self, repository: str, digest: Digest) -> int | None:
        mirrored = await self._asked(repository, digest)
        if mirrored is None:
            return None
        try:
            size = await mirrored.client.blob_size(mirrored.there, digest)
        except Failure as error:
            raise self._failed(mirrored, error) from error
        if size is None:
            self._freshness.note_absent(mirrored, digest)
        return size

    async def bring(self, repository: str, digests: Sequence[Digest]) -> None:
        mirrored = await self._directory.find(repository)
        if mirrored is None:
            return
        turns = asyncio.Semaphore(_BROUGHT_AT_ONCE)

        async def one(digest: Digest) -> None:
            async with turns, self.blob(repository, digest) as fetch:
                if fetch is not None:
                    await fetch.complete()

        try:
            async with asyncio.timeout(_BRING_SECONDS), asyncio.TaskGroup() as group:
                for digest in digests:
                    group.create_task(one(digest))
        except TimeoutError:
            raise UpstreamAway(
                f"{repository} is being fetched from {mirrored.mirror.upstream}",
                action="try again in a moment",
                retry_after_seconds=5,
            ) from None
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    @contextlib.asynccontextmanager
    async def blob(self, repository: str, digest: Digest) -> AsyncIterator[Fetch | None]:
        mirrored = await self._asked(repository, digest)
        if mirrored is None:
            yield None
            return
        joining = self._fetches.join(mirrored, digest)
        async with contextlib.AsyncExitStack() as stack:
            try:
                fetch = await stack.enter_async_context(joining)
            except BlobUnknown:
                self._freshness.note_absent(mirrored, digest)
                fetch = None
            except Failure as error:
                self._freshness.note_failure(mirrored, error)
                raise
            yield fetch

    async def _asked(self, repository: str, digest: Digest) -> Mirrored | None:
        mirrored = await self._directory.find(repository)
        if mirrored is None or self._freshness.is_absent(mirrored, digest):
            return None
        self._freshness.check_pause(mirrored)
        return mirrored

    def _failed(self, mirrored: Mirrored, error: Failure) -> Failure:
        failure = translated(error, mirrored)
        self._freshness.note_failure(mirrored, failure)
        return failure


def _evidence_in(payloads: Sequence[bytes]) -> list[Digest]:
    """The blobs of these manifests that are small enough to be signatures."""
    found: dict[Digest, None] = {}
    for payload in payloads:
        with contextlib.suppress(ManifestInvalid):
            blobs = parse_manifest(payload, None).blobs
            found |= {each.digest: None for each in blobs if 0 < each.size <= _LARGEST_EVIDENCE}
    return list(found)[:_MOST_EVIDENCE]
