"""A database that was made by migrations protects its trail as one made by the tests does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.migrations import migrate
from tests.control_plane.audit.acts import filled
from tests.control_plane.audit.conftest import BuildAuditing
from tests.engines.postgresql import PostgresEngine


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresEngine = request.getfixturevalue("postgresql")
    yield server.create_database("test_audit_protection")
    server.drop_database("test_audit_protection")


async def test_a_migrated_trail_is_append_only_also_after_a_second_upgrade(
    empty_url: str, clock: ManualClock, build: BuildAuditing
) -> None:
    for _ in range(2):
        await migrate.upgrade(empty_url)
        database = Database(empty_url, clock)
        await filled(database, build(database), 2)
        for statement in ("UPDATE audit_events SET operator = 'eve'", "DELETE FROM audit_events"):
            with pytest.raises(DBAPIError, match="append-only"):
                async with database.transaction() as unit:
                    await unit.connection.execute(text(statement))
        assert (await build(database).reading.verify()).whole
        await database.close()
