"""What a unit of work promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, StatementError

from common.clock import ManualClock
from common.errors import Conflict, Unavailable
from control_plane.database import Database
from control_plane.database.outbox import outbox
from tests.engines.postgresql import PostgresEngine
from tests.engines.processes import wait_until
from tests.pace import BUSY_SECONDS

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def row(topic: str, moment: datetime = MOMENT) -> dict[str, object]:
    return {"topic": topic, "payload": {"a": 1}, "announced_at": moment}


def is_driver(thread: threading.Thread) -> bool:
    return "_connection_worker_thread" in thread.name


async def count(database: Database) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(outbox))).scalar_one())


async def test_what_was_done_in_a_transaction_is_there_afterwards(
    database: Database, open_replica: Callable[[], Database]
) -> None:
    async with database.transaction() as unit:
        await unit.connection.execute(insert(outbox).values(row("t")))
    assert await count(open_replica()) == 1


async def test_an_error_undoes_everything(database: Database) -> None:
    async def change_ones_mind() -> None:
        async with database.transaction() as unit:
            await unit.connection.execute(insert(outbox).values(row("t")))
            raise KeyError("changed my mind")

    with pytest.raises(KeyError):
        await change_ones_mind()
    assert await count(database) == 0


async def test_a_cancelled_transaction_changes_nothing_and_lets_the_next_one_in(database: Database) -> None:
    entered = asyncio.Event()

    async def hang() -> None:
        async with database.transaction() as unit:
            await unit.connection.execute(insert(outbox).values(row("t")))
            entered.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hang())
        await entered.wait()
        task.cancel()
    async with asyncio.timeout(BUSY_SECONDS), database.transaction() as unit:
        await unit.connection.execute(insert(outbox).values(row("t")))
    assert await count(database) == 1


async def test_nothing_done_while_reading_is_kept(database: Database) -> None:
    try:
        async with database.reading() as connection:
            await connection.execute(insert(outbox).values(row("t")))
    except DBAPIError:  # PostgreSQL refuses it on the spot
        assert not database.is_sqlite
    assert await count(database) == 0


async def test_all_reads_of_one_block_see_the_same_moment(
    database: Database, open_replica: Callable[[], Database]
) -> None:
    replica = open_replica()
    async with database.reading() as connection:
        before = (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()
        async with replica.transaction() as unit:
            await unit.connection.execute(insert(outbox).values(row("t")))
        after = (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()
    assert before == after == 0
    assert await count(database) == 1


async def test_many_writers_at_once_all_get_through(database: Database, open_replica: Callable[[], Database]) -> None:
    replica = open_replica()

    async def write(number: int) -> None:
        async with (database, replica)[number % 2].transaction() as unit:
            found = (await unit.connection.execute(select(func.count()).select_from(outbox))).scalar_one()
            await unit.connection.execute(insert(outbox).values(row(f"t{found}")))

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(write(number))
    assert await count(database) == 30


async def test_a_time_comes_back_aware_and_in_utc_whatever_zone_it_was_given_in(database: Database) -> None:
    eastern = MOMENT.astimezone(timezone(timedelta(hours=8)))
    async with database.transaction() as unit:
        await unit.connection.execute(insert(outbox).values(row("t", eastern)))
    async with database.reading() as connection:
        found = (await connection.execute(select(outbox.c.announced_at))).scalar_one()
        matching = (await connection.execute(select(outbox.c.id).where(outbox.c.announced_at == eastern))).all()
    assert found == MOMENT
    assert found.utcoffset() == timedelta(0)
    assert len(matching) == 1


async def test_times_compare_in_the_database_as_they_do_here(database: Database) -> None:
    moments = [MOMENT + timedelta(seconds=seconds) for seconds in (0, 0.000001, 0.5, 1, 3600)]
    async with database.transaction() as unit:
        for moment in reversed([MOMENT.replace(microsecond=0), *moments]):
            await unit.connection.execute(insert(outbox).values(row("t", moment)))
    async with database.reading() as connection:
        found = (await connection.execute(select(outbox.c.announced_at).order_by(outbox.c.announced_at))).scalars()
        assert list(found) == [MOMENT.replace(microsecond=0), *moments]


async def test_a_time_without_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without time zone"):
        async with database.transaction() as unit:
            await unit.connection.execute(insert(outbox).values(row("t", datetime(2026, 1, 1))))  # noqa: DTZ001


async def test_a_mistake_in_a_statement_is_not_disguised_as_an_outage(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with database.reading() as connection:
            await connection.execute(text("SELECT no_such_column FROM outbox"))
    with pytest.raises(DBAPIError):
        async with database.transaction() as unit:
            await unit.connection.execute(text("INSERT INTO no_such_table VALUES (1)"))


async def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path: object, clock: ManualClock) -> None:
    database = Database(f"sqlite:///{tmp_path}/no/such/folder/longshore.db", clock)
    with pytest.raises(Unavailable):
        async with database.reading():
            pass
    await database.close()
    # The driver's thread still ends itself; this loop must outlive it.
    assert await asyncio.to_thread(wait_until, lambda: not any(map(is_driver, threading.enumerate())), 5)


async def test_a_writer_of_another_process_is_waited_for(sqlite_url: str, clock: ManualClock) -> None:
    first, second = Database(sqlite_url, clock), Database(sqlite_url, clock)
    order = []

    async def write(database: Database, name: str, started: asyncio.Event, finish: asyncio.Event) -> None:
        async with database.transaction() as unit:
            # The first statement takes the lock.
            await unit.connection.execute(insert(outbox).values(row(name)))
            started.set()
            await finish.wait()
            order.append(name)

    first_in, second_in, finish, nothing = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    nothing.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(write(first, "first", first_in, finish))
        await first_in.wait()
        group.create_task(write(second, "second", second_in, nothing))
        await asyncio.sleep(0.1)
        assert not second_in.is_set()
        finish.set()
    assert order == ["first", "second"]
    assert await count(first) == 2
    await first.close()
    await second.close()


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    async with database.transaction() as unit:
        await unit.connection.execute(insert(outbox).values(row("t")))
        async with asyncio.timeout(BUSY_SECONDS):
            assert await count(database) == 0


@pytest.mark.engine("postgresql")
async def test_a_postgresql_that_is_gone_is_unavailable_and_comes_back(
    own_postgresql: PostgresEngine, clock: ManualClock
) -> None:
    database = Database(own_postgresql.url(), clock)
    async with database.reading() as connection:
        await connection.execute(text("SELECT 1"))
    own_postgresql.kill()
    with pytest.raises(Unavailable):
        async with database.transaction():
            pass
    own_postgresql.start()
    async with database.reading() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await database.close()


@pytest.mark.engine("postgresql")
async def test_a_postgresql_that_dies_within_a_transaction_is_unavailable(
    own_postgresql: PostgresEngine, clock: ManualClock
) -> None:
    database = Database(own_postgresql.url(), clock)

    async def lose_the_server() -> None:
        async with database.transaction() as unit:
            await unit.connection.execute(text("SELECT 1"))
            own_postgresql.kill()
            await unit.connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        await lose_the_server()
    await database.close()


@pytest.mark.engine("postgresql")
async def test_a_server_that_became_a_standby_is_unavailable(postgresql_url: str, clock: ManualClock) -> None:
    standby = Database(f"{postgresql_url}?options=-cdefault_transaction_read_only%3Don", clock)
    with pytest.raises(Unavailable):
        async with standby.transaction() as unit:
            await unit.connection.execute(insert(outbox).values(row("t")))
    await standby.close()


@pytest.mark.engine("postgresql")
async def test_of_two_that_wait_for_each_other_one_tries_again(postgresql_url: str, clock: ManualClock) -> None:
    database = Database(postgresql_url, clock)
    both = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> bool:
        try:
            async with database.transaction() as unit:
                await unit.connection.execute(text(f"SELECT pg_advisory_xact_lock({first})"))
                await both.wait()
                await unit.connection.execute(text(f"SELECT pg_advisory_xact_lock({second})"))
        except Unavailable:
            return False
        return True

    assert sorted(await asyncio.gather(lock(1, 2), lock(2, 1))) == [False, True]
    await database.close()


@pytest.mark.engine("postgresql")
async def test_a_full_pool_is_unavailable_in_time(
    postgresql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.database.engine.WAIT_SECONDS", 0.2)
    database = Database(postgresql_url, clock, pool_size=1)
    async with database.reading(), database.reading():  # the pool and its overflow
        with pytest.raises(Unavailable):
            async with database.reading():
                pass
    await database.close()


async def test_what_a_transaction_gathers_is_settled_once_before_the_commit(database: Database) -> None:
    settled: list[list[int]] = []

    async def settle(numbers: list[int]) -> None:
        settled.append(list(numbers))

    async with database.transaction() as unit:
        unit.gather(list, settle).append(1)
        unit.gather(list, settle).append(2)
        assert settled == []
    assert settled == [[1, 2]]


async def test_a_settlement_that_refuses_leaves_nothing_of_the_transaction(database: Database) -> None:
    async def refuse(_: list[int]) -> None:
        raise Conflict("no")

    async def add() -> None:
        async with database.transaction() as unit:
            await unit.connection.execute(insert(outbox).values(row("t")))
            unit.gather(list, refuse)

    with pytest.raises(Conflict):
        await add()
    assert await count(database) == 0
