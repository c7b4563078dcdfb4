"""Comparing the store with the rows, slowly and page by page: bytes that nobody recorded, records without bytes.

The first are what a push leaves that died between publishing and linking. They get a condemned row (`blob_lives.adopt`)
and a review after the grace. The second are only reported: healing is the scrub's.
"""

from __future__ import annotations

from common.digest import Digest
from control_plane.blobs import BlobStore, StoredBlob
from control_plane.database import Database
from control_plane.registry import blob_lives
from control_plane.registry.collection import review_store, run_store
from control_plane.registry.collection.model import Pace, Reason, Tally

# After every digest: hexadecimal digits and names of algorithms are ASCII.
_END = "~"


class Sweeper:
    def __init__(self, database: Database, blobs: BlobStore, pace: Pace, page: int = 1000) -> None:
        self._database = database
        self._blobs = blobs
        self._pace = pace
        self._page = page

    async def page(self, run_id: str, after: str) -> tuple[Tally, str]:
        """The next page after the digest `after`; what it did, and where the next one begins, empty at the end.

        Raises `StorageFailed`, `Unavailable`; nothing is lost then, the page is done again.
        """
        stored = await self._blobs.list(after, self._page)
        is_last = len(stored) < self._page
        last = _END if is_last else str(stored[-1].digest)
        async with self._database.reading() as connection:
            known, unlisted = await run_store.recorded_sizes(connection, [each.digest for each in stored], after, last)
        strays = [each for each in stored if each.digest not in known]
        missing: list[tuple[Digest, int, int | None]] = [
            (each.digest, known[each.digest], each.size)
            for each in stored
            if known.get(each.digest, each.size) != each.size
        ]
        for digest, size in unlisted:
            # It may have come after the store was listed.
            found = await self._blobs.stat(digest)
            if found != size:
                missing.append((digest, size, found))
        return await self._record(run_id, strays, missing, after, last), "" if is_last else last

    async def _record(
        self,
        run_id: str,
        strays: list[StoredBlob],
        missing: list[tuple[Digest, int, int | None]],
        after: str,
        last: str,
    ) -> Tally:
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            adopted = [
                stray.digest
                for stray in strays
                if await blob_lives.adopt(unit.connection, stray.digest, stray.size, now)
            ]
            await review_store.expect_blobs(unit.connection, adopted, now + self._pace.grace, Reason.STRAY)
            await run_store.replace_missing(unit.connection, after, last, missing, now)
            tally = Tally(examined=len(strays) + len(missing), adopted=len(adopted))
            await run_store.add(unit.connection, run_id, tally, cursor=last)
        return tally
