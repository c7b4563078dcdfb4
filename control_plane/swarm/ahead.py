"""Describing what was pushed before anybody needs it: the first spread of a version then waits for no hashing, which
takes 4.5 s for 1 GiB beside other work.

Only for tenants that spread contents already: on a registry without hosts nothing is hashed twice. Nothing of it is in
the push: the relay hands every batch of messages here after they committed (`database.relay.Tap`). What is missed is
described when it is first needed, as ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from common.clock import Clock
from common.digest import Digest
from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.jobs.service import JobService
from control_plane.registry.messages import ImagePushed
from control_plane.swarm import describe, metainfo_store, store

_REMEMBERED = 10_000
_REMEMBERED_SECONDS = 30.0


class PushedImages(Protocol):
    """`registry.RegistryService`."""

    async def large_contents(self, repository: str, manifest: Digest, smallest_bytes: int) -> list[Digest]:
        """Blobs of the image that the repository holds and that are no smaller."""
        ...


class DescribeAhead:
    """A tap of the relay. Raises `Unavailable`; then the batch comes again."""

    def __init__(
        self, database: Database, clock: Clock, images: PushedImages, jobs: JobService, smallest_bytes: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._images = images
        self._jobs = jobs
        self._smallest_bytes = smallest_bytes
        self._spreading: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    async def __call__(self, announcements: Sequence[Announcement]) -> None:
        pushed = {
            (str(each.payload["tenant_id"]), str(each.payload["repository"]), str(each.payload["digest"])): None
            for each in announcements
            if each.topic == ImagePushed.topic
        }
        for tenant_id, repository, digest in pushed:
            if await self._spreads(tenant_id):
                await self._enqueue(tenant_id, repository, Digest.parse(digest))

    async def _spreads(self, tenant_id: str) -> bool:
        """Remembered for half a minute: a push of an image that is not spread costs no query."""
        now = self._clock.monotonic()
        known, until = self._spreading.get(tenant_id, (False, now))
        if now < until:
            return known
        async with self._database.reading() as connection:
            found = await store.spreads(connection, tenant_id)
        self._spreading[tenant_id] = found, now + _REMEMBERED_SECONDS
        self._spreading.move_to_end(tenant_id)
        if len(self._spreading) > _REMEMBERED:
            self._spreading.popitem(last=False)
        return found

    async def _enqueue(self, tenant_id: str, repository: str, manifest: Digest) -> None:
        large = await self._images.large_contents(repository, manifest, self._smallest_bytes)
        if not large:
            return
        async with self._database.transaction() as unit:
            for digest in sorted(set(large) - await metainfo_store.described(unit.connection, tenant_id, large)):
                await self._jobs.enqueue(
                    unit,
                    describe.JOB_KIND,
                    describe.job_payload(tenant_id, digest),
                    unique_key=describe.job_key(tenant_id, digest),
                )
