"""Enrolment as a new machine meets it: HTTP, TLS and gRPC on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

import aiohttp
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from common.channels import anonymous_channel, identified_channel
from common.clock import ManualClock, SystemClock
from common.enrolment import WrongAuthority, keep_renewed, renew, renewal_moment
from common.errors import Conflict, Denied, Unauthenticated, Unavailable
from common.join_token import JoinToken
from common.tls import CertificateInvalid, Identity, new_key_and_request, private_key_pem
from control_plane.fleet.certificates import new_authority
from proto.enrolment.v1 import enrolment_pb2, enrolment_pb2_grpc
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Plane
from tests.pace import BUSY_SECONDS

MakeEdge = Callable[..., Edge]


async def test_a_join_token_is_worth_one_identity(plane: Plane, edge: MakeEdge) -> None:
    identity = await edge("e1").enrol(await plane.join_token())

    assert identity.name.uri() == f"longshore://idc/east/host/{identity.name.id}"
    assert Identity.load(edge("e1").directory) == identity
    host = (await plane.fleet.members.get("host", "east/e1")).member
    assert (host.id, host.version) == (identity.name.id, "1.2")
    assert [path.name for path in edge("e1").directory.iterdir() if "pending" in path.name] == []


async def test_a_server_with_another_authority_than_the_tokens_is_refused_before_anything_is_sent(
    plane: Plane, edge: MakeEdge
) -> None:
    token = JoinToken.parse(await plane.join_token())
    forged = str(JoinToken("0" * 64, token.id, token.secret))

    with pytest.raises(WrongAuthority):
        await edge().enrol(forged)

    assert not edge().directory.exists()
    await edge().enrol(str(token))


async def test_a_used_token_is_refused_to_another_machine(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token()
    await edge("e1").enrol(token)

    with pytest.raises(Unauthenticated) as refusal:
        await edge("e2").enrol(token, "e2")

    assert refusal.value.code == "join_token_used"
    assert "one token for each machine" in refusal.value.action


async def test_an_expired_token_is_refused(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token(life=timedelta(milliseconds=1))

    with pytest.raises(Unauthenticated) as refusal:
        await edge().enrol(token)

    assert refusal.value.code == "join_token_expired"


async def test_a_token_that_nobody_made_is_unknown(plane: Plane, edge: MakeEdge) -> None:
    token = JoinToken.parse(await plane.join_token())

    with pytest.raises(Unauthenticated) as refusal:
        await edge().enrol(str(JoinToken(token.ca_hash, token.id, b"wrong" * 4)))

    assert refusal.value.code == "join_token_unknown"


async def test_a_retry_after_a_lost_reply_gets_the_same_identity(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token()
    first = await edge("e1").enrol(token)
    # As if the process was killed after the reply, before it was saved: the key is there, the certificate is not.
    (edge("e1").directory / "identity.pem").unlink()
    (edge("e1").directory / "pending-key.pem").write_bytes(first.key_pem)

    second = await edge("e1").enrol(token)

    assert second.name == first.name
    assert second.certificate_pem != first.certificate_pem


async def test_the_key_is_durable_before_the_token_is_spent(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token()
    directory = edge("e1").directory
    with pytest.raises(Unauthenticated):
        await edge("e1").enrol(await plane.join_token(life=timedelta(milliseconds=1)))
    pending = (directory / "pending-key.pem").read_bytes()

    identity = await edge("e1").enrol(token)

    assert identity.key_pem == pending
    assert (directory / "identity.pem").stat().st_mode & 0o777 == 0o600


async def test_a_regionals_token_is_refused_to_an_agent_unspent(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token("regional")

    with pytest.raises(Conflict) as refusal:
        await edge("e1").enrol(token)
    identity = await edge("r1", kind="regional").enrol(token, "r1", addresses=["127.0.0.1", "r1.example"])

    assert refusal.value.code == "join_token_for_other"
    assert identity.name.kind == "regional"


async def test_a_certificate_renews_to_the_same_identity_with_a_fresh_key(plane: Plane, edge: MakeEdge) -> None:
    identity = await edge().enrol(await plane.join_token())

    fresh = await renew(identity, plane.attach)

    assert fresh.name == identity.name
    assert fresh.key_pem != identity.key_pem
    assert (await renew(fresh, plane.attach)).name == identity.name


async def test_renewal_happens_by_itself_in_time(plane: Plane, edge: MakeEdge) -> None:
    directory = edge().directory
    identity = await edge().enrol(await plane.join_token())
    begin, end = identity.validity
    clock = ManualClock(begin)
    seen: list[Identity] = []

    async def address() -> str:
        return plane.attach

    work = keep_renewed(directory, address, clock=clock, random=random.random, renewed=seen.append)
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(work)
        # The file is read in a thread first, so the sleep begins a moment after the task does.
        await eventually(lambda: clock._sleepers)
        await clock.advance((end - begin).total_seconds() * 0.5 - 1)
        assert Identity.load(directory) == identity
        await clock.advance((end - begin).total_seconds() * 0.3 + 600)
        await eventually(lambda: seen)
        # This clock is far ahead of the plane's, so the new certificate is due as well: not at once, all the same.
        await asyncio.sleep(0.2)
        renewing.cancel()

    assert [Identity.load(directory)] == seen
    assert seen[0].name == identity.name


def test_renewal_moments_are_spread_over_the_second_half_of_a_life() -> None:
    class Half:
        validity = (ManualClock().now(), ManualClock().now() + timedelta(hours=24))

    moments = [renewal_moment(Half(), lambda share=share: share) for share in (0.0, 0.5, 1.0)]  # type: ignore

    hours = [(moment - Half.validity[0]) / timedelta(hours=1) for moment in moments]
    assert hours == pytest.approx([12.0, 15.6, 19.2])


async def test_a_revoked_host_cannot_renew(plane: Plane, edge: MakeEdge) -> None:
    identity = await edge().enrol(await plane.join_token())
    await plane.fleet.members.revoke("host", "east/e1")

    with pytest.raises(Denied) as refusal:
        await renew(identity, plane.attach)

    assert refusal.value.code == "identity_revoked"


async def test_a_server_that_is_no_control_plane_is_named_as_such(plane: Plane, edge: MakeEdge) -> None:
    class Elsewhere:
        url = f"{plane.url}/somewhere"

    lost = edge()
    lost.plane = Elsewhere()  # type: ignore
    with pytest.raises(Unavailable, match="404"):
        await lost.enrol(await plane.join_token())


async def test_a_broken_certificate_request_spends_nothing(plane: Plane, edge: MakeEdge) -> None:
    token = await plane.join_token()
    async with anonymous_channel(plane.enrolment, plane.fleet.authority.ca_pem) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.Enrol(enrolment_pb2.EnrolRequest(join_token=token, csr_pem=b"none", name="e1"))

    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await edge().enrol(token)


async def test_the_attach_listener_lets_nobody_in_without_a_certificate_of_ours(plane: Plane, edge: MakeEdge) -> None:
    identity = await edge().enrol(await plane.join_token())
    _, csr_pem = new_key_and_request()
    request = enrolment_pb2.RenewRequest(csr_pem=csr_pem)
    for channel in (
        anonymous_channel(plane.attach, identity.ca_pem),
        # A certificate signed by nobody we know: our CA's place is taken by the caller's own.
        identified_channel(plane.attach, Identity(*_self_signed(), identity.ca_pem)),
    ):
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await enrolment_pb2_grpc.RenewalStub(channel).Renew(request, timeout=BUSY_SECONDS)
        assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_damaged_identity_is_named_with_what_to_do(edge: MakeEdge, plane: Plane) -> None:
    await edge().enrol(await plane.join_token())
    (edge().directory / "identity.pem").write_bytes(b"scratched")

    with pytest.raises(CertificateInvalid, match="enrol again"):
        Identity.load(edge().directory)


async def test_well_known_says_where_to_join(plane: Plane) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{plane.url}/.well-known/longshore") as response:
        told = await response.json()

    assert told == {
        "name": "longshore",
        "version": "0.1",
        "enrolment": plane.enrolment,
        "attach": plane.attach,
        "ca_pem": plane.fleet.authority.ca_pem.decode(),
    }


def _self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    return private_key_pem(key), new_authority(key, SystemClock().now()).public_bytes(Encoding.PEM)
