"""The migrations and the metadata say the same, on both engines; an upgrade is safe to run at any time, by anybody."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from common.errors import Unavailable
from control_plane.database.engine import with_driver
from control_plane.database.schema import metadata
from control_plane.migrations import migrate
from tests.engines.postgresql import PostgresEngine

SOURCE = Path(migrate.__file__).parent
COMMITTED = SOURCE / "versions"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresEngine = request.getfixturevalue("postgresql")
    yield server.create_database("test_migrations")
    server.drop_database("test_migrations")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of one migration, generated now: it proves the machinery, whatever is committed."""
    folder = tmp_path_factory.mktemp("versions")
    asyncio.run(migrate.new("everything", versions=folder))
    return folder


def tables(url: str) -> set[str]:
    engine = create_engine(with_driver(url).replace("+aiosqlite", ""))
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def run(url: str, statement: str) -> None:
    engine = create_engine(with_driver(url).replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def step(folder: Path, number: int, upgrade: str) -> None:
    """Write a migration by hand."""
    before = repr(f"{number - 1:04d}") if number > 1 else None
    (folder / f"{number:04d}_step.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\nrevision = '{number:04d}'\ndown_revision = {before}\n"
        f"branch_labels = depends_on = None\ndef upgrade():\n    {upgrade}\n"
    )


@pytest.mark.skipif(not list(COMMITTED.glob("[0-9]*.py")), reason="the initial migration is not generated yet")
async def test_the_committed_migrations_give_exactly_the_metadata(empty_url: str) -> None:
    assert await migrate.upgrade(empty_url) is not None
    assert list(await migrate.differences(empty_url)) == []


async def test_a_generated_migration_gives_exactly_the_metadata(empty_url: str, generated: Path) -> None:
    assert await migrate.upgrade(empty_url, versions=generated) == "0001"
    assert list(await migrate.differences(empty_url, versions=generated)) == []
    assert tables(empty_url) == set(metadata.tables)


async def test_a_difference_is_seen(empty_url: str, generated: Path) -> None:
    await migrate.upgrade(empty_url, versions=generated)
    run(empty_url, "ALTER TABLE outbox ADD COLUMN surprise INTEGER")
    assert "surprise" in str(await migrate.differences(empty_url, versions=generated))


async def test_every_table_module_is_in_the_list_of_the_migrations() -> None:
    listed = (SOURCE / "env.py").read_text()
    root = SOURCE.parents[1]
    for path in SOURCE.parent.rglob("tables.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        assert f"import {module}" in listed, f"{module} is missing in migrations/env.py"


async def test_an_upgrade_that_finds_nothing_to_do_changes_nothing(empty_url: str, generated: Path) -> None:
    assert await migrate.current(empty_url) is None
    await migrate.upgrade(empty_url, versions=generated)
    assert await migrate.upgrade(empty_url, versions=generated) == "0001"
    assert await migrate.current(empty_url) == "0001"


async def test_replicas_that_start_at_once_take_turns(empty_url: str, generated: Path) -> None:
    revisions = await asyncio.gather(*(migrate.upgrade(empty_url, versions=generated) for _ in range(4)))
    assert revisions == ["0001"] * 4
    assert tables(empty_url) == set(metadata.tables)


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(empty_url: str, generated: Path) -> None:
    await migrate.upgrade(empty_url, versions=generated)
    run(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(migrate.SchemaNewer):
        await migrate.upgrade(empty_url, versions=generated)
    assert await migrate.current(empty_url) == "9999"


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    step(folder, 1, "op.create_table('first', sa.Column('id', sa.Integer, primary_key=True))")
    step(folder, 2, "op.create_table('second', sa.Column('id', sa.Integer)); raise KeyError('boom')")
    with pytest.raises(KeyError):
        await migrate.upgrade(empty_url, versions=folder)
    assert tables(empty_url) == set()
    assert await migrate.current(empty_url) is None


async def test_a_table_that_is_made_anew_keeps_the_rows_that_point_to_it(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path}/kept.db", tmp_path / "versions"
    folder.mkdir()
    step(
        folder,
        1,
        "op.create_table('parents', sa.Column('id', sa.Integer, primary_key=True))\n"
        "    op.create_table('children', sa.Column('parent_id', sa.Integer,"
        " sa.ForeignKey('parents.id', ondelete='CASCADE')))",
    )
    await migrate.upgrade(url, versions=folder)
    run(url, "INSERT INTO parents VALUES (1)")
    run(url, "INSERT INTO children VALUES (1)")
    step(
        folder,
        2,
        "batch = op.batch_alter_table('parents', recreate='always')\n"
        "    with batch as table: table.add_column(sa.Column('name', sa.String(10)))",
    )
    await migrate.upgrade(url, versions=folder)
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM children")).scalar_one() == 1
    engine.dispose()


async def test_the_next_migration_has_only_what_changed(tmp_path: Path, generated: Path) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    shutil.copy(generated / "0001_everything.py", folder)
    path = await migrate.new("nothing changed", versions=folder)
    assert path.name == "0002_nothing_changed.py"
    assert "op." not in path.read_text().split("def upgrade")[1]
    assert '"""nothing changed.' in path.read_text()


@pytest.mark.engine("postgresql")
async def test_a_database_that_is_away_is_unavailable(own_postgresql: PostgresEngine) -> None:
    own_postgresql.stop()
    with pytest.raises(Unavailable):
        await migrate.upgrade(own_postgresql.url())


def test_the_command_says_what_it_can_do(tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "control_plane.migrations.migrate", *arguments]
        return subprocess.run(program, capture_output=True, text=True, check=False)

    assert command().returncode == 2
    answer = command("current", f"sqlite:///{tmp_path}/new.db")
    assert (answer.returncode, answer.stdout) == (0, "at revision None\n")
