"""Who may open a channel, how many, for how long; and what is not believed of hosts, pages and clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from common.channels import identified_channel
from common.errors import Failure
from common.rpc_failures import failure_of
from common.tls import Identity
from control_plane.channels.exchange import Exchange
from control_plane.channels.model import ChannelUnknown, TooManyChannels
from control_plane.events.memory import MemoryEventBus
from proto.agent.v1 import channels_pb2, channels_pb2_grpc
from tests.control_plane.channels.lab import INSTANCE, LIMITS, ChannelPlane, Client, Host, heard, host_of
from tests.control_plane.fleet.edge import eventually
from tests.pace import BUSY_SECONDS

Clients = Callable[..., Client]


async def test_logs_are_for_those_who_may_read_the_instance(host: Host, client: Clients) -> None:
    for who, status in ((None, 401), ("nonsense", 401), ("stranger", 404), ("viewer", 200)):
        async with client(who).logs() as answer:
            assert answer.status == status, who


async def test_typing_is_for_those_who_may_run_commands(plane: ChannelPlane, host: Host, client: Clients) -> None:
    for what in ("exec", "console"):
        for who, status in ((None, 401), ("nonsense", 401), ("stranger", 404), ("viewer", 403)):
            plane.refusals.clear()
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client(who).socket(what)
            assert refused.value.status == status, (what, who)
            assert len(plane.refusals) == 1
    assert host.orders == []
    assert plane.trail.acts == []


async def test_an_instance_that_is_not_there_is_unknown_to_everybody(host: Host, client: Clients) -> None:
    nowhere = INSTANCE.replace("aa", "bb")
    for who in ("operator", "admin"):
        async with client(who).logs(instance=nowhere) as answer:
            assert answer.status == 404
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await client(who).socket(instance=nowhere)


async def test_a_page_of_another_site_opens_no_socket(host: Host, client: Clients) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "file://"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client().socket(headers={"Origin": origin})
        assert refused.value.status == 403


async def test_our_own_page_opens_one_with_its_token_beside_the_protocol(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    protocols = ("longshore.channel.v1", "longshore.bearer.operator")
    async with client(None).socket(headers={"Origin": f"http://{plane.api}"}, protocols=protocols) as socket:
        assert socket.protocol == "longshore.channel.v1"
        await socket.send_json({"type": "start", "command": ["echo", "hi"]})
        assert (await heard(socket))[0] == b"hi\n"


async def test_a_token_in_the_address_is_none(host: Host, plane: ChannelPlane, client: Clients) -> None:
    url = f"http://{plane.api}/api/v1/instances/{INSTANCE}/logs?access_token=operator&token=operator"
    async with client(None).http.get(url) as answer:
        assert answer.status == 401


BROKEN: list[list[Any]] = [
    [{"type": "start"}],
    [{"type": "start", "command": []}],
    [b"\x00ls"],
    [{"type": "start", "command": ["cat"], "input": True}, b"\x07x"],
    [{"type": "start", "command": ["cat"], "input": True}, {"type": "credit", "bytes": 1}],
    [{"type": "start", "command": ["sleep"], "window": 10}, {"type": "credit", "bytes": 1}],
    [{"type": "start", "command": ["sleep"], "input": True}, *[b"\x00" + bytes(65_536)] * 5],
]


async def test_a_client_that_breaks_the_protocol_is_told_and_hung_up_on(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    for frames in BROKEN:
        async with client().socket() as socket:
            for frame in frames:
                await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_json(frame))
            word = (await heard(socket))[2]
            assert word["type"] == "error", frames[:2]
            assert word["code"] in ("frame_malformed", "flow_broken", "channel_request_invalid")
        await eventually(lambda: not plane.channels.exchange.open_count)


async def test_who_may_no_more_is_cut_off_while_it_types(plane: ChannelPlane, host: Host, client: Clients) -> None:
    async with client().running("cat", input=True) as socket:
        plane.names.gone.add("operator")
        assert (await heard(socket))[2]["code"] == "unauthenticated"


async def test_a_revoked_host_loses_its_channels(plane: ChannelPlane, host: Host, client: Clients) -> None:
    async with client().running("cat", input=True) as socket:
        await plane.fleet.members.revoke("host", "east/e1")
        assert (await heard(socket))[2]["code"] == "host_away"


async def test_a_channel_in_which_nothing_moves_is_closed(plane: ChannelPlane, host: Host, client: Clients) -> None:
    plane.channels.exchange.limits = replace(LIMITS, idle_seconds=0.3)
    async with client().running("sleep", "1000") as socket:
        assert (await heard(socket))[2]["code"] == "channel_expired"
    plane.channels.exchange.limits = replace(LIMITS, longest_seconds=0.5)
    async with client().running("yes") as socket:
        assert (await heard(socket))[2]["code"] == "channel_expired"
    await eventually(lambda: not host.desk.open_count)


async def test_a_host_that_does_not_come_is_waited_for_only_so_long(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    plane.channels.exchange.limits = replace(LIMITS, open_seconds=0.3)
    host.deaf = True
    async with client().logs() as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "channel_not_opened"
    host.desk.asked(host.orders[0])  # too late: nothing is begun
    await eventually(lambda: not host.desk.open_count)
    assert not host.engine.sessions


async def test_a_host_that_is_not_attached_is_not_waited_for(plane: ChannelPlane, host: Host, client: Clients) -> None:
    plane.told.put(host.edge.id, "e1", plane.clock)
    await plane.fleet.members.revoke("host", "east/e1")
    async with client().logs() as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "host_away"


async def test_only_so_many_channels_are_open_at_once(plane: ChannelPlane, host: Host, client: Clients) -> None:
    plane.channels.exchange.limits = replace(LIMITS, per_user=1)
    async with client().running("sleep", "1000"):
        async with client().logs() as answer:
            assert answer.status == 429
            assert (await answer.json())["code"] == "too_many_channels"
        async with client("viewer").logs() as answer:
            assert answer.status == 200
    await eventually(lambda: not plane.channels.exchange.open_count)
    async with client().logs() as answer:
        assert answer.status == 200


def test_every_limit_counts_and_is_given_back(plane_clock: Any) -> None:
    exchange = Exchange(replace(LIMITS, per_host=1, per_tenant=2, per_user=2), plane_clock)
    with exchange.line("h1", "acme", "u1"):
        for host_id, tenant, user in (("h1", "globex", "u2"),):
            with pytest.raises(TooManyChannels), exchange.line(host_id, tenant, user):
                pass
        with exchange.line("h2", "acme", "u1"):
            for host_id, tenant, user in (("h3", "acme", "u2"), ("h3", "globex", "u1")):
                with pytest.raises(TooManyChannels), exchange.line(host_id, tenant, user):
                    pass
            with exchange.line("h3", "globex", "u2"):
                assert exchange.open_count == 3
    assert exchange.open_count == 0
    assert not exchange._counts
    with exchange.line("h1", "acme", "u1"):
        pass


def test_a_tenant_cannot_take_all_channels_of_a_host(plane_clock: Any) -> None:
    exchange = Exchange(replace(LIMITS, per_host=4), plane_clock)
    with exchange.line("h1", "acme", "u1"), exchange.line("h1", "acme", "u2"):
        with pytest.raises(TooManyChannels), exchange.line("h1", "acme", "u3"):
            pass
        with exchange.line("h1", "globex", "u4"):
            pass


def test_a_channel_is_claimed_once_by_its_own_host_with_its_own_secret(plane_clock: Any) -> None:
    exchange = Exchange(LIMITS, plane_clock)
    with exchange.line("h1", "acme", "u1") as (line, secret):
        for channel_id, word, host_id in ((line.id, "guess", "h1"), (line.id, secret, "h2"), ("other", secret, "h1")):
            with pytest.raises(ChannelUnknown):
                exchange.claim(channel_id, word, host_id)
        assert exchange.claim(line.id, secret, "h1") is line
        with pytest.raises(ChannelUnknown):
            exchange.claim(line.id, secret, "h1")
    with exchange.line("h1", "acme", "u1") as (line, secret):
        pass
    with pytest.raises(ChannelUnknown):
        exchange.claim(line.id, secret, "h1")


@pytest.fixture
def plane_clock(clock: Any) -> Any:
    return clock


async def come(plane: ChannelPlane, identity: Identity, *messages: channels_pb2.ChannelUp) -> Failure | None:
    """What the control plane says to a host that says this."""
    async with identified_channel(plane.channels.service.address(), identity) as channel:
        call = channels_pb2_grpc.ChannelsStub(channel).Serve()
        try:
            for message in messages:
                await call.write(message)
            async with asyncio.timeout(BUSY_SECONDS):
                while await call.read() is not grpc.aio.EOF:
                    pass
        except grpc.aio.AioRpcError as error:
            return failure_of(error, "coming")
        if await call.code() is grpc.StatusCode.OK:
            return None
        return failure_of(
            grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            ),
            "coming",
        )


async def test_another_host_cannot_take_a_channel_even_with_its_secret(
    plane: ChannelPlane, host: Host, client: Clients, tmp_path: Path
) -> None:
    host.deaf = True
    async with host_of(plane, tmp_path, "e2") as thief:
        asking = asyncio.ensure_future(client().logs().__aenter__())
        await eventually(lambda: host.orders)
        order = host.orders[0]
        identity = Identity.load(thief.edge.directory)
        assert identity is not None
        hello = channels_pb2.ChannelHello(channel_id=order.channel_id, secret=order.secret)
        refused = await come(plane, identity, channels_pb2.ChannelUp(hello=hello))
        assert refused is not None
        assert refused.code == "channel_unknown"
        host.desk.asked(order)  # it is still there for whom it was meant
        answer = await asking
        assert answer.status == 200
        answer.release()


async def test_a_host_that_does_not_say_hello_is_sent_away(plane: ChannelPlane, host: Host) -> None:
    identity = Identity.load(host.edge.directory)
    assert identity is not None
    for message in (channels_pb2.ChannelUp(opened=channels_pb2.ChannelOpened()), channels_pb2.ChannelUp()):
        refused = await come(plane, identity, message)
        assert refused is not None
        assert refused.code == "channel_hello_invalid"


async def test_a_host_that_sends_more_than_it_may_loses_the_channel(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    host.deaf = True
    identity = Identity.load(host.edge.directory)
    assert identity is not None
    async with client().socket() as socket:
        await socket.send_json({"type": "start", "command": ["ls"], "window": 1})
        await eventually(lambda: host.orders)
        order = host.orders[0]
        hello = channels_pb2.ChannelHello(channel_id=order.channel_id, secret=order.secret)
        piece = channels_pb2.ChannelPiece(data=bytes(65_536))
        await come(
            plane,
            identity,
            channels_pb2.ChannelUp(hello=hello),
            channels_pb2.ChannelUp(opened=channels_pb2.ChannelOpened()),
            *[channels_pb2.ChannelUp(piece=piece)] * 5,
        )
        (line,) = plane.channels.exchange._lines
        assert line.over
        assert sum(len(waiting.data) for waiting in line._from_host) <= 262_144


@pytest.fixture
async def replicas(sqlite_url: str) -> AsyncIterator[tuple[ChannelPlane, ChannelPlane]]:
    bus = MemoryEventBus()
    async with ChannelPlane(sqlite_url, bus=bus) as one, ChannelPlane(sqlite_url, bus=bus) as other:
        yield one, other


async def test_a_request_at_one_replica_reaches_a_host_that_is_attached_to_the_other(
    replicas: tuple[ChannelPlane, ChannelPlane], tmp_path: Path
) -> None:
    one, other = replicas
    async with host_of(one, tmp_path) as host, aiohttp.ClientSession() as http:
        for plane in replicas:
            plane.told.put(host.edge.id, "e1", plane.clock)
        assert one.fleet.sessions.find("host", host.edge.id) is not None
        assert other.fleet.sessions.find("host", host.edge.id) is None
        await eventually(lambda: _online(other), "the other replica sees the host online")
        client = Client(other, http)
        async with client.running("cat", input=True) as socket:
            assert (other.channels.exchange.open_count, one.channels.exchange.open_count) == (1, 0)
            await socket.send_bytes(b"\x00across")
            await socket.send_json({"type": "input_end"})
            assert (await heard(socket))[0] == b"across"


async def _online(plane: ChannelPlane) -> bool:
    return await plane.state("east/e1") == "online"


async def test_an_address_that_hosts_do_not_reach_is_made_up_for_by_the_usual_one(
    plane: ChannelPlane, host: Host, client: Clients
) -> None:
    usual = plane.channels.service.address()
    plane.channels.service.address = lambda: "127.0.0.1:1"

    async def known() -> str:
        return usual

    host.desk._address = known
    async with client().logs() as answer:
        assert answer.status == 200
