"""Logs, commands and consoles, from HTTP to a container and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from agent.runtimes import Channel, EngineCannot
from common.flow import WINDOW_BYTES, SendWindow
from tests.control_plane.channels.lab import INSTANCE, ChannelPlane, Client, Host, heard
from tests.control_plane.fleet.edge import eventually
from tests.pace import BUSY_SECONDS

Clients = Callable[..., Client]


async def quiet(plane: ChannelPlane, host: Host) -> None:
    """Nothing is left of any channel, at either end."""

    def is_quiet() -> bool:
        running = [one for sessions in host.engine.sessions.values() for one in sessions if one.code is None]
        return not (plane.channels.exchange.open_count or host.desk.open_count or running)

    await eventually(is_quiet, "quiet")


async def test_logs_are_text_as_it_was_written(plane: ChannelPlane, host: Host, client: Clients) -> None:
    host.engine.say(host.container, "ready")
    host.engine.say(host.container, "oh", Channel.ERRORS)
    async with client("viewer").logs() as answer:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert await answer.text() == "ready\noh\n"
    async with client().logs(stream="stderr", marked=True) as answer:
        assert await answer.text() == "stderr oh\n"
    async with client().logs(tail=1) as answer:
        assert await answer.text() == "oh\n"
    await quiet(plane, host)


async def test_logs_as_ndjson_name_the_stream_and_the_end(host: Host, client: Clients) -> None:
    host.engine.log(host.container).write(b"ready\n", at_ns=1_700_000_000_000_000_000)
    async with client().logs("application/x-ndjson", since="2023-11-14T22:13:20Z") as answer:
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert lines == [
        {"stream": "stdout", "time": "2023-11-14T22:13:20.000000000Z", "text": "ready\n"},
        {"end": {"code": "ended"}},
    ]


async def test_followed_logs_come_as_they_are_written_and_end_with_the_container(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().logs("application/x-ndjson", follow=True) as answer:
        assert answer.status == 200  # before anything was written
        host.engine.say(host.container, "one")
        assert json.loads(await answer.content.readline())["text"] == "one\n"
        await host.driver.stop(host.container, 0)
        assert json.loads(await answer.content.readline()) == {"end": {"code": "ended"}}
    await quiet(plane, host)


async def test_a_browser_that_leaves_ends_what_it_followed(plane: ChannelPlane, host: Host, client: Clients) -> None:
    async with client().logs(follow=True) as answer:
        assert answer.status == 200
        assert plane.channels.exchange.open_count == 1
        answer.close()
    await quiet(plane, host)


async def test_a_command_runs_with_two_outputs_and_an_exit_code(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    for command, expected in (
        (["echo", "hi"], (b"hi\n", b"", 0)),
        (["sh", "-c", "echo oops >&2"], (b"", b"oops\n", 0)),
        (["sh", "-c", "exit 7"], (b"", b"", 7)),
    ):
        async with client().running(*command) as socket:
            out, err, last = await heard(socket)
            assert (out, err, last) == (*expected[:2], {"type": "exit", "code": expected[2]})
            await socket.receive()
            assert socket.close_code == 1000
    await quiet(plane, host)


async def test_the_last_word_of_a_short_command_is_never_lost(host: Host, client: Clients) -> None:
    async def one() -> None:
        async with client().running("sh", "-c", "exit 3") as socket:
            assert (await heard(socket))[2] == {"type": "exit", "code": 3}

    for _ in range(4):
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(one())


async def test_what_is_typed_arrives_in_order_and_ends_with_the_input(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    sent = b"".join(b"%06d\n" % number for number in range(60_000))  # more than a window
    async with client().running("cat", input=True, environment={"A": "b"}) as socket:
        credit = SendWindow()

        async def type_all() -> None:
            left = sent
            while left:
                room = await credit.take(min(len(left), 16_384))
                await socket.send_bytes(b"\x00" + left[:room])
                left = left[room:]
            await socket.send_json({"type": "input_end"})

        received, last = b"", {}
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(type_all())
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    received += message.data[1:]
                elif message.json()["type"] == "credit":
                    credit.credit(message.json()["bytes"])
                else:
                    last = message.json()
    assert received == sent
    assert last == {"type": "exit", "code": 0}
    await quiet(plane, host)


async def test_a_terminal_has_a_size_that_changes(host: Host, client: Clients) -> None:
    async with client().running("cat", input=True, terminal={"columns": 100, "rows": 30}) as socket:
        ((session,),) = host.engine.sessions.values()
        assert (session.size.columns, session.size.rows) == (100, 30)
        await socket.send_json({"type": "resize", "columns": 120, "rows": 50})
        await eventually(lambda: (session.size.columns, session.size.rows) == (120, 50))


async def test_a_slow_reader_stalls_its_own_channel_only_and_takes_a_window_of_memory(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().running("yes", window=64_000) as slow:
        await asyncio.sleep(0.3)  # it would have written gigabytes
        (line,) = plane.channels.exchange._lines
        assert sum(len(piece.data) for piece in line._from_host) <= WINDOW_BYTES
        async with client().running("echo", "quick") as quick:
            assert (await heard(quick))[0] == b"quick\n"
        received = 0
        while received < 64_000:
            received += len((await slow.receive(timeout=BUSY_SECONDS)).data) - 1
        with pytest.raises(TimeoutError):  # no more comes without credit
            await slow.receive(timeout=0.3)
        await slow.send_json({"type": "credit", "bytes": 10_000})
        assert len((await slow.receive(timeout=BUSY_SECONDS)).data) <= 10_001
    await quiet(plane, host)


async def test_a_console_is_typed_at_and_left_and_the_container_runs_on(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().socket("console") as socket:
        await socket.send_json({"type": "start", "terminal": {"columns": 90, "rows": 20}})
        assert await socket.receive_json() == {"type": "opened"}
        await socket.send_bytes(b"\x00hello")
        assert await socket.receive_bytes() == b"\x01hello"
    await quiet(plane, host)
    assert host.engine.running(INSTANCE)
    assert [act.operation for act in plane.trail.acts] == ["instance.console"]


async def test_a_console_that_the_engine_does_not_have_is_said_to_be_missing(
    host: Host, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> Any:
        raise EngineCannot("this engine has no consoles")

    monkeypatch.setattr(host.driver, "console", missing)
    async with client().socket("console") as socket:
        await socket.send_json({"type": "start"})
        assert (await heard(socket))[2]["code"] == "engine_cannot"


async def test_a_client_that_hangs_up_leaves_no_process_behind(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().running("sleep", "1000"):
        ((session,),) = host.engine.sessions.values()
        assert session.code is None
    await quiet(plane, host)


async def test_a_container_that_goes_ends_its_channels_with_a_word(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().running("sleep", "1000") as socket:
        await host.driver.remove(host.container)
        assert (await heard(socket))[2] == {"type": "exit", "code": 137}
    await quiet(plane, host)


async def test_a_killed_agent_ends_its_channels_with_a_word(plane: ChannelPlane, host: Host, client: Clients) -> None:
    async with client().running("sleep", "1000") as socket, client().logs("application/x-ndjson", follow=True) as logs:
        await host.killed()
        assert (await heard(socket))[2]["code"] == "channel_lost"
        assert json.loads(await logs.content.readline())["end"]["code"] == "channel_lost"
    await quiet(plane, host)


async def test_a_control_plane_that_stops_says_so_at_both_ends(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().running("sleep", "1000") as socket:
        await plane.channels.__aexit__(None, None, None)
        _, _, last = await heard(socket)
        assert (last["code"], last["detail"]) == ("unavailable", "the control plane stops")
    async with client().logs() as answer:
        assert answer.status == 503
    await quiet(plane, host)


async def test_an_engine_that_is_away_is_named(host: Host, client: Clients) -> None:
    host.engine.away = True
    async with client().logs() as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "engine_away"


async def test_an_instance_that_has_no_container_yet_has_no_logs(host: Host, client: Clients) -> None:
    await host.driver.remove(host.container)
    async with client().logs() as answer:
        assert answer.status == 404
        assert (await answer.json())["code"] == "nothing_on_host"


async def test_a_container_that_stands_still_runs_nothing(host: Host, client: Clients) -> None:
    await host.driver.stop(host.container, 0)
    async with client().socket() as socket:
        await socket.send_json({"type": "start", "command": ["ls"]})
        assert (await heard(socket))[2]["code"] == "engine_refused"


async def test_a_defect_of_a_driver_ends_the_channel_and_not_the_agent(
    plane: ChannelPlane, host: Host, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(host.driver, "execute", broken)
    async with client().socket() as socket:
        await socket.send_json({"type": "start", "command": ["ls"]})
        assert (await heard(socket))[2]["code"] == "internal"
    async with client().logs() as answer:
        assert answer.status == 200


async def test_a_command_is_in_the_trail_with_its_words_before_it_runs_and_nothing_that_is_typed(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    async with client().running("cat", input=True) as socket:
        (act,) = plane.trail.acts
        assert (act.operation, act.tenant, act.subject, act.operator.name) == ("instance.exec", "acme", "web", "olga")
        assert act.details["command"] == ["cat"]
        assert act.details["instance_id"] == INSTANCE
        await socket.send_bytes(b"\x00hunter2")
        await socket.send_json({"type": "input_end"})
        await heard(socket)
    assert "hunter2" not in str(plane.trail.acts)
    async with client("viewer").logs() as answer:
        assert answer.status == 200
    assert len(plane.trail.acts) == 1
