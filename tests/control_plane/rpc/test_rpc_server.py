"""Listeners: ports, certificates, who gets in, and what callers are told of failures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from common.channels import anonymous_channel, identified_channel
from common.clock import ManualClock, SystemClock
from common.errors import Invalid
from common.rpc_failures import failure_of
from common.tls import Identity, Name, new_key_and_request, private_key_pem
from control_plane.fleet.authority import Authority
from control_plane.fleet.certificates import Signer, new_authority, requested_key
from control_plane.rpc.peers import PeerIdentity, PeerUnknown, peer_of
from control_plane.rpc.server import AddressMalformed, ListenerFailed, RpcListener, ServerIdentity
from proto.enrolment.v1 import enrolment_pb2, enrolment_pb2_grpc
from tests.pace import BUSY_SECONDS

CLOCK = SystemClock()


class Renewal(enrolment_pb2_grpc.RenewalServicer):
    """Answers by what is asked: fails as told, or says who called."""

    def __init__(self) -> None:
        self.peers: list[PeerIdentity] = []

    async def Renew(self, request: enrolment_pb2.RenewRequest, context: Any) -> enrolment_pb2.RenewReply:  # noqa: N802
        if request.csr_pem == b"invalid":
            raise Invalid("the request is wrong", action="mend it")
        if request.csr_pem == b"defect":
            raise ZeroDivisionError("secret")
        self.peers.append(peer_of(context))
        return enrolment_pb2.RenewReply(certificate_pem=self.peers[-1].serial.encode())


@pytest.fixture(scope="module")
def authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(Signer(new_authority(key, CLOCK.now()), key), CLOCK, timedelta(hours=1))


def server_identity(authority: Authority) -> ServerIdentity:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.signer.server(["127.0.0.1"], key.public_key(), CLOCK.now(), timedelta(hours=1))
    return ServerIdentity(private_key_pem(key), issued.pem, authority.ca_pem)


def member_identity(authority: Authority) -> Identity:
    key_pem, csr_pem = new_key_and_request()
    issued = authority.issue(Name("east", "host", "h1"), requested_key(csr_pem))
    return Identity(key_pem, issued.pem, authority.ca_pem)


@pytest.fixture
def service() -> Renewal:
    return Renewal()


@pytest.fixture
def register(service: Renewal) -> Callable[[grpc.aio.Server], None]:
    return lambda server: enrolment_pb2_grpc.add_RenewalServicer_to_server(service, server)


@pytest.fixture
async def listener(authority: Authority, register: Callable[[grpc.aio.Server], None]) -> AsyncIterator[RpcListener]:
    identity = server_identity(authority)
    async with RpcListener("attach", "127.0.0.1:0", lambda: identity, [register], mutual=True) as listener:
        yield listener


async def call(channel: grpc.aio.Channel, csr_pem: bytes = b"") -> bytes:
    async with channel:
        stub = enrolment_pb2_grpc.RenewalStub(channel)
        return (await stub.Renew(enrolment_pb2.RenewRequest(csr_pem=csr_pem), timeout=BUSY_SECONDS)).certificate_pem


async def failure(channel: grpc.aio.Channel, csr_pem: bytes = b"") -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, csr_pem)
    return failure_of(caught.value, "calling")


async def test_a_free_port_is_chosen_and_named(listener: RpcListener) -> None:
    host, _, port = listener.address.rpartition(":")

    assert host == "127.0.0.1"
    assert int(port) > 0


async def test_a_port_in_use_is_refused_by_name_and_never_shared(
    listener: RpcListener, authority: Authority, register: Callable[[grpc.aio.Server], None]
) -> None:
    identity = server_identity(authority)
    second = RpcListener("attach", listener.address, lambda: identity, [register], mutual=True)

    with pytest.raises(ListenerFailed) as refusal:
        await second.__aenter__()

    assert listener.address in refusal.value.detail


@pytest.mark.parametrize("address", ["8444", "host:", ":1", "host:99999", "host:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(AddressMalformed):
        RpcListener("attach", address, lambda: None, [], mutual=True)  # type: ignore


async def test_a_member_is_known_by_its_certificate(
    listener: RpcListener, authority: Authority, service: Renewal
) -> None:
    serial = await call(identified_channel(listener.address, member_identity(authority)))

    assert service.peers[0].name == Name("east", "host", "h1")
    assert service.peers[0].serial == serial.decode()


async def test_nobody_without_a_certificate_of_ours_gets_in(
    listener: RpcListener, authority: Authority, service: Renewal
) -> None:
    stranger_key = ec.generate_private_key(ec.SECP256R1())
    strangers = Authority(Signer(new_authority(stranger_key, CLOCK.now()), stranger_key), CLOCK, timedelta(hours=1))
    forged = member_identity(strangers)
    forged = Identity(forged.key_pem, forged.certificate_pem, authority.ca_pem)

    await failure(anonymous_channel(listener.address, authority.ca_pem))
    await failure(identified_channel(listener.address, forged))

    assert service.peers == []


async def test_an_expired_certificate_does_not_get_in(
    listener: RpcListener, authority: Authority, service: Renewal
) -> None:
    short = Authority(authority.signer, CLOCK, timedelta(seconds=-1))

    await failure(identified_channel(listener.address, member_identity(short)))

    assert service.peers == []


async def test_a_certificate_of_the_future_does_not_get_in(
    listener: RpcListener, authority: Authority, service: Renewal
) -> None:
    tomorrow = Authority(authority.signer, ManualClock(CLOCK.now() + timedelta(days=1)), timedelta(hours=1))

    await failure(identified_channel(listener.address, member_identity(tomorrow)))

    assert service.peers == []


async def test_a_client_that_expects_another_authority_does_not_talk(
    listener: RpcListener, authority: Authority
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    other_ca = Authority(Signer(new_authority(key, CLOCK.now()), key), CLOCK, timedelta(hours=1)).ca_pem
    ours = member_identity(authority)

    found = await failure(identified_channel(listener.address, Identity(ours.key_pem, ours.certificate_pem, other_ca)))

    assert found.code == "unavailable"


async def test_a_renewed_server_certificate_is_shown_without_a_restart(
    authority: Authority, register: Callable[[grpc.aio.Server], None]
) -> None:
    current = [server_identity(authority)]
    async with RpcListener("enrolment", "127.0.0.1:0", lambda: current[0], [register], mutual=True) as listener:
        await call(identified_channel(listener.address, member_identity(authority)))
        key = ec.generate_private_key(ec.SECP256R1())
        wrong_name = authority.signer.server(["elsewhere"], key.public_key(), CLOCK.now(), timedelta(hours=1))
        current[0] = ServerIdentity(private_key_pem(key), wrong_name.pem, authority.ca_pem)

        found = await failure(identified_channel(listener.address, member_identity(authority)))

    assert found.code == "unavailable", "the new certificate names another host"


async def test_failures_are_told_as_they_are_and_defects_by_an_identifier(
    listener: RpcListener, authority: Authority
) -> None:
    told = await failure(identified_channel(listener.address, member_identity(authority)), b"invalid")
    with capture_logs() as logs:
        defect = await failure(identified_channel(listener.address, member_identity(authority)), b"defect")

    assert (told.code, told.detail, told.action) == ("invalid", "the request is wrong", "mend it")
    assert defect.code == "internal"
    assert "secret" not in str(defect)
    assert logs[0]["correlation_id"] == defect.facts["id"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_without_mutual_tls_nobody_is_known(
    authority: Authority, register: Callable[[grpc.aio.Server], None]
) -> None:
    identity = server_identity(authority)
    async with RpcListener("enrolment", "127.0.0.1:0", lambda: identity, [register], mutual=False) as listener:
        found = await failure(anonymous_channel(listener.address, authority.ca_pem))

    assert found.code == PeerUnknown.code
