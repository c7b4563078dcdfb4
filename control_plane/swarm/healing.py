"""A damaged blob comes back from the edge: whoever in an IDC holds it is told to give it back (`Healer` of
registry/stores).

    asked    the request is in the database, and announced; the replica that has the holder's stream sends it down
    giving   the holder's bytes are coming in, on whichever replica it dialled
    given    they had the blob's digest, and the store published them
    refused  it is not held there, or is other bytes

Invariants: a request is a right for one purpose: one holder, one digest, one size, one try, a few minutes; bytes are
published only by the store's commit, which verifies the digest. Whoever dies on the way leaves a row that lapses.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from common.clock import Clock
from common.digest import Digest, DigestMismatch
from common.errors import Failure
from common.identifiers import new_id
from control_plane.blobs.store_set.members import Members
from control_plane.database import Database
from control_plane.registry.stores.copies.copying import store_blob
from control_plane.swarm import returns_store
from control_plane.swarm.messages import ReturnWanted
from control_plane.swarm.returns_store import Holder, ReturnRequest, ReturnState

log = structlog.get_logger()

# One IDC that answers is enough; of many that do not, these cost the scrub two minutes at most.
_MOST_HOLDERS = 4
_LOOK_SECONDS = 0.2
_BEGIN_SECONDS = 15.0
# Nobody's uplink is slower than that for long; what is slower is tried again by the next pass.
_SLOWEST_BYTES_PER_SECOND = 1 << 20
_MARGIN_SECONDS = 60.0


class Returns:
    """Requests, and what comes of them; the healer asks here and the listener for members delivers here."""

    def __init__(self, database: Database, members: Members) -> None:
        self._database = database
        self._members = members

    async def holders(self, digest: Digest, size: int) -> Sequence[Holder]:
        """Who said that it holds all of it, and is attached: regionals first."""
        async with self._database.reading() as connection:
            return await returns_store.holders(connection, digest, size, _MOST_HOLDERS)

    async def ask(self, holder: Holder, digest: Digest, size: int, life: timedelta) -> str:
        """The request's id; durable and announced."""
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            request = ReturnRequest(new_id(unit.clock), holder, digest, size, ReturnState.ASKED, now + life)
            await returns_store.forget_lapsed(unit.connection, now)
            await returns_store.add(unit.connection, request)
            await unit.announce(ReturnWanted(holder.kind, holder.id, request.id, str(digest), size))
        return request.id

    async def state(self, request_id: str) -> ReturnState | None:
        async with self._database.reading() as connection:
            found = await returns_store.find(connection, request_id)
        return None if found is None else found.state

    async def forget(self, request_id: str) -> None:
        async with self._database.transaction() as unit:
            await returns_store.remove(unit.connection, request_id)

    async def refuse(self, holder: Holder, request_id: str) -> None:
        """It does not hold the content."""
        await self._move(request_id, holder, ReturnState.ASKED, ReturnState.REFUSED)

    async def receive(self, holder: Holder, request_id: str, pieces: AsyncIterator[bytes]) -> bool:
        """Publish what `holder` gives; whether it was wanted and right."""
        request = await self._move(request_id, holder, ReturnState.ASKED, ReturnState.GIVING)
        if request is None:
            log.warning("a content was given back that nobody asked for", holder=str(holder), request=request_id)
            return False
        target = self._members.primary
        try:
            async with contextlib.aclosing(_bounded(pieces, request.size)) as bounded:
                await store_blob(request.digest, request.size, bounded, target)
        except DigestMismatch as failure:
            log.error("other bytes were given back", holder=str(holder), digest=str(request.digest), error=str(failure))
            await self._move(request_id, holder, ReturnState.GIVING, ReturnState.REFUSED)
            return False
        except BaseException:
            with contextlib.suppress(Failure):
                await self._move(request_id, holder, ReturnState.GIVING, ReturnState.REFUSED)
            raise
        await self._move(request_id, holder, ReturnState.GIVING, ReturnState.GIVEN)
        log.info("a content was given back", holder=str(holder), digest=str(request.digest), bytes=request.size)
        return True

    async def _move(
        self, request_id: str, holder: Holder, before: ReturnState, after: ReturnState
    ) -> ReturnRequest | None:
        async with self._database.transaction() as unit:
            return await returns_store.move(unit.connection, request_id, holder, before, after, unit.clock.now())


class EdgeHealer:
    name = "edge"

    def __init__(self, returns: Returns, members: Members, clock: Clock) -> None:
        self._returns = returns
        self._members = members
        self._clock = clock

    @asynccontextmanager
    async def pieces(
        self, digest: Digest, size: int, repositories: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """What came back lies in the primary store by then, verified; from there it is given to whichever store lacks
        it.
        """
        for holder in await self._returns.holders(digest, size):
            if await self._given_back(holder, digest, size):
                async with self._members.primary.store.open(digest, size) as reader:
                    yield reader.read(0, size)
                return
        yield None

    async def _given_back(self, holder: Holder, digest: Digest, size: int) -> bool:
        seconds = size / _SLOWEST_BYTES_PER_SECOND + _MARGIN_SECONDS
        request_id = await self._returns.ask(holder, digest, size, timedelta(seconds=_BEGIN_SECONDS + seconds))
        log.info("a content is asked back", holder=str(holder), digest=str(digest))
        try:
            state = await self._while_in(request_id, ReturnState.ASKED, _BEGIN_SECONDS)
            if state is ReturnState.GIVING:
                state = await self._while_in(request_id, ReturnState.GIVING, seconds)
        finally:
            await self._returns.forget(request_id)
        return state is ReturnState.GIVEN

    async def _while_in(self, request_id: str, state: ReturnState, seconds: float) -> ReturnState | None:
        """The state that follows, or `state` if it takes longer."""
        deadline = self._clock.monotonic() + seconds
        while (found := await self._returns.state(request_id)) is state and self._clock.monotonic() < deadline:
            await self._clock.sleep(_LOOK_SECONDS)
        return found


async def _bounded(pieces: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """Raises `DigestMismatch` as soon as there is more than there can be, and at the end if it is less."""
    given = 0
    async for piece in pieces:
        given += len(piece)
        if given > size:
            break
        yield piece
    if given != size:
        raise DigestMismatch(f"{given} bytes or more were given back, not {size}", action="ask somebody else")
