"""Rows of the audit trail, and the triggers that keep the chain append-only.

`audit_events` takes no UPDATE, and no DELETE but of what a checkpoint has let go; anchors and checkpoints take neither.
`protect` makes the triggers and is harmless to repeat: migrations call it after every upgrade, because SQLite alters a
table by making it anew, which drops its triggers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, String, Table, event

from control_plane.audit.model import LIMITS
from control_plane.database.schema import BigId, Json, UtcDateTime, metadata

_HASH = String(64)


def _text(name: str) -> Column[Any]:
    return Column(name, String(LIMITS[name]), nullable=False)


# What was recorded and has no place in the chain yet. Ids are no order of commit; the sealer gives the order.
inbox = Table(
    "audit_inbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("entry", Json, nullable=False),
)

events = Table(
    "audit_events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False, unique=True),
    Column("occurred_at", UtcDateTime, nullable=False, index=True),
    *(_text(name) for name in LIMITS),
    Column("details", Json, nullable=False),
    Column("hash", _HASH, nullable=False),
    Index("ix_audit_events_tenant_sequence", "tenant", "sequence"),
    Index("ix_audit_events_operator_sequence", "operator", "sequence"),
    Index("ix_audit_events_repository_sequence", "repository", "sequence"),
)

# One row: the last entry of the chain. Whoever seals holds it.
head = Table(
    "audit_head",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", _HASH, nullable=False),
)

anchors = Table(
    "audit_anchors",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", _HASH, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", _HASH, nullable=False),
    Column("export", _HASH, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("made_by", String(128), nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

_LET_GO = "EXISTS (SELECT 1 FROM audit_checkpoints WHERE sequence >= OLD.sequence)"
_KEPT = {"audit_events": f"NOT {_LET_GO}", "audit_anchors": "1 = 1", "audit_checkpoints": "1 = 1"}


def _sqlite() -> Sequence[str]:
    return [
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table} WHEN {when} "
        "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        for table, kept in _KEPT.items()
        for verb, when in (("UPDATE", "1 = 1"), ("DELETE", kept))
    ]


_POSTGRESQL = """
CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_events' THEN
    IF {let_go} THEN RETURN OLD; END IF;
  END IF;
  RAISE EXCEPTION 'the audit trail is append-only';
END $$
"""
_POSTGRESQL_TRIGGERS = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = '{table}_rows' AND tgrelid = '{table}'::regclass) THEN
    CREATE TRIGGER {table}_rows BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION audit_append_only();
    CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
  END IF;
END $$
"""


def _postgresql() -> Sequence[str]:
    return [_POSTGRESQL.format(let_go=_LET_GO), *(_POSTGRESQL_TRIGGERS.format(table=table) for table in _KEPT)]


def protect(connection: Connection) -> None:
    """Make the triggers that are missing, if the tables are there."""
    if not connection.dialect.has_table(connection, events.name):
        return
    for statement in _sqlite() if connection.dialect.name == "sqlite" else _postgresql():
        connection.exec_driver_sql(statement)


def _after_create(_target: object, connection: Connection, **_more: object) -> None:
    protect(connection)


# Where the tables are made without migrations (tests), they are no less append-only.
event.listen(metadata, "after_create", _after_create)
