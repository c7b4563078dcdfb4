"""What every RuntimeDriver keeps of streams: commands run inside, logs, exports. See runtime_driver.py for `world`."""

from __future__ import annotations

import asyncio
import io
import tarfile

import pytest

from agent.runtimes import (
    Channel,
    ContainerUnknown,
    EngineRefused,
    ExecOrder,
    LogQuery,
    NotOurs,
    Piece,
    RuntimeDriver,
    Session,
    Size,
)
from tests.conformance.runtime_driver import AT_ONCE, World, order, started, until
from tests.pace import BUSY_SECONDS


async def read_all(session: Session) -> dict[Channel, bytes]:
    found = dict.fromkeys(Channel, b"")
    while (piece := await session.read()) is not None:
        found[piece.channel] += piece.data
    return found


async def outcome(driver: RuntimeDriver, runtime_id: str, *argv: str, **changes: object) -> tuple[int, bytes, bytes]:
    """(exit code, what it wrote, what it wrote to its errors)."""
    wanted = ExecOrder(argv, **changes)  # type: ignore[arg-type]
    async with asyncio.timeout(20), driver.execute(runtime_id, wanted) as session:
        found = await read_all(session)
        return await session.exit_code(), found[Channel.OUTPUT], found[Channel.ERRORS]


async def lines(driver: RuntimeDriver, runtime_id: str, query: LogQuery, most: int = 1000) -> list[tuple[Channel, str]]:
    found: list[Piece] = []
    async with asyncio.timeout(20), driver.logs(runtime_id, query) as pieces:
        async for piece in pieces:
            found.append(piece)
            if len(found) == most:
                break
    return [(piece.channel, piece.data.decode().rstrip("\n")) for piece in found]


