"""Pages of 100,000 tags and of 100,000 repositories, on SQLite and PostgreSQL, and how long a start takes over them."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import urllib3
from sqlalchemy import Table, insert, select

from benchmarks.registry.contents import store
from benchmarks.registry.plan import Plan, limit, note
from benchmarks.registry.servers import REPOSITORY, Target, longshore
from common.clock import SystemClock
from control_plane.database import Database
from control_plane.registry.tables import repositories, tags
from tests.engines.postgresql import postgres_engine

_MANY = 100_000
_BATCH = 5_000
_PAGES = 40
_MOST_MS = 50.0
_MOST_START_SECONDS = 3.0


def measure(plan: Plan) -> None:
    _engine(plan, "SQLite", plan.folder / "sqlite", None)
    with postgres_engine() as postgres:
        _engine(plan, "PostgreSQL", plan.folder / "postgresql", postgres.create_database("bench"))


def _engine(plan: Plan, engine: str, root: Path, url: str | None) -> None:
    environment = {"LONGSHORE_DATABASE__URL": url} if url else {}
    with longshore(root, environment) as (target, fleet):
        store(target, 1 << 20)
        data = fleet.control_plane.data
    asyncio.run(_fill(url or f"sqlite:///{data / 'longshore.db'}"))
    began = time.monotonic()
    with longshore(root, environment) as (target, _):
        started = time.monotonic() - began
        limit(
            f"start with {_MANY} tags and repositories on {engine}, to the first answer",
            "s",
            [started],
            most=_MOST_START_SECONDS,
        )
        for name, path, key in (
            ("tags", f"/v2/{REPOSITORY}/tags/list", "tags"),
            ("repositories", "/v2/_catalog", "repositories"),
        ):
            for size in (100, 1000):
                times = list(_pages(target, path, key, size))
                note(f"{engine} {name} n={size}: median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms")
                worst = sorted(times)[int(len(times) * 0.95)]
                limit(f"page of {size} of {_MANY} {name} on {engine}, 95th percentile", "ms", [worst], most=_MOST_MS)


def _pages(target: Target, path: str, key: str, size: int) -> Iterator[float]:
    """Milliseconds of pages from all over the list."""
    pool = urllib3.PoolManager(headers=target.headers)
    for number in range(_PAGES):
        last = f"{'acme/' if key == 'repositories' else ''}name-{number * _MANY // _PAGES:06}"
        began = time.perf_counter()
        answer = pool.request("GET", f"http://127.0.0.1:{target.port}{path}?{urlencode({'n': size, 'last': last})}")
        took = (time.perf_counter() - began) * 1000
        found = json.loads(answer.data).get(key)
        if answer.status != 200 or not found:
            raise RuntimeError(f"{path}: {answer.status} {answer.data[:200]!r}")
        yield took


async def _fill(url: str) -> None:
    """Straight into the tables: pushing 200,000 would take an hour and prove nothing more."""
    database = Database(url, SystemClock())
    now = datetime.now(UTC)  # noqa: TID251
    try:
        async with database.reading() as connection:
            row = (await connection.execute(select(repositories).where(repositories.c.name == REPOSITORY))).one()
            digest = (await connection.execute(select(tags.c.digest))).scalars().first()

        def tag(number: int) -> dict[str, object]:
            return {"repository_id": row.id, "name": f"name-{number:06}", "digest": digest, "updated_at": now}

        def repository(number: int) -> dict[str, object]:
            return {**row._mapping, "id": f"bench-{number:06}", "name": f"acme/name-{number:06}"}

        makers: list[tuple[Table, Callable[[int], dict[str, object]]]] = [(tags, tag), (repositories, repository)]
        for table, make in makers:
            for start in range(0, _MANY, _BATCH):
                async with database.transaction() as unit:
                    await unit.connection.execute(
                        insert(table), [make(number) for number in range(start, start + _BATCH)]
                    )
    finally:
        await database.close()
