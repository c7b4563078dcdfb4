"""Looking at the trail: searching, exporting, and proving that nobody altered it.

Every answer is bounded: pages by number, an export by pages within, a verification by stretches that the caller joins
(each goes on from the hash where the one before it ended).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from common.errors import NotFound
from control_plane.audit import store
from control_plane.audit.chain import GENESIS, follow, line_of
from control_plane.audit.model import Anchor, Link, Sealed, Search, Sight, Verdict
from control_plane.audit.seals import Seals
from control_plane.database import Database

MAX_PAGE = 1000
MAX_STRETCH = 100_000
_BATCH = 1000


class EntryUnknown(NotFound):
    code = "audit_entry_unknown"


class AuditReading:
    def __init__(self, database: Database, seals: Seals) -> None:
        self._database = database
        self._seals = seals

    async def page(self, sight: Sight, search: Search, before: int | None, limit: int) -> list[Sealed]:
        """The newest first, below the number `before`."""
        async with self._database.reading() as connection:
            return await store.newest(connection, sight, search, before, min(limit, MAX_PAGE))

    async def entry(self, sight: Sight, sequence: int) -> Sealed:
        """Raises `EntryUnknown`, also for what one may not see."""
        async with self._database.reading() as connection:
            found = await store.oldest(connection, sight, Search(), sequence - 1, 1, sequence)
        if not found:
            raise EntryUnknown(f"there is no audit entry {sequence}", action="list the entries; old ones are pruned")
        return found[0]

    async def export(self, sight: Sight, search: Search, after: int, through: int | None) -> AsyncIterator[bytes]:
        """JSON lines in the order of the chain, about a thousand at a time: no transaction lasts for a slow reader."""
        while True:
            async with self._database.reading() as connection:
                found = await store.oldest(connection, sight, search, after, _BATCH, through)
            if not found:
                return
            yield b"".join(map(line_of, found))
            after = found[-1].sequence

    async def head(self) -> Link:
        async with self._database.reading() as connection:
            return await store.find_head(connection)

    async def anchors(self, limit: int) -> list[Anchor]:
        """The newest first."""
        async with self._database.reading() as connection:
            return await store.last_anchors(connection, limit)

    async def verify(self, after: Link | None = None, limit: int = MAX_STRETCH) -> Verdict:
        """Follow the chain from `after` (None: from where it begins) over at most `limit` entries; at its end, compare
        with the head and with the anchors.
        """
        begun = after
        if begun is None:
            begun, wrong = await self._beginning()
            if wrong:
                return Verdict(0, None, begun, begun.sequence, wrong)
        verdict, checked = Verdict(0, begun, begun), 0
        while verdict.whole and verdict.at is not None and checked < limit:
            verdict, ended = await self._follow(verdict.at, min(_BATCH, limit - checked))
            checked += verdict.checked
            if ended:
                break
        return replace(verdict, checked=checked)

    async def _beginning(self) -> tuple[Link, str]:
        """Where the chain begins, and what is wrong with that."""
        async with self._database.reading() as connection:
            checkpoint = await store.last_checkpoint(connection)
        if checkpoint is None:
            return GENESIS, ""
        return checkpoint.link, "" if self._seals.opens_checkpoint(checkpoint) else "the checkpoint is not genuine"

    async def _follow(self, at: Link, limit: int) -> tuple[Verdict, bool]:
        async with self._database.reading() as connection:
            found = await store.stretch(connection, at.sequence, limit)
            anchors = await store.list_anchors(connection, at.sequence, MAX_STRETCH)
            head = await store.find_head(connection)
        reach = found[-1].sequence if found else at.sequence
        within = [anchor for anchor in anchors if anchor.link.sequence <= reach]
        forged = next((anchor for anchor in within if not self._seals.opens_anchor(anchor)), None)
        if forged is not None:
            return Verdict(0, None, at, forged.link.sequence, "the anchor is not genuine"), True
        known: Mapping[int, str] = {anchor.link.sequence: anchor.link.hash for anchor in within}
        verdict = follow(at, found, known)
        if not verdict.whole or len(found) == limit:
            return verdict, not verdict.whole
        return _ended(verdict, head, anchors[len(within) :]), True


def _ended(verdict: Verdict, head: Link, beyond: list[Anchor]) -> Verdict:
    """The entries have come to an end: was it always there? What is dropped from the end shows in what points to it."""
    last = verdict.last
    if beyond:
        missing = f"entries up to {beyond[-1].link.sequence} were there once, says an anchor"
        return replace(verdict, at=None, broken=last.sequence + 1, why=missing)
    if head.sequence > last.sequence:
        why = f"entries up to {head.sequence} were there once, says the head"
        return replace(verdict, at=None, broken=last.sequence + 1, why=why)
    if head != last:
        return replace(verdict, at=None, broken=last.sequence, why="the head does not belong to the last entry")
    return replace(verdict, at=None)