class ExecContract:
    async def test_a_command_says_what_it_has_to_and_ends_with_its_code(self, world: World) -> None:
        runtime_id = await started(world)
        assert await outcome(world.driver, runtime_id, "echo", "hello", "you") == (0, b"hello you\n", b"")
        assert await outcome(world.driver, runtime_id, "sh", "-c", "exit 3") == (3, b"", b"")
        assert await outcome(world.driver, runtime_id, "sh", "-c", "echo oops >&2") == (0, b"", b"oops\n")

    async def test_a_command_has_the_environment_the_folder_and_the_user_that_were_asked_for(
        self, world: World
    ) -> None:
        runtime_id = await started(world)
        _, environment, _ = await outcome(world.driver, runtime_id, "env", environment={"COLOUR": "deep green"})
        assert b"COLOUR=deep green\n" in environment
        assert (await outcome(world.driver, runtime_id, "pwd", working_dir="/tmp"))[1] == b"/tmp\n"
        assert (await outcome(world.driver, runtime_id, "id", "-u", user="65534"))[1] == b"65534\n"

    async def test_what_is_typed_reaches_the_command_until_it_ends(self, world: World) -> None:
        runtime_id = await started(world)
        async with asyncio.timeout(20), world.driver.execute(runtime_id, ExecOrder(("cat",), input=True)) as session:
            await session.write(b"first\n")
            assert await session.read() == Piece(Channel.OUTPUT, b"first\n")
            await session.write(b"second\n")
            await session.end_input()
            assert (await read_all(session))[Channel.OUTPUT] == b"second\n"
            assert await session.exit_code() == 0

    async def test_a_command_without_input_reads_its_end(self, world: World) -> None:
        runtime_id = await started(world)
        assert await outcome(world.driver, runtime_id, "cat") == (0, b"", b"")

    async def test_a_command_at_a_terminal_can_be_typed_to_and_resized(self, world: World) -> None:
        runtime_id = await started(world)
        wanted = ExecOrder(("cat",), terminal=Size(91, 33), input=True)
        async with asyncio.timeout(20), world.driver.execute(runtime_id, wanted) as session:
            await session.resize(Size(101, 43))
            await session.write(b"typed\n")
            piece = await session.read()
            assert piece is not None
            assert piece.data.startswith(b"typed")
            await session.end_input()
            await read_all(session)
            assert await session.exit_code() == 0

    async def test_a_command_that_is_left_is_killed(self, world: World) -> None:
        runtime_id = await started(world)

        async def there() -> bool:
            return "4321" in await world.commands(runtime_id)

        async with world.driver.execute(runtime_id, ExecOrder(("sleep", "4321"))):
            await until(there)

        async def gone() -> bool:
            return "4321" not in await world.commands(runtime_id)

        await until(gone)
        assert "3600" in await world.commands(runtime_id), "the container itself runs on"

    async def test_who_waits_for_output_can_give_up_and_wait_again(self, world: World) -> None:
        runtime_id = await started(world)
        async with asyncio.timeout(20), world.driver.execute(runtime_id, ExecOrder(("cat",), input=True)) as session:
            for word in (b"one\n", b"two\n"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await session.read()
                await session.write(word)
                assert await session.read() == Piece(Channel.OUTPUT, word)

    async def test_endless_output_that_nobody_reads_waits(self, world: World) -> None:
        runtime_id = await started(world)
        async with asyncio.timeout(20), world.driver.execute(runtime_id, ExecOrder(("yes", "again"))) as session:
            await asyncio.sleep(0.1)
            for _ in range(3):
                piece = await session.read()
                assert piece is not None
                assert b"again" in piece.data

    async def test_a_command_ends_with_its_container(self, world: World) -> None:
        runtime_id = await started(world)
        async with asyncio.timeout(20), world.driver.execute(runtime_id, ExecOrder(("sleep", "4321"))) as session:
            await world.driver.stop(runtime_id, AT_ONCE)
            await read_all(session)
            assert await session.exit_code() != 0

    async def test_a_command_that_is_not_there_does_not_succeed(self, world: World) -> None:
        runtime_id = await started(world)
        try:
            code, _, _ = await outcome(world.driver, runtime_id, "no-such-command")
        except EngineRefused:
            return
        assert code in (126, 127)

    async def test_commands_run_only_in_running_containers_of_ours(self, world: World) -> None:
        standing = await world.driver.create(order(world)) if await self._pulled(world) else ""
        foreign = await world.foreign_container("somebody-elses")
        for runtime_id, refusal in ((standing, EngineRefused), (foreign, NotOurs), ("0" * 64, ContainerUnknown)):
            with pytest.raises(refusal):
                await outcome(world.driver, runtime_id, "true")

    @staticmethod
    async def _pulled(world: World) -> bool:
        await world.driver.pull("acme/web", world.manifest)
        return True


class LogContract:
    async def test_logs_are_read_in_order_with_their_channel_and_time(self, world: World) -> None:
        runtime_id = await started(world)
        spoken = [(Channel.OUTPUT, "one"), (Channel.ERRORS, "two"), (Channel.OUTPUT, "three")]
        for number, (channel, text) in enumerate(spoken, 1):
            await world.speak(runtime_id, channel, text)
            await self._until_lines(world, runtime_id, number)
        assert await lines(world.driver, runtime_id, LogQuery()) == spoken
        assert await lines(world.driver, runtime_id, LogQuery(tail=2)) == spoken[1:]
        assert await lines(world.driver, runtime_id, LogQuery(tail=0)) == []
        assert await lines(world.driver, runtime_id, LogQuery(output=False)) == [(Channel.ERRORS, "two")]
        async with world.driver.logs(runtime_id, LogQuery()) as pieces:
            times = [piece.at_ns async for piece in pieces]
        assert times == sorted(times)
        assert await lines(world.driver, runtime_id, LogQuery(since_ns=times[2])) == spoken[2:]

    async def test_who_follows_hears_what_comes_until_the_container_ends(self, world: World) -> None:
        runtime_id = await started(world)
        await world.speak(runtime_id, Channel.OUTPUT, "before")
        await self._until_lines(world, runtime_id, 1)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            following = group.create_task(lines(world.driver, runtime_id, LogQuery(follow=True)))
            first = group.create_task(lines(world.driver, runtime_id, LogQuery(follow=True), most=2))
            await asyncio.sleep(0.05)
            await world.speak(runtime_id, Channel.OUTPUT, "after")
            assert await first == [(Channel.OUTPUT, "before"), (Channel.OUTPUT, "after")]
            await world.driver.stop(runtime_id, AT_ONCE)
            assert await following == [(Channel.OUTPUT, "before"), (Channel.OUTPUT, "after")]

    async def test_who_stops_following_a_silent_container_is_free_at_once(self, world: World) -> None:
        runtime_id = await started(world)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await lines(world.driver, runtime_id, LogQuery(follow=True))
        async with asyncio.timeout(BUSY_SECONDS):
            await world.driver.stop(runtime_id, AT_ONCE)

    async def test_logs_of_a_stopped_container_are_kept(self, world: World) -> None:
        runtime_id = await started(world)
        await world.speak(runtime_id, Channel.OUTPUT, "last words")
        await self._until_lines(world, runtime_id, 1)
        await world.driver.stop(runtime_id, AT_ONCE)
        assert await lines(world.driver, runtime_id, LogQuery(follow=True)) == [(Channel.OUTPUT, "last words")]

    async def test_nobody_elses_logs_are_read(self, world: World) -> None:
        foreign = await world.foreign_container("somebody-elses")
        for runtime_id, refusal in ((foreign, NotOurs), ("0" * 64, ContainerUnknown)):
            with pytest.raises(refusal):
                await lines(world.driver, runtime_id, LogQuery())

    @staticmethod
    async def _until_lines(world: World, runtime_id: str, count: int) -> None:
        async def there() -> bool:
            return len(await lines(world.driver, runtime_id, LogQuery())) == count

        await until(there)


class ExportContract:
    async def test_what_is_exported_is_a_tar_archive(self, world: World) -> None:
        runtime_id = await started(world)
        buffer = io.BytesIO()
        async with asyncio.timeout(30), world.driver.export(runtime_id) as pieces:
            async for piece in pieces:
                buffer.write(piece)
        buffer.seek(0)
        with tarfile.open(fileobj=buffer) as archive:
            assert any(name.endswith("etc/hostname") for name in archive.getnames())

    async def test_an_export_can_be_left_halfway(self, world: World) -> None:
        runtime_id = await started(world)
        async with asyncio.timeout(20), world.driver.export(runtime_id) as pieces:
            async for _ in pieces:
                break
        await world.driver.stop(runtime_id, AT_ONCE)

    async def test_nobody_elses_file_system_is_exported(self, world: World) -> None:
        foreign = await world.foreign_container("somebody-elses")
        with pytest.raises(NotOurs):
            async with world.driver.export(foreign):
                pass
