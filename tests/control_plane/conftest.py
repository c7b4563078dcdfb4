"""What the tests of the control plane share: a clock that stands still, a cache, and a database on both engines."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

import control_plane
from common.clock import ManualClock
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database, outbox
from control_plane.database.schema import metadata
from tests.engines.postgresql import PostgresEngine

_TEMPLATE = "longshore_template"
_numbers = itertools.count()


def import_tables() -> None:
    """Every domain's tables.py and the outbox, so that `metadata` is whole."""
    assert outbox.outbox.metadata is metadata
    root = Path(control_plane.__file__).parent
    for path in sorted(root.rglob("tables.py")):
        importlib.import_module(".".join(("control_plane", *path.relative_to(root).with_suffix("").parts)))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> MemoryCache:
    return MemoryCache(clock)


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresEngine) -> PostgresEngine:
    """The server, with a database that has every table: copying it is quicker than creating tables for each test."""
    import_tables()
    url = postgresql.create_database(_TEMPLATE)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    engine.dispose()
    return postgresql


@pytest.fixture
def postgresql_url(postgresql_template: PostgresEngine) -> Iterator[str]:
    """A fresh PostgreSQL database with all tables."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield postgresql_template.create_database(name, _TEMPLATE)
    postgresql_template.drop_database(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has every table: each statement that makes one waits for the disk, a second for all of them."""
    import_tables()
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite database with all tables."""
    shutil.copyfile(sqlite_template, tmp_path / "longshore.db")
    return f"sqlite:///{tmp_path}/longshore.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database with all tables, on each engine in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def database(database_url: str, clock: ManualClock) -> AsyncIterator[Database]:
    """Every test that takes it runs twice: on SQLite, and on a real PostgreSQL."""
    opened = Database(database_url, clock)
    yield opened
    await opened.close()


@pytest.fixture
async def open_replica(database_url: str, clock: ManualClock) -> AsyncIterator[Callable[[], Database]]:
    """Opens the same database once more, as another replica of the control plane would."""
    replicas: list[Database] = []

    def open_another() -> Database:
        replicas.append(Database(database_url, clock))
        return replicas[-1]

    yield open_another
    for replica in replicas:
        await replica.close()
