"""What Alembic runs for each migration command: the whole metadata, on the connection that `migrate` opened and locked.

This is the composition root of the tables: the one place that knows every domain's. It is loaded by path, never
imported; a test holds its list complete.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import JSON, Connection

import control_plane.agent_rollouts.tables
import control_plane.audit.tables
import control_plane.channels.tables
import control_plane.commands.tables
import control_plane.database.outbox
import control_plane.deployments.tables
import control_plane.fleet.limits.tables
import control_plane.fleet.placement.tables
import control_plane.fleet.tables
import control_plane.instances.tables
import control_plane.jobs.tables
import control_plane.machines.power.tables
import control_plane.machines.tables
import control_plane.moves.tables
import control_plane.preheats.tables
import control_plane.registry.collection.tables
import control_plane.registry.mirroring.tables
import control_plane.registry.quota.tables
import control_plane.registry.replication.tables
import control_plane.registry.retention.tables
import control_plane.registry.signatures.tables
import control_plane.registry.stores.copies.tables
import control_plane.registry.tables
import control_plane.swarm.spreads.tables
import control_plane.swarm.tables
import control_plane.tenants.tables
import control_plane.webhooks.tables
from control_plane.database.schema import UtcDateTime, metadata


def render(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Migrations are history: they name SQLAlchemy's types, not ours, which may change."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(
        item, JSON
    ):  # Alembic's own rendering of JSONB's default names what it does not import
        autogenerate.imports.add("from sqlalchemy.dialects import postgresql")
        return "sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')"
    return False


def default_differs(
    migration: MigrationContext,
    _inspected: object,
    _column: object,
    inspected_default: str | None,
    _default: object,
    rendered_default: str | None,
) -> bool | None:
    """None leaves it to Alembic. On SQLite it trips over the quotes of an empty string, so there we compare."""
    if migration.dialect.name != "sqlite":
        return None
    return (inspected_default or "").strip("'()") != (rendered_default or "").strip("'()")


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite cannot alter most things: the table is made anew and filled from the old one.
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,  # on both engines: a migration that fails leaves nothing behind
        compare_type=True,
        compare_server_default=default_differs,
        render_item=render,
    )
    with context.begin_transaction():
        context.run_migrations()
        # SQLite alters a table by making it anew, without its triggers.
        control_plane.audit.tables.protect(connection)


migrate(context.config.attributes["connection"])
