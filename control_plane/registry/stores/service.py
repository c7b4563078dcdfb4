"""The stores as routes and commands use them. Only for the platform's administrators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from common.clock import Clock
from common.digest import Digest
from common.errors import Invalid
from control_plane.blobs.store_set.members import Members
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.registry.access import unknown_repository
from control_plane.registry.repository_store import find_repository
from control_plane.registry.stores.copies import store as copies
from control_plane.registry.stores.copies.model import CopyState
from control_plane.registry.stores.model import ScrubOverview, StoreOverview, Tallied
from control_plane.registry.stores.placement import store as placements
from control_plane.registry.stores.placement.planner import PlacementPolicy
from control_plane.registry.stores.placement.service import PlacementService
from control_plane.registry.stores.scrubbing import store as scrubs
from control_plane.registry.stores.scrubbing.store import LostBlob
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest

SCRUB_KIND = "registry.scrub"
SCRUB_SOME_KIND = "registry.scrub_some"


class NothingNamed(Invalid):
    code = "scrub_names_nothing"


class StoreService:
    def __init__(
        self,
        database: Database,
        members: Members,
        placement: PlacementService,
        policy: PlacementPolicy,
        jobs: JobService,
        every: timedelta,
        clock: Clock,
    ) -> None:
        self._database = database
        self._members = members
        self._placement = placement
        self._policy = policy
        self._jobs = jobs
        self._every = every
        self._clock = clock

    async def overview(self, principal: Principal) -> Sequence[StoreOverview]:
        """Asks each store whether it is there."""
        principal.require(Permission.PLATFORM_MANAGE)
        pictures = {each.name: each for each in await self._placement.pictures()}
        async with self._database.reading() as connection:
            counted = await copies.counts(connection)

        def tallied(name: str, state: CopyState) -> Tallied:
            return Tallied(*counted.get((name, state), (0, 0)))

        return [
            StoreOverview(
                name=member.name,
                tier=member.tier,
                location=member.location,
                reach=pictures[member.name].reach,
                free_bytes=pictures[member.name].free_bytes,
                present=tallied(member.name, CopyState.PRESENT),
                damaged=tallied(member.name, CopyState.DAMAGED),
                missing=tallied(member.name, CopyState.MISSING),
            )
            for member in self._members.all
        ]

    async def scrub_overview(self, principal: Principal) -> ScrubOverview:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            total, due, oldest = await scrubs.progress(connection, self._clock.now() - self._every)
            counted = await copies.counts(connection)
            _, lost = await scrubs.lost(connection, 0, 1)
            short = await placements.short_of_copies(connection)

        def in_state(wanted: CopyState) -> int:
            return sum(count for (_, state), (count, _) in counted.items() if state == wanted)

        return ScrubOverview(
            every_days=self._every / timedelta(days=1),
            copies=total,
            due=due,
            oldest=oldest,
            damaged=in_state(CopyState.DAMAGED),
            missing=in_state(CopyState.MISSING),
            lost=lost,
            short=short,
            wanted_copies=self._policy.copies,
            wanted_public_copies=self._policy.public_copies,
            possible_copies=len(self._members.all),
        )

    async def lost(self, principal: Principal, page: PageRequest) -> Page[LostBlob]:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            found, total = await scrubs.lost(connection, page.offset, page.limit)
        return Page(found, total, page)

    async def scrub(self, principal: Principal, digest: Digest | None, repository: str | None) -> str:
        """The id of the job that reads the copies of one blob, of a repository's blobs, or (neither) what is due.

        Raises `NothingNamed` if both are given, `RepositoryUnknown`.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        if digest is not None and repository is not None:
            raise NothingNamed("a blob and a repository were named", action="name one of them")
        async with self._database.transaction() as unit:
            if digest is not None:
                payload = {"digest": str(digest)}
            elif repository is not None:
                if await find_repository(unit.connection, repository) is None:
                    raise unknown_repository(repository)
                payload = {"repository": repository}
            else:
                return await self._jobs.enqueue(unit, SCRUB_KIND, {}, unique_key=SCRUB_KIND)
            key = next(iter(payload.values()))
            return await self._jobs.enqueue(unit, SCRUB_SOME_KIND, payload, unique_key=key)
