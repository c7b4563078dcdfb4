"""How a blob is born and how it dies: the protocol between pushes and the garbage collection.

The row in `blobs` is the lock. Who links a blob writes that row first (`bear`, `revive`), who deletes its bytes holds
it while doing so (`claim`), and bytes without a row are given one before anybody deletes them (`adopt`). Hence, by one
transaction after the other:

    push       1 `spare`: before publishing, lift a sentence that hangs over the digest (reads; writes only then)
               2 publish the bytes: no transaction is open, no lock is held
               3 `bear`: one transaction writes the row without sentence, and links the blob
    mount      `revive`: the row, if it is there, without sentence; then the link, in the same transaction
    collection 1 `condemn`: a blob that nobody links gets the sentence, and the moment of it
               2 at least `REPRIEVE` later, `claim`: hold the row, see that the sentence still stands and that nobody
                 links the blob; then delete bytes and row before that transaction ends

A push always wins. Condemned before step 1: spared, or deleted before the bytes are published. Condemned after it: the
bytes are not touched for `REPRIEVE`, and step 3 lifts the sentence. A process that stood still for longer than
`PUBLISH_WITHIN` between 1 and 3 (a laptop that slept) looks whether its bytes are there while it holds the row. Clocks
of replicas may differ by `REPRIEVE - PUBLISH_WITHIN`. Concurrent pushes of one digest queue on the row in step 3 only:
the store replaces equal bytes by equal bytes, and whoever comes second finds the row and succeeds.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.locks import hold_row
from control_plane.database.upserts import insert_or_replace, inserted
from control_plane.registry.tables import blobs, repository_blobs

PUBLISH_WITHIN = timedelta(minutes=15)
REPRIEVE = timedelta(hours=1)
# Made once: a part of every push.
_CONDEMNED = select(blobs.c.digest).where(blobs.c.digest == bindparam("digest"), blobs.c.condemned_at.is_not(None))


async def is_condemned(connection: AsyncConnection, digest: Digest) -> bool:
    return (await connection.execute(_CONDEMNED, {"digest": str(digest)})).first() is not None


async def spare(connection: AsyncConnection, digest: Digest) -> None:
    """Lift the sentence; waits for a deletion that is being carried out, after which there is nothing to lift."""
    await connection.execute(
        update(blobs).where(blobs.c.digest == str(digest), blobs.c.condemned_at.is_not(None)).values(condemned_at=None)
    )


async def bear(connection: AsyncConnection, digest: Digest, size: int, now: datetime) -> None:
    """The bytes are published, again perhaps: then the size is set to what was verified just now."""
    row = {"digest": str(digest), "size": size, "created_at": now, "condemned_at": None}
    await insert_or_replace(connection, blobs, [row], only=["size", "condemned_at"])


async def revive(connection: AsyncConnection, digest: Digest) -> int | None:
    """The size of a blob that is there, and cannot be deleted before this transaction ends; None if it is gone."""
    held = await hold_row(connection, blobs, str(digest))
    if held is None:
        return None
    if held.condemned_at is not None:
        await spare(connection, digest)
    return int(held.size)


async def condemn(connection: AsyncConnection, digest: Digest, now: datetime) -> bool:
    """Whether it is condemned now; false if somebody links it or it has no row. An older sentence keeps its moment."""
    held = await hold_row(connection, blobs, str(digest))
    if held is None or await _linked(connection, digest):
        return False
    if held.condemned_at is None:
        await connection.execute(update(blobs).where(blobs.c.digest == str(digest)).values(condemned_at=now))
    return True


async def claim(connection: AsyncConnection, digest: Digest, now: datetime) -> bool:
    """Whether the bytes may be deleted, in this transaction only: it holds the row. Follow with `bury`."""
    held = await hold_row(connection, blobs, str(digest))
    if held is None or held.condemned_at is None or held.condemned_at > now - REPRIEVE:
        return False
    # A statement of its own, after the lock: it sees the link of whoever held the row before us.
    return not await _linked(connection, digest)


async def bury(connection: AsyncConnection, digest: Digest) -> None:
    """The bytes were deleted. Death between the two leaves a condemned row, whose bytes are deleted once more."""
    await connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))


async def adopt(connection: AsyncConnection, digest: Digest, size: int, now: datetime) -> bool:
    """Give a condemned row to bytes that have none (a push that died before step 3); false if there is one."""
    row = {"digest": str(digest), "size": size, "created_at": now, "condemned_at": now}
    return await inserted(connection, blobs, row)


async def _linked(connection: AsyncConnection, digest: Digest) -> bool:
    query = select(exists().where(repository_blobs.c.digest == str(digest)))
    return bool((await connection.execute(query)).scalar_one())
