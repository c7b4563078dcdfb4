"""Rows of bare metal: machines with their addresses and timelines, profiles with their versions, tasks with what
happened to them. What an IDC shall hold for a task are rows of `wants` whose owner it is.

Specifications and intents are sealed: they hold password hashes, keys and whatever secrets operators put into scripts.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from control_plane.database.schema import Json, UtcDateTime, metadata
from control_plane.fleet.tables import idcs

_ID = String(36)

machines = Table(
    "machines",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("idc_id", ForeignKey(idcs.c.id), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    # "" is the platform: a key of NULLs would not be one.
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    # Null where it is not known, or is one of the words that makers leave in it: those repeat.
    Column("serial", String(128)),
    Column("uuid", String(36), nullable=False),
    Column("tags", Json, nullable=False),
    Column("notes", Text, nullable=False),
    Column("boot", Json, nullable=False),
    Column("network", Json),
    Column("variables", Json, nullable=False),
    Column("address", String(64), nullable=False),
    Column("architecture", String(32), nullable=False),
    Column("inventory", Json),
    Column("inventory_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime),
    Column("installed", String(255), nullable=False),
    Column("installed_at", UtcDateTime),
    UniqueConstraint("idc_id", "name"),
    UniqueConstraint("idc_id", "serial"),
    Index("ix_machines_idc_id_state", "idc_id", "state"),
    Index("ix_machines_tenant_id", "tenant_id"),
)

machine_macs = Table(
    "machine_macs",
    metadata,
    Column("idc_id", _ID, primary_key=True),
    Column("mac", String(17), primary_key=True),
    Column("machine_id", ForeignKey(machines.c.id, ondelete="CASCADE"), nullable=False, index=True),
)

machine_events = Table(
    "machine_events",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("machine_id", ForeignKey(machines.c.id, ondelete="CASCADE"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("stage", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("trouble", Boolean, nullable=False),
    Index("ix_machine_events_machine_id_at", "machine_id", "at"),
)

# Which reports were counted already; rows go when no regional can deliver them again.
machine_reports = Table(
    "machine_reports",
    metadata,
    Column("regional_id", _ID, primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("received_at", UtcDateTime, nullable=False, index=True),
)

profiles = Table(
    "profiles",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("name", String(63), nullable=False),
    Column("description", Text, nullable=False),
    Column("latest", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("family", String(32), nullable=False),
    Column("system_version", String(32), nullable=False),
    Column("method", String(16), nullable=False),
    UniqueConstraint("tenant_id", "name"),
)

profile_versions = Table(
    "profile_versions",
    metadata,
    Column("profile_id", ForeignKey(profiles.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("sealed_spec", LargeBinary, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

install_tasks = Table(
    "install_tasks",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("machine_id", ForeignKey(machines.c.id, ondelete="CASCADE"), nullable=False),
    Column("idc_id", _ID, nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("profile_id", _ID, nullable=False),
    Column("profile", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    # 1 while it is not over, null afterwards: a machine has one such task at most.
    Column("open", SmallInteger),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("images", Json, nullable=False),
    Column("content_tenant_id", _ID, nullable=False),
    Column("approved_by", String(255), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("intent_id", _ID, nullable=False),
    Column("sealed_intent", LargeBinary),
    Column("begun", Boolean, nullable=False),
    Column("presumed", Boolean, nullable=False),
    Column("steps", Json, nullable=False),
    Column("detail", Text, nullable=False),
    Column("begin_by", UtcDateTime),
    Column("silent_after", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("log_lines", Integer, nullable=False),
    Column("longest_seconds", BigInteger, nullable=False),
    UniqueConstraint("machine_id", "open"),
    Index("ix_install_tasks_idc_id_state", "idc_id", "state"),
    Index("ix_install_tasks_intent_id", "intent_id"),
    Index("ix_install_tasks_tenant_id", "tenant_id"),
    Index("ix_install_tasks_ended_at", "ended_at"),
    Index("ix_install_tasks_profile_id", "profile_id"),
    Index("ix_install_tasks_silent_after", "silent_after"),
)

install_history = Table(
    "install_history",
    metadata,
    Column("task_id", ForeignKey(install_tasks.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("by", String(255), nullable=False),
    Column("detail", Text, nullable=False),
)

install_logs = Table(
    "install_logs",
    metadata,
    Column("task_id", ForeignKey(install_tasks.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("step", String(64), nullable=False),
    Column("text", Text, nullable=False),
)
