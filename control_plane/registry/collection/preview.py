"""What a pass would do, and why, without doing it: the same rules over the same facts, in read-only transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

from control_plane.database import Database
from control_plane.registry.collection import review_store, trash_store
from control_plane.registry.collection.collaborators import Wishes
from control_plane.registry.collection.model import BlobReview, Candidate, Decision, LinkReview, Pace, Preview, Verdict
from control_plane.registry.collection.rules import judge_blob, judge_link

_PAGE = 500
_GOES = frozenset({Verdict.UNLINK, Verdict.CONDEMN, Verdict.DELETE})


class Previewer:
    def __init__(self, database: Database, pace: Pace, wishes: Wishes) -> None:
        self._database = database
        self._pace = pace
        self._wishes = wishes

    async def preview(self, at: datetime, limit: int) -> Preview:
        """Totals over everything that is due then; at most `limit` candidates are named. What falls due by the pass
        itself (a blob whose last link ends in it) is not part of it: that is condemned first, and seen by a later one.
        """
        async with self._database.reading() as connection:
            found = Preview(at, purges=await trash_store.count_due(connection, at))
        async for candidate, decision in self._links(at):
            found = _with(found, candidate, decision, limit)
        async for candidate, decision in self._blobs(at):
            found = _with(found, candidate, decision, limit)
        return found

    async def _links(self, at: datetime) -> AsyncIterator[tuple[Candidate, Decision]]:
        seen: list[str] = []
        while True:
            async with self._database.reading() as connection:
                due = await review_store.repositories_due(connection, at, seen)
                names = await trash_store.repository_names(connection, due)
            if not due:
                return
            for repository_id in due:
                seen.append(repository_id)
                async for each in self._links_of(repository_id, names.get(repository_id, ""), at):
                    yield each

    async def _links_of(self, repository_id: str, name: str, at: datetime) -> AsyncIterator[tuple[Candidate, Decision]]:
        last: LinkReview | None = None
        while True:
            async with self._database.reading() as connection:
                due = await review_store.due_links(connection, repository_id, at, _PAGE, last)
                facts = await review_store.link_facts(connection, repository_id, [each.digest for each in due])
            if not due:
                return
            last = due[-1]
            for review in due:
                known = facts[review.digest]
                if known.trashed_until is not None and known.trashed_until <= at:
                    known = replace(known, trashed_until=None)  # purged by then
                decision = judge_link(known, self._pace, at)
                size = known.size or 0
                yield (
                    Candidate(decision.verdict.value, name, review.digest, size, review.reason, review.review_after),
                    decision,
                )

    async def _blobs(self, at: datetime) -> AsyncIterator[tuple[Candidate, Decision]]:
        last: BlobReview | None = None
        while True:
            async with self._database.reading() as connection:
                due = await review_store.due_blobs(connection, at, _PAGE, last)
                facts = await review_store.blob_facts(connection, [each.digest for each in due])
                wanted = await self._wishes.wanted([each.digest for each in due])
            if not due:
                return
            last = due[-1]
            for review in due:
                known = facts.get(review.digest, review_store.GONE)
                decision = judge_blob(known, self._pace, at, wanted=review.digest in wanted)
                yield (
                    Candidate(
                        decision.verdict.value, "", review.digest, known.size or 0, review.reason, review.review_after
                    ),
                    decision,
                )


def _with(found: Preview, candidate: Candidate, decision: Decision, limit: int) -> Preview:
    verdict = decision.verdict
    if verdict not in _GOES:
        return replace(found, kept=found.kept + 1)
    if len(found.candidates) < limit:
        found = replace(found, candidates=(*found.candidates, candidate))
    if verdict is Verdict.UNLINK:
        return replace(found, links=found.links + 1, links_bytes=found.links_bytes + candidate.size)
    if verdict is Verdict.CONDEMN:
        return replace(found, condemned=found.condemned + 1)
    return replace(found, blobs=found.blobs + 1, blobs_bytes=found.blobs_bytes + candidate.size)
