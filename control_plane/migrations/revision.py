"""Which revision a database has, read without Alembic, which only the start of a service needs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from control_plane.database.engine import open_engine, translated, with_driver

_TABLE = "alembic_version"  # Alembic's own name for it


def newest() -> str:
    """The revision that this program brings: the last of its migrations, whose names begin with theirs."""
    return max(path.name.partition("_")[0] for path in (Path(__file__).parent / "versions").glob("[0-9]*_*.py"))


async def current(url: str) -> str | None:
    """The revision of the database; None if no migration ever ran there."""
    engine = open_engine(with_driver(url), pool_size=1)
    try:
        async with translated(), engine.connect() as connection:
            return await connection.run_sync(read)
    finally:
        await engine.dispose()


def read(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {_TABLE}"))  # noqa: S608  a constant
    return revision
