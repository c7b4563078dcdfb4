"""Acts to record, and ways around the trail that only somebody with the database in hand has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from control_plane.audit.auditing import Auditing
from control_plane.audit.model import Act, Operator, OperatorKind, Sealed, Search, Sight
from control_plane.database import Database

ADA = Operator(OperatorKind.USER, "u-ada", "ada")
EVERYTHING = Sight(ADA, everything=True)


def push(number: int = 0, tenant: str = "acme", **more: Any) -> Act:
    return Act("registry.push", ADA, tenant=tenant, repository=f"{tenant}/web", tag=f"v{number}", **more)


async def record(database: Database, auditing: Auditing, *acts: Act) -> None:
    async with database.transaction() as unit:
        auditing.trail.record(unit, *acts)


async def filled(database: Database, auditing: Auditing, count: int) -> list[Sealed]:
    """A chain of that many entries."""
    await record(database, auditing, *(push(number) for number in range(count)))
    await auditing.sealer.seal_all()
    return await chain(auditing)


async def chain(auditing: Auditing) -> list[Sealed]:
    """Oldest first."""
    return list(reversed(await auditing.reading.page(EVERYTHING, Search(), None, 1000)))


async def tamper(database: Database, *statements: str) -> None:
    """As somebody who owns the database would: without the triggers."""
    async with database.transaction() as unit:
        if database.is_sqlite:
            for table in ("audit_events", "audit_anchors", "audit_checkpoints"):
                for verb in ("UPDATE", "DELETE"):
                    await unit.connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
        else:
            await unit.connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            await unit.connection.execute(text(statement))
