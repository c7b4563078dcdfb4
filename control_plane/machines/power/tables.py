"""Rows of BMCs, their logins sealed, and of orders of power. A machine has one order at most that is not over."""

from __future__ import annotations

from sqlalchemy import (
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
from control_plane.machines.tables import machines

_ID = String(36)

machine_bmcs = Table(
    "machine_bmcs",
    metadata,
    Column("machine_id", ForeignKey(machines.c.id, ondelete="CASCADE"), primary_key=True),
    Column("protocol", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("port", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("system", String(255), nullable=False),
    Column("sealed_login", LargeBinary, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_at", UtcDateTime),
)

power_orders = Table(
    "power_orders",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("machine_id", ForeignKey(machines.c.id, ondelete="CASCADE"), nullable=False),
    Column("idc_id", _ID, nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("deed", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    # 1 while it is not over, null afterwards.
    Column("open", SmallInteger),
    Column("asked_by", String(255), nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("begin_by", UtcDateTime, nullable=False),
    Column("regional_id", _ID, nullable=False),
    Column("declined", Json, nullable=False),
    Column("power", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("task_id", _ID, nullable=False),
    Column("ended_at", UtcDateTime),
    UniqueConstraint("machine_id", "open"),
    Index("ix_power_orders_idc_id_open", "idc_id", "open"),
    Index("ix_power_orders_machine_id_asked_at", "machine_id", "asked_at"),
)
