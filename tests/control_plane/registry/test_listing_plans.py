"""A page costs the page, whatever else there is: no plan of a listing sorts or scans. (Measured by hand with 100,000
rows: see docs/decisions/0011; time itself is not asserted here.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Select, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database import Database
from control_plane.registry import manifest_store, referrer_store, repository_store
from control_plane.registry.grants import EVERYTHING, Visible
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.tables import manifests, repositories, tags

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECT = Digest.of(b"subject")
REPOSITORIES, TAGS = 3000, 5000


async def fill(database: Database) -> None:
    """Many repositories; one of them with many tags, all of whose manifests refer to one subject."""
    async with database.transaction() as unit:
        rows = [
            {"id": f"r{n}", "name": f"acme/r{n:05}", "tenant": "acme", "tenant_id": "t-acme", "created_at": NOW}
            for n in range(REPOSITORIES)
        ]
        await unit.connection.execute(insert(repositories), rows)
        digests = [str(Digest.of(str(n).encode())) for n in range(TAGS)]
        await unit.connection.execute(insert(manifests), [_manifest(each) for each in digests])
        named = [
            {"repository_id": "r0", "name": f"t{n:06}", "digest": each, "updated_at": NOW}
            for n, each in enumerate(digests)
        ]
        await unit.connection.execute(insert(tags), named)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("ANALYZE")
        await connection.commit()


def _manifest(digest: str) -> dict[str, Any]:
    return {
        "repository_id": "r0",
        "digest": digest,
        "media_type": OCI_MANIFEST,
        "artifact_type": "application/vnd.example",
        "subject": str(SUBJECT),
        "payload": b"{}",
        "total_size": 0,
        "pushed_at": NOW,
        "pushed_by": "",
    }


async def plan_of(connection: AsyncConnection, query: Select[Any]) -> str:
    sql = str(query.compile(connection.sync_engine, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    return "\n".join(str(row) for row in await connection.execute(text(explain + sql.replace(":", "\\:"))))


class Listening:
    """A connection that keeps the queries which a store's function makes."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.queries: list[Select[Any]] = []
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, query: Select[Any]) -> Any:
        self.queries.append(query)
        return await self._connection.execute(query)


@pytest.mark.parametrize("listing", ["tags", "catalogue", "a tenant's catalogue", "referrers", "referrers of a type"])
async def test_a_page_is_one_range_of_an_index(database: Database, listing: str) -> None:
    await fill(database)
    async with database.reading() as connection:
        listening: Any = Listening(connection)
        found: Sequence[object]
        match listing:
            case "tags":
                found = await manifest_store.tag_names(listening, "r0", "t002500", 100)
            case "catalogue":
                found = await repository_store.repository_names(
                    listening, EVERYTHING, NOW, after="acme/r01000", limit=100
                )
            case "a tenant's catalogue":
                visible = Visible(tenants=("acme",), tenant_ids=("t-acme",), user_id="u")
                found = await repository_store.repository_names(listening, visible, NOW, after="acme/r01000", limit=100)
            case _:
                kind = "application/vnd.example" if listing == "referrers of a type" else None
                found, _ = await referrer_store.page_of_referrers(
                    listening, "acme/r00000", SUBJECT, artifact_type=kind, after="sha256:8", limit=100, max_bytes=1
                )
        assert len(found) == 100
        plan = await plan_of(connection, listening.queries[0])
    for costly in ("TEMP B-TREE", "SCAN repositories\n", "SCAN manifests", "SCAN tags", "Sort", "Seq Scan on tags"):
        assert costly not in plan, plan
