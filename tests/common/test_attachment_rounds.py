"""One round of attachment against a server that does what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from common.attachment import Attachment, Dialect, Sender, attach_forever
from common.clock import SystemClock
from common.errors import Failure, Internal, Unauthenticated, Unavailable
from common.patience import NotWelcomed, RoundEnded
from common.tls import Identity, Name, new_key_and_request, private_key_pem
from control_plane.fleet.authority import Authority
from control_plane.fleet.certificates import Signer, new_authority, requested_key
from control_plane.rpc.server import RpcListener, ServerIdentity
from proto.agent.v1 import agent_pb2, agent_pb2_grpc
from tests.pace import BUSY_SECONDS

CLOCK = SystemClock()
WELCOME = agent_pb2.PlaneMessage(welcome=agent_pb2.Welcome(heartbeat_seconds=0.05, host_id="h1"))
SET = agent_pb2.PlaneMessage(set=agent_pb2.AssignmentSet(results_in=1))


class Agent(agent_pb2_grpc.AgentServicer):
    """`behave` is one stream, read and written through the context."""

    def __init__(self) -> None:
        self.behave: Callable[[Any], Awaitable[None]] = self.welcome_and_wait
        self.heard: list[Any] = []

    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await self.behave(context)

    async def welcome_and_wait(self, context: Any) -> None:
        self.heard.append(await context.read())
        await context.write(WELCOME)
        await context.write(SET)
        while (message := await context.read()) is not grpc.aio.EOF:
            self.heard.append(message)


@dataclass
class Handler:
    log: list[str] = field(default_factory=list)
    failure: BaseException | None = None
    sender: Sender[Any] | None = None
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def welcomed(self, welcome: Any, sender: Sender[Any]) -> None:
        self.log.append("welcomed")
        self.sender = sender

    async def received(self, message: Any) -> None:
        self.log.append(message.WhichOneof("body"))
        self.told.set()
        if self.failure is not None:
            raise self.failure

    async def ended(self) -> None:
        self.log.append("ended")


@pytest.fixture(scope="module")
def authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(Signer(new_authority(key, CLOCK.now()), key), CLOCK, timedelta(hours=1))


@pytest.fixture
def service() -> Agent:
    return Agent()


@pytest.fixture
async def address(authority: Authority, service: Agent) -> AsyncIterator[str]:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.signer.server(["127.0.0.1"], key.public_key(), CLOCK.now(), timedelta(hours=1))
    shown = ServerIdentity(private_key_pem(key), issued.pem, authority.ca_pem)

    def register(server: grpc.aio.Server) -> None:
        agent_pb2_grpc.add_AgentServicer_to_server(service, server)

    async with RpcListener(
        "attach", "127.0.0.1:0", lambda: shown, [register], mutual=True, grace_seconds=0
    ) as listener:
        yield listener.address


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def attachment(authority: Authority, address: str, handler: Handler, tmp_path: Path) -> Attachment[Any, Any]:
    key_pem, csr_pem = new_key_and_request()
    issued = authority.issue(Name("east", "host", "h1"), requested_key(csr_pem))
    Identity(key_pem, issued.pem, authority.ca_pem).save(tmp_path)
    dialect: Dialect[Any, Any] = Dialect(
        open=lambda channel: agent_pb2_grpc.AgentStub(channel).Attach(),
        hello=lambda: agent_pb2.AgentMessage(hello=agent_pb2.Hello(process_id="p")),
        heartbeat=lambda sequence: agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(sequence=sequence)),
        probe_reply=lambda nonce: agent_pb2.AgentMessage(probe_reply=agent_pb2.ProbeReply(nonce=nonce)),
        heartbeat_seconds=lambda down: down.welcome.heartbeat_seconds if down.HasField("welcome") else None,
        probe_nonce=lambda down: down.probe.nonce if down.HasField("probe") else None,
    )

    async def where() -> str:
        return address

    return Attachment(dialect, handler, tmp_path, where, CLOCK, lambda: 0.5)


async def ending_of(attachment: Attachment[Any, Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(20):
            await attachment.run_round()
    return caught.value


async def test_the_order_of_a_round(attachment: Attachment[Any, Any], service: Agent, handler: Handler) -> None:
    async def one_of_each(context: Any) -> None:
        service.heard.append(await context.read())
        await context.write(WELCOME)
        await context.write(SET)
        await context.write(agent_pb2.PlaneMessage(probe=agent_pb2.Probe(nonce="n")))
        while not any(found.HasField("probe_reply") for found in service.heard[1:]):
            service.heard.append(await context.read())
        while not any(found.heartbeat.sequence == 3 for found in service.heard[1:]):
            service.heard.append(await context.read())

    service.behave = one_of_each
    ending = await ending_of(attachment)

    assert isinstance(ending, RoundEnded)
    assert handler.log == ["welcomed", "set", "ended"], "probes are answered below the handler"
    assert service.heard[0].hello.process_id == "p"
    beats = [found.heartbeat.sequence for found in service.heard if found.HasField("heartbeat")]
    assert beats == [1, 2, 3]


async def test_a_server_that_does_not_begin_with_welcome_is_left(
    attachment: Attachment[Any, Any], service: Agent, handler: Handler
) -> None:
    async def rude(context: Any) -> None:
        await context.write(SET)
        await context.read()
        await context.read()

    service.behave = rude

    assert isinstance(await ending_of(attachment), Internal)
    assert handler.log == []


async def test_a_server_that_says_nothing_is_left_after_a_while(
    attachment: Attachment[Any, Any], service: Agent, handler: Handler
) -> None:
    async def silent(context: Any) -> None:
        await asyncio.Event().wait()

    service.behave = silent
    attachment.patience.welcome_seconds = 0.2

    ending = await ending_of(attachment)

    assert isinstance(ending, NotWelcomed)
    assert "did not answer within" in ending.detail
    assert handler.log == []


async def test_a_server_that_hangs_up_at_once_is_a_round_that_ended(
    attachment: Attachment[Any, Any], service: Agent
) -> None:
    async def hang_up(context: Any) -> None:
        return

    service.behave = hang_up

    # RoundEnded, or plain Unavailable when it hung up while Hello was written. Never a defect, never a refusal.
    assert isinstance(await ending_of(attachment), Unavailable)


async def test_nobody_at_the_address_is_unavailable(attachment: Attachment[Any, Any], handler: Handler) -> None:
    async def nowhere() -> str:
        return "127.0.0.1:1"

    attachment.address = nowhere

    assert isinstance(await ending_of(attachment), Unavailable)
    assert handler.log == []


async def test_a_disk_that_fails_in_the_handler_ends_the_round(
    attachment: Attachment[Any, Any], handler: Handler
) -> None:
    handler.failure = OSError(28, "No space left on device")

    ending = await ending_of(attachment)

    assert isinstance(ending, Unavailable)
    assert "No space left" in ending.detail
    assert handler.log == ["welcomed", "set", "ended"]


async def test_a_defect_in_the_handler_is_not_hidden(attachment: Attachment[Any, Any], handler: Handler) -> None:
    handler.failure = ZeroDivisionError("ours")

    with pytest.raises(ExceptionGroup) as caught:
        await attachment.run_round()

    assert caught.value.subgroup(ZeroDivisionError) is not None
    assert handler.log[-1] == "ended"


async def test_cancelling_a_round_ends_it_and_the_sender(
    attachment: Attachment[Any, Any], handler: Handler, service: Agent
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(attachment.run_round())
        async with asyncio.timeout(BUSY_SECONDS):
            await handler.told.wait()
        running.cancel()

    assert handler.log == ["welcomed", "set", "ended"]
    assert handler.sender is not None
    with pytest.raises(RoundEnded):
        handler.sender.send(agent_pb2.AgentMessage())


async def test_an_expired_certificate_says_so_before_anything_is_dialled(
    attachment: Attachment[Any, Any], authority: Authority, service: Agent, tmp_path: Path
) -> None:
    key_pem, csr_pem = new_key_and_request()
    short = Authority(authority.signer, CLOCK, timedelta(seconds=-1))
    issued = short.issue(Name("east", "host", "h1"), requested_key(csr_pem))
    Identity(key_pem, issued.pem, authority.ca_pem).save(tmp_path)

    ending = await ending_of(attachment)

    assert isinstance(ending, Unauthenticated)
    assert "expired at" in ending.detail
    assert "enrol again" in ending.action
    assert service.heard == []


async def test_without_an_identity_the_way_to_one_is_named(attachment: Attachment[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "identity.pem").unlink()

    assert "join token" in (await ending_of(attachment)).action


async def test_a_stop_that_meets_a_broken_stream_still_stops() -> None:
    class Breaking:
        """A round whose stream breaks in the moment it is cancelled: its task group then raises the break alone."""

        async def run_round(self) -> NoReturn:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise Unavailable("the stream broke") from None
            raise AssertionError

    attaching = asyncio.ensure_future(attach_forever(cast(Any, Breaking()), SystemClock()))
    await asyncio.sleep(0)
    attaching.cancel()
    async with asyncio.timeout(BUSY_SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await attaching
