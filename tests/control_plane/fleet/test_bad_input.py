"""What nobody should send: noise, truncated handshakes, giant messages, a thousand streams, wrong clocks, tokens used
again and again. Each is refused or survived, and seen in a log line and a metric.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from common.channels import identified_channel
from common.clock import SystemClock
from common.enrolment import renew
from common.errors import Failure, Unauthenticated
from common.tls import Identity, Name, new_key_and_request
from control_plane.fleet.certificates import backdating, requested_key
from proto.agent.v1 import agent_pb2_grpc
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import TEMPO, Plane
from tests.pace import BUSY_SECONDS

MakeEdge = Callable[..., Edge]


class SkewedClock(SystemClock):
    """Of a control plane, so that the clocks of its hosts are as much off the other way."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead


@pytest.fixture
async def agent(plane: Plane, edge: MakeEdge) -> Edge:
    agent = edge()
    await agent.enrol(await plane.join_token())
    return agent


def failures_shown(plane: Plane, code: str) -> float:
    lines = generate_latest(plane.registry).decode().splitlines()
    found = [line for line in lines if line.startswith("control_plane_rpc_failures_total") and f'code="{code}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def handshakes_shown(plane: Plane) -> float:
    lines = generate_latest(plane.registry).decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith("control_plane_rpc_handshakes_total")
    )


async def _throw(address: str, data: bytes) -> None:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(BUSY_SECONDS):
            await reader.read()
    except OSError:  # also TimeoutError, and ENOTCONN where the listener has hung up already
        pass
    finally:
        writer.close()


