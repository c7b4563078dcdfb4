"""Messages that commit with the change they announce. `relay` publishes them afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.messages import Message
from control_plane.database.schema import BigId, Json, UtcDateTime, metadata

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    # Names the message for ever; row numbers are used again on SQLite.
    Column("message_id", String(36), nullable=False, default=lambda: str(uuid.uuid4())),
    Column("topic", String(128), nullable=False),
    Column("payload", Json, nullable=False),
    Column("announced_at", UtcDateTime, nullable=False),
)

_APPENDING = insert(outbox)


async def append(connection: AsyncConnection, messages: Sequence[Message], now: datetime) -> None:
    rows = [{"topic": message.topic, "payload": message.payload(), "announced_at": now} for message in messages]
    await connection.execute(_APPENDING, rows)
