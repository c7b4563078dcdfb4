"""Taking what is due, deciding it, carrying it out: one batch, one transaction.

A batch that is killed, refused or cancelled changes nothing, except that bytes of condemned blobs may be gone already;
their rows are still there, nobody links them, and the next batch deletes them once more.

This relies on the store: a call of it that is cancelled has ended when the cancellation arrives (threads are waited
for). Otherwise a late deletion could meet a push that came after the rows were let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

import structlog

from common.digest import Digest
from common.errors import Failure, Unavailable
from common.identifiers import new_id
from control_plane.blobs import BlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.registry.collection import review_store, run_store, trash_store
from control_plane.registry.collection.collaborators import Wishes
from control_plane.registry.collection.model import (
    BlobFacts,
    BlobReview,
    Decision,
    LinkFacts,
    LinkReview,
    Pace,
    Removal,
    Tally,
    Verdict,
)
from control_plane.registry.collection.rules import judge_blob, judge_link, retry_at
from control_plane.registry.model import Repository
from control_plane.registry.participants import Hooks

_WANTED_AGAIN = timedelta(hours=1)
_PURGE_BATCH = 200
log = structlog.get_logger()


class Reviewer:
    """`hooks`: of the registry; everybody hears of the links that end here."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        hooks: Hooks,
        wishes: Wishes,
        pace: Pace,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._hooks = hooks
        self._wishes = wishes
        self._pace = pace
        self._chance = chance

    async def everything_due(self, run_id: str) -> AsyncIterator[Tally]:
        """Each batch is committed when it is yielded. What cannot be held now, or fails, is left for a later pass.
        Raises `Unavailable` if the database is away.
        """
        while (purged := await self.purge(run_id)) != Tally():
            yield purged
        tried: list[str] = []
        while repositories := await self._repositories_due(tried):
            for repository_id in repositories:
                tried.append(repository_id)
                async for tally in self._links_of(run_id, repository_id):
                    yield tally
        last: BlobReview | None = None
        while due := await self._blobs_due(last):
            last = due[-1]
            yield await self.review_blobs(run_id, [review.digest for review in due])

    async def _repositories_due(self, without: Sequence[str]) -> list[str]:
        async with self._database.reading() as connection:
            return await review_store.repositories_due(connection, self._database.clock.now(), without)

    async def _blobs_due(self, after: BlobReview | None) -> list[BlobReview]:
        async with self._database.reading() as connection:
            now = self._database.clock.now()
            return await review_store.due_blobs(connection, now, self._pace.blob_batch, after)

    async def _links_of(self, run_id: str, repository_id: str) -> AsyncIterator[Tally]:
        try:
            while (tally := await self.review_links(run_id, repository_id)).examined:
                yield tally
        except Unavailable as failure:
            log.info("links are reviewed later", repository_id=repository_id, reason=str(failure))
        except Failure as failure:
            # Somebody who takes part refuses. The others' links must not wait for that.
            log.warning("links cannot be collected", repository_id=repository_id, error=str(failure))
            yield await self._put_off(run_id, repository_id)

    async def purge(self, run_id: str) -> Tally:
        """Empty the trash of what has been in it for its grace. What a machine is told to hold stays."""
        async with self._transaction() as unit:
            now = unit.clock.now()
            due = await trash_store.hold_due(unit.connection, now, _PURGE_BATCH)
            wanted = await self._wishes.wanted([digest for _, digest in due])
            over = [key for key in due if key[1] not in wanted]
            await trash_store.postpone(unit.connection, [key for key in due if key[1] in wanted], now + _WANTED_AGAIN)
            await trash_store.forget_manifests(unit.connection, over)
            names = await trash_store.purge_tags(unit.connection, now, _PURGE_BATCH)
            if not due and not names:
                return Tally()
            tally = Tally(examined=len(due) + names, purged=len(over))
            await run_store.add(unit.connection, run_id, tally)
        return tally

    async def review_links(self, run_id: str, repository_id: str) -> Tally:
        """One batch of a repository's links that are due. Raises what a participant refuses with, and `Unavailable`
        if the repository is busy.
        """
        async with self._transaction() as unit:
            repository = await review_store.hold_repository(unit.connection, repository_id)
            if repository is None:
                return Tally()
            now = unit.clock.now()
            due = await review_store.due_links(unit.connection, repository_id, now, self._pace.link_batch)
            if not due:
                return Tally()
            facts = await review_store.link_facts(unit.connection, repository_id, [each.digest for each in due])
            tally = await self._settle_links(unit, repository, due, facts)
            await run_store.add(unit.connection, run_id, tally)
        return tally

    async def _settle_links(
        self, unit: UnitOfWork, repository: Repository, due: Sequence[LinkReview], facts: dict[Digest, LinkFacts]
    ) -> Tally:
        now, connection = unit.clock.now(), unit.connection
        decisions = {each.digest: judge_link(facts[each.digest], self._pace, now) for each in due}
        for until, digests in _postponed(decisions).items():
            await review_store.postpone_links(connection, repository.repository_id, digests, until)
        over = _judged(decisions, Verdict.UNLINK)
        await review_store.drop_link_reviews(
            connection, repository.repository_id, [*over, *_judged(decisions, Verdict.DROP)]
        )
        if over:
            await review_store.unlink(connection, repository.repository_id, over)
        # Sorted: two replicas that give charges back in another order would wait for each other.
        for digest in sorted(over, key=str):
            for participant in self._hooks.participants:
                await participant.blob_unlinked(unit, repository, digest, facts[digest].size or 0)
        return Tally(examined=len(due), unlinked=len(over))

    async def _put_off(self, run_id: str, repository_id: str) -> Tally:
        async with self._transaction() as unit:
            now = unit.clock.now()
            due = await review_store.due_links(unit.connection, repository_id, now, self._pace.link_batch)
            until = retry_at(now, 5, self._chance())
            await review_store.postpone_links(unit.connection, repository_id, [each.digest for each in due], until)
            tally = Tally(failures=len(due))
            await run_store.add(unit.connection, run_id, tally)
        return tally

    async def review_blobs(self, run_id: str, digests: Sequence[Digest]) -> Tally:
        """Those of the blobs that are due and that nobody holds. Deletes bytes while it holds the rows."""
        async with self._transaction() as unit:
            now, connection = unit.clock.now(), unit.connection
            reviews, facts = await review_store.hold_blobs(connection, digests, now)
            wanted = await self._wishes.wanted([each.digest for each in reviews])
            decisions = {
                each.digest: judge_blob(facts[each.digest], self._pace, now, wanted=each.digest in wanted)
                for each in reviews
            }
            await review_store.condemn(connection, _judged(decisions, Verdict.CONDEMN), now)
            for until, waiting in _postponed(decisions).items():
                await review_store.postpone_blobs(connection, waiting, until)
            await review_store.drop_blob_reviews(connection, _judged(decisions, Verdict.DROP))
            doomed = [each for each in reviews if decisions[each.digest].verdict is Verdict.DELETE]
            tally = Tally(examined=len(reviews)) + await self._delete(unit, run_id, doomed, facts)
            await run_store.add(connection, run_id, tally)
        return tally

    async def _delete(
        self, unit: UnitOfWork, run_id: str, doomed: Sequence[BlobReview], facts: dict[Digest, BlobFacts]
    ) -> Tally:
        left = await self._delete_bytes([each.digest for each in doomed])
        now = unit.clock.now()
        for each in doomed:
            if each.digest in left:
                until = retry_at(now, each.attempts + 1, self._chance())
                await review_store.postpone_blobs(unit.connection, [each.digest], until, left[each.digest])
        gone = [each for each in doomed if each.digest not in left]
        removals = [Removal(each.digest, facts[each.digest].size or 0, each.reason, now, run_id) for each in gone]
        await run_store.record_removals(unit.connection, [(new_id(unit.clock), removal) for removal in removals])
        await review_store.bury(unit.connection, [each.digest for each in gone])
        return Tally(
            deleted=len(gone), deleted_bytes=sum(removal.size for removal in removals), failures=len(doomed) - len(gone)
        )

    async def _delete_bytes(self, digests: Sequence[Digest]) -> dict[Digest, str]:
        """Those that are perhaps still stored, each with the reason."""
        left = dict.fromkeys(digests, f"the store did not answer within {self._pace.delete_seconds:g} s")
        waiting = iter(digests)

        async def work() -> None:
            for digest in waiting:
                try:
                    await self._blobs.delete(digest)
                    del left[digest]
                except Failure as failure:
                    left[digest] = str(failure)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.delete_seconds), asyncio.TaskGroup() as group:
                for _ in range(min(self._pace.parallel, len(digests))):
                    group.create_task(work())
        if left:
            log.warning("blobs cannot be deleted", count=len(left), error=next(iter(left.values())))
        return left

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[UnitOfWork]:
        async with self._database.transaction() as unit:
            await review_store.wait_briefly(unit.connection)
            yield unit


def _judged(decisions: dict[Digest, Decision], verdict: Verdict) -> list[Digest]:
    return sorted(digest for digest, decision in decisions.items() if decision.verdict is verdict)


def _postponed(decisions: dict[Digest, Decision]) -> dict[datetime, list[Digest]]:
    """What is looked at again, by the moment."""
    found: dict[datetime, list[Digest]] = {}
    for digest, decision in decisions.items():
        if decision.until is not None:
            found.setdefault(decision.until, []).append(digest)
    return found
