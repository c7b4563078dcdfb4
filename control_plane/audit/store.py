"""Queries over the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, false, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.audit.chain import GENESIS, document_of, entry_from, values_of
from control_plane.audit.model import Anchor, Checkpoint, Entry, Link, Sealed, Search, Sight
from control_plane.audit.tables import anchors, checkpoints, events, head, inbox
from control_plane.database.upserts import inserted

_HEAD = "head"
_RECORDING = insert(inbox)


async def add_to_inbox(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    if entries:
        await connection.execute(_RECORDING, [{"entry": document_of(entry)} for entry in entries])


async def is_waiting(connection: AsyncConnection) -> bool:
    return (await connection.execute(select(inbox.c.id).limit(1))).first() is not None


async def waiting(connection: AsyncConnection, limit: int) -> list[tuple[int, Entry]]:
    rows = await connection.execute(select(inbox).order_by(inbox.c.id).limit(limit))
    return [(row.id, entry_from(row.entry)) for row in rows]


async def leave_inbox(connection: AsyncConnection, ids: Sequence[int]) -> None:
    await connection.execute(delete(inbox).where(inbox.c.id.in_(ids)))


async def hold_head(connection: AsyncConnection) -> Link | None:
    """The last entry's place, held until the transaction ends; None while another replica holds it."""
    await inserted(connection, head, {"name": _HEAD, "sequence": GENESIS.sequence, "hash": GENESIS.hash})
    row = (await connection.execute(select(head).with_for_update(skip_locked=True))).first()
    return Link(row.sequence, row.hash) if row is not None else None


async def find_head(connection: AsyncConnection) -> Link:
    row = (await connection.execute(select(head))).first()
    return Link(row.sequence, row.hash) if row is not None else GENESIS


async def move_head(connection: AsyncConnection, to: Link) -> None:
    await connection.execute(update(head).values(sequence=to.sequence, hash=to.hash))


async def known_ids(connection: AsyncConnection, ids: Sequence[str]) -> frozenset[str]:
    """Those that are in the chain already."""
    return frozenset(await connection.scalars(select(events.c.id).where(events.c.id.in_(ids))))


async def append(connection: AsyncConnection, sealed: Sequence[Sealed]) -> None:
    await connection.execute(
        insert(events), [{**values_of(each.entry), "sequence": each.sequence, "hash": each.hash} for each in sealed]
    )


async def newest(
    connection: AsyncConnection, sight: Sight, search: Search, before: int | None, limit: int
) -> list[Sealed]:
    """What is seen and searched for, the newest first, below the number `before`."""
    query = select(events).where(_seen(sight), *_searched(search)).order_by(events.c.sequence.desc()).limit(limit)
    if before is not None:
        query = query.where(events.c.sequence < before)
    return [_sealed(row) for row in await connection.execute(query)]


async def oldest(
    connection: AsyncConnection, sight: Sight, search: Search, after: int, limit: int, through: int | None = None
) -> list[Sealed]:
    """The same in the order of the chain, above the number `after`."""
    query = select(events).where(_seen(sight), *_searched(search), events.c.sequence > after)
    if through is not None:
        query = query.where(events.c.sequence <= through)
    return [_sealed(row) for row in await connection.execute(query.order_by(events.c.sequence).limit(limit))]


async def stretch(connection: AsyncConnection, after: int, limit: int) -> list[Sealed]:
    """All entries in order."""
    query = select(events).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
    return [_sealed(row) for row in await connection.execute(query)]


async def find(connection: AsyncConnection, sequence: int) -> Sealed | None:
    row = (await connection.execute(select(events).where(events.c.sequence == sequence))).first()
    return _sealed(row) if row is not None else None


async def drop(connection: AsyncConnection, through: int, limit: int) -> int:
    """Delete entries up to that number, oldest first; returns how many. A checkpoint must have let them go."""
    lowest = select(func.min(events.c.sequence)).scalar_subquery()
    gone = await connection.execute(
        delete(events).where(events.c.sequence <= through, events.c.sequence < lowest + limit)
    )
    return int(gone.rowcount)


async def add_anchor(connection: AsyncConnection, anchor: Anchor) -> bool:
    """False if the head has not moved since the last one."""
    row = {
        "sequence": anchor.link.sequence,
        "hash": anchor.link.hash,
        "made_at": anchor.made_at,
        "seal": anchor.seal,
    }
    return await inserted(connection, anchors, row)


async def list_anchors(connection: AsyncConnection, after: int, limit: int) -> list[Anchor]:
    """In order, those of entries above the number `after`."""
    query = select(anchors).where(anchors.c.sequence > after).order_by(anchors.c.sequence).limit(limit)
    rows = await connection.execute(query)
    return [Anchor(Link(row.sequence, row.hash), row.made_at, row.seal) for row in rows]


async def last_anchors(connection: AsyncConnection, limit: int) -> list[Anchor]:
    rows = await connection.execute(select(anchors).order_by(anchors.c.sequence.desc()).limit(limit))
    return [Anchor(Link(row.sequence, row.hash), row.made_at, row.seal) for row in rows]


async def add_checkpoint(connection: AsyncConnection, made: Checkpoint) -> bool:
    row = {
        "sequence": made.link.sequence,
        "hash": made.link.hash,
        "export": made.export,
        "made_at": made.made_at,
        "made_by": made.made_by,
        "seal": made.seal,
    }
    return await inserted(connection, checkpoints, row)


async def last_checkpoint(connection: AsyncConnection) -> Checkpoint | None:
    row = (await connection.execute(select(checkpoints).order_by(checkpoints.c.sequence.desc()).limit(1))).first()
    if row is None:
        return None
    return Checkpoint(Link(row.sequence, row.hash), row.export, row.made_at, row.made_by, row.seal)


def _seen(sight: Sight) -> ColumnElement[bool]:
    if sight.everything:
        return events.c.sequence > 0
    parts = [and_(events.c.tenant == name, events.c.occurred_at >= since) for name, since in sight.tenants.items()]
    return or_(false(), *parts)


def _searched(search: Search) -> list[ColumnElement[bool]]:
    given: Mapping[str, str | None] = {
        "tenant": search.tenant,
        "operation": search.operation,
        "operator": search.operator,
        "repository": search.repository,
        "outcome": search.outcome,
    }
    # PostgreSQL refuses NUL in text, and no entry has it.
    found = [events.c[name] == value.replace("\x00", "\ufffd") for name, value in given.items() if value is not None]
    if search.since is not None:
        found.append(events.c.occurred_at >= search.since)
    if search.until is not None:
        found.append(events.c.occurred_at < search.until)
    return found


def _sealed(row: Row[Any]) -> Sealed:
    values = dict(row._mapping)
    sequence, digest = values.pop("sequence"), values.pop("hash")
    return Sealed(sequence, Entry(**values), digest)
