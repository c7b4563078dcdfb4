"""Repositories that hold nothing end: they would count as images of their tenant and be listed for ever, and pipelines
make one for each branch.

Invariant: nothing is lost with one. It has no manifest, no blob and no trash, which a transaction that holds it alone
has seen, and it is private and grants nothing, so whoever pushes there again gets the same. A public repository, or one
with grants, waits for its next image, however long.
"""

from __future__ import annotations

import structlog

from common.errors import Failure
from control_plane.database import Database
from control_plane.registry import repository_store
from control_plane.registry.collection import ending_store, review_store
from control_plane.registry.collection.model import Pace
from control_plane.registry.participants import Hooks
from control_plane.registry.repositories import remove_repository

_BATCH = 100
log = structlog.get_logger()


class Ending:
    """`hooks`: of the registry; everybody hears of the end."""

    def __init__(self, database: Database, hooks: Hooks, pace: Pace) -> None:
        self._database = database
        self._hooks = hooks
        self._pace = pace

    async def end_empty(self) -> int:
        """One look at all; how many ended. Raises `Unavailable` if the database is away."""
        ended, after = 0, ""
        while True:
            async with self._database.reading() as connection:
                made_before = self._database.clock.now() - self._pace.grace
                found = await ending_store.empty_repositories(connection, made_before, after, _BATCH)
            if not found:
                return ended
            after = found[-1][0]
            for repository_id, name in found:
                try:
                    ended += await self._end(repository_id, name)
                except Failure as failure:  # busy: at the next look
                    log.info("an empty repository stays for now", repository=name, reason=str(failure))

    async def _end(self, repository_id: str, name: str) -> bool:
        async with self._database.transaction() as unit:
            await review_store.wait_briefly(unit.connection)
            held = await repository_store.hold_repository(unit.connection, name, alone=True)
            if held is None or held.repository_id != repository_id:
                return False
            if not await ending_store.is_empty(unit.connection, repository_id):
                return False
            await remove_repository(unit, self._hooks, held)
        log.info("an empty repository ended", repository=name)
        return True