async def test_noise_and_broken_handshakes_on_the_ports_disturb_nobody(plane: Plane, agent: Edge) -> None:
    chance = random.Random(3)
    hello = _client_hello()
    noise = [chance.randbytes(size) for size in (0, 1, 100, 70_000)]
    noise += [hello[:cut] for cut in (1, 5, len(hello) // 2)] + [
        hello + chance.randbytes(500),
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    async with agent.attached():
        await asyncio.gather(*(_throw(at, data) for at in (plane.attach, plane.enrolment) for data in noise))
        await plane.desired.assign(agent.id, a=1)
        await eventually(lambda: "a" in agent.held.items)

    assert not agent.failures
    assert "control_plane_rpc_handshakes_total" in generate_latest(plane.registry).decode()


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


_GIANT = """
import asyncio, sys
from pathlib import Path
import grpc
from common.channels import identified_channel
from common.tls import Identity
import common.channels
async def main():
    identity = Identity.load(Path(sys.argv[2]))
    credentials = grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.secure_channel(sys.argv[1], credentials, options=options) as channel:
        call = channel.stream_stream("/longshore.agent.v1.Agent/Attach")()
        try:
            await call.write(bytes(100_000_000))
            print(await call.read())
        except grpc.aio.AioRpcError as error:
            print(error.code().name)
asyncio.run(main())
"""


async def test_a_message_of_100_megabytes_is_refused_and_not_held(plane: Plane, agent: Edge) -> None:
    before, peak = _resident_bytes(), 0
    giant = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _GIANT, plane.attach, str(agent.directory), stdout=asyncio.subprocess.PIPE
    )
    saying = asyncio.ensure_future(giant.communicate())
    while not saying.done():
        peak = max(peak, _resident_bytes())
        await asyncio.sleep(0.01)
    said, _ = await saying
    async with agent.attached():
        await plane.desired.assign(agent.id, a=1)
        await eventually(lambda: "a" in agent.held.items)

    assert said.decode().strip() == "RESOURCE_EXHAUSTED"
    assert peak - before < 40_000_000


def _resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


async def test_a_thousand_streams_of_one_identity_cost_a_few(plane: Plane, agent: Edge) -> None:
    """They say nothing, so each would wait for its Hello for ten seconds."""
    identity = Identity.load(agent.directory)
    assert identity is not None
    with capture_logs() as logs:
        async with agent.attached():
            channels = [identified_channel(plane.attach, identity) for _ in range(5)]
            calls = [agent_pb2_grpc.AgentStub(channel).Attach() for channel in channels for _ in range(200)]
            ends = await asyncio.wait_for(asyncio.gather(*(call.code() for call in calls)), 60)
            await plane.desired.assign(agent.id, a=1)
            await eventually(lambda: "a" in agent.held.items)
            for channel in channels:
                await channel.close()

    assert {end.name for end in ends} <= {"RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"}
    assert failures_shown(plane, "too_many_streams") > 900
    assert not agent.failures, "the stream that was there first stays"
    assert any(line.get("code") == "too_many_streams" for line in logs)


async def test_a_token_that_a_hundred_machines_show_at_once_is_worth_one_identity(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token()
    machines = [edge(f"e{number}").enrol(token, f"e{number}") for number in range(100)]

    outcomes = await asyncio.gather(*machines, return_exceptions=True)

    assert sum(isinstance(one, Identity) for one in outcomes) == 1
    refused = [one for one in outcomes if isinstance(one, Failure)]
    # Strangers are served 64 at a time; the others are told to come again.
    assert {one.code for one in refused} <= {"join_token_used", "rate_limited", "unavailable"}
    assert len(refused) == 99
    assert failures_shown(plane, "join_token_used") > 10


@pytest.fixture(params=[1, -1], ids=["ahead", "behind"])
async def skewed(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Plane]:
    async with Plane(sqlite_url, clock=SkewedClock(timedelta(hours=request.param)), tempo=TEMPO) as plane:
        yield plane


async def test_a_clock_that_is_an_hour_off_keeps_nobody_out(skewed: Plane, tmp_path: Path) -> None:
    host = Edge(skewed, tmp_path / "identity")
    identity = await host.enrol(await skewed.join_token())
    async with host.attached():
        await skewed.desired.assign(host.id, a=1)
        await eventually(lambda: "a" in host.held.items)
        assert await skewed.state("east/e1") == "online"

    fresh = await renew(identity, skewed.attach)
    assert fresh.name == identity.name


@pytest.mark.parametrize(("life", "before"), [(1, 5), (24, 120), (2160, 120)])
def test_certificates_begin_before_they_are_made(life: int, before: int) -> None:
    assert backdating(timedelta(hours=life)) == timedelta(minutes=before)


async def test_a_certificate_of_ours_for_nobody_we_enrolled_is_refused(plane: Plane, agent: Edge) -> None:
    identity = Identity.load(agent.directory)
    assert identity is not None
    key_pem, csr_pem = new_key_and_request()
    nobody = plane.fleet.authority.issue(Name("east", "host", "nobody"), requested_key(csr_pem))
    Identity(key_pem, nobody.pem, identity.ca_pem).save(agent.directory)

    with capture_logs() as logs:
        failure = await agent.round()

    assert failure.code == "identity_unknown"
    assert [line["code"] for line in logs if line["event"] == "call failed"] == ["identity_unknown"]
    assert failures_shown(plane, "identity_unknown") == 1


async def test_a_certificate_that_expired_opens_no_door_and_is_seen(plane: Plane, agent: Edge) -> None:
    identity = Identity.load(agent.directory)
    assert identity is not None
    key_pem, csr_pem = new_key_and_request()
    two_days_ago = plane.fleet.authority.clock.now() - timedelta(days=2)
    signer, name = plane.fleet.authority.signer, identity.name
    expired = signer.member(name, requested_key(csr_pem), (), two_days_ago, timedelta(days=1))
    begun = handshakes_shown(plane)

    async with identified_channel(plane.attach, Identity(key_pem, expired.pem, identity.ca_pem)) as channel:
        code = await asyncio.wait_for(agent_pb2_grpc.AgentStub(channel).Attach().code(), BUSY_SECONDS)

    assert code.name == "UNAVAILABLE"
    assert handshakes_shown(plane) > begun
    Identity(key_pem, expired.pem, identity.ca_pem).save(agent.directory)
    failure = await agent.round()
    assert isinstance(failure, Unauthenticated)
    assert "expired" in failure.detail


async def test_a_certificate_of_ours_that_was_made_to_serve_opens_no_door(plane: Plane, agent: Edge) -> None:
    identity = Identity.load(agent.directory)
    assert identity is not None
    servers = plane.server_identity()
    shown = Identity(servers.key_pem, servers.certificate_pem, identity.ca_pem)
    async with identified_channel(plane.attach, shown) as channel:
        code = await asyncio.wait_for(agent_pb2_grpc.AgentStub(channel).Attach().code(), 10)

    assert code.name == "UNAVAILABLE"
