"""How an agent or a regional gets its certificate, and keeps it fresh.

Invariant: a crash at any point is repaired by running the same call again. The private key is durable before the
token is spent, so a retry presents the same public key, which the control plane answers with the same identity.

    identity = Identity.load(directory) or await enrol(url, token, kind="host", name=..., identity_dir=directory, ...)
    lifecycle.spawn("renewal", keep_renewed(directory, locator.attach_address, clock=..., random=...))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import grpc.aio
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from common.backoff import Backoff
from common.channels import anonymous_channel, identified_channel
from common.clock import Clock
from common.durable import sync_directory, write_file
from common.errors import Conflict, Failure, Unauthenticated
from common.join_token import JoinToken
from common.plane import discover
from common.rpc_failures import failure_of
from common.tls import CertificateInvalid, Identity, IdentityKind, new_key_and_request, request_for
from proto.enrolment.v1 import enrolment_pb2, enrolment_pb2_grpc

log = structlog.get_logger()

_PENDING_KEY = "pending-key.pem"
_CALL_SECONDS = 30.0
# A sleeping laptop stops the clock we sleep by but not the certificate's life: look at wall time this often.
_LONGEST_SLEEP_SECONDS = 600.0
_SHORTEST_SHARE = 0.05


class WrongAuthority(Unauthenticated):
    """The server at the URL has another CA than the one that made the join token."""

    code = "wrong_authority"


class WrongKind(Conflict):
    """A certificate for a regional reached an agent, or the other way round."""

    code = "wrong_identity_kind"


async def enrol(
    server_url: str,
    join_token: str,
    *,
    kind: IdentityKind,
    name: str,
    identity_dir: Path,
    http: aiohttp.ClientSession,
    addresses: Sequence[str] = (),
    version: str = "",
) -> Identity:
    """Spend `join_token` for an identity and save it in `identity_dir`.

    `addresses`: regionals only, the IP addresses and DNS names that agents will dial. Repeating the call with the same
    token is safe. Raises `JoinTokenMalformed`, `WrongAuthority`, `Unavailable`, and what the control plane answers
    (`Unauthenticated` for tokens that are unknown, used or expired).
    """
    token = JoinToken.parse(join_token)
    plane = await discover(server_url, http)
    ca_pem = _pinned(plane.ca_pem, token.ca_hash, server_url)
    key_pem = await asyncio.to_thread(_pending_key, identity_dir)
    request = enrolment_pb2.EnrolRequest(
        join_token=str(token),
        csr_pem=request_for(key_pem),
        name=name,
        addresses=addresses,
        version=version,
        kind=kind,
    )
    async with anonymous_channel(plane.enrolment, ca_pem) as channel:
        try:
            reply = await enrolment_pb2_grpc.EnrolmentStub(channel).Enrol(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, f"enrolling at {plane.enrolment}") from error
    identity = _checked(key_pem, reply.certificate_pem, reply.ca_pem)
    if identity.name.kind != kind:
        raise WrongKind(
            f"the join token is for a {identity.name.kind}, this is a {kind}", action=f"make a join token for a {kind}"
        )
    await asyncio.to_thread(_keep, identity, identity_dir)
    log.info("identity enrolled", kind=kind, id=identity.name.id, idc=identity.name.idc, name=reply.name)
    return identity


async def renew(identity: Identity, attach_address: str, addresses: Sequence[str] = ()) -> Identity:
    """A fresh certificate, with a fresh key, for the same identity; nothing is saved. Harmless to repeat."""
    key_pem, csr_pem = new_key_and_request()
    request = enrolment_pb2.RenewRequest(csr_pem=csr_pem, addresses=addresses)
    async with identified_channel(attach_address, identity) as channel:
        try:
            reply = await enrolment_pb2_grpc.RenewalStub(channel).Renew(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, f"renewing the certificate at {attach_address}") from error
    fresh = _checked(key_pem, reply.certificate_pem, reply.ca_pem)
    if fresh.name != identity.name:
        raise CertificateInvalid(f"the new certificate is for {fresh.name.uri()}", action="report this")
    return fresh


def renewal_moment(identity: Identity, random: Callable[[], float]) -> datetime:
    """A random moment in 50-80 % of the certificate's life, so that hosts enrolled together do not renew together."""
    begin, end = identity.validity
    return begin + (end - begin) * (0.5 + 0.3 * random())


async def keep_renewed(
    identity_dir: Path,
    attach_address: Callable[[], Awaitable[str]],
    *,
    clock: Clock,
    random: Callable[[], float],
    addresses: Sequence[str] = (),
    renewed: Callable[[Identity], None] | None = None,
) -> None:
    """Run for the whole life of the process. `renewed` is called after the new identity is durable: reload TLS
    contexts there. The stream that is open stays; the next round of attachment presents the new certificate.
    """
    backoff = Backoff(random, initial_seconds=5.0, cap_seconds=480.0, floor_seconds=1.0)
    while True:
        identity = await asyncio.to_thread(Identity.load, identity_dir)
        if identity is None:
            raise CertificateInvalid(
                f"there is no identity in {identity_dir}", action="enrol with a join token, then start again"
            )
        await _sleep_until(renewal_moment(identity, random), clock)
        try:
            fresh = await renew(identity, await attach_address(), addresses)
            await asyncio.to_thread(fresh.save, identity_dir)
        except (Failure, OSError) as failure:
            log.warning("certificate not renewed", error=str(failure), expires_at=identity.validity[1].isoformat())
            await clock.sleep(backoff.next_delay())
            continue
        backoff.reset()
        log.info("certificate renewed", expires_at=fresh.validity[1].isoformat())
        if renewed is not None:
            renewed(fresh)
        # A clock that is far ahead finds every certificate due; it must not ask for one after the other.
        begin, end = fresh.validity
        await clock.sleep((end - begin).total_seconds() * _SHORTEST_SHARE)


async def _sleep_until(moment: datetime, clock: Clock) -> None:
    while (remaining := moment - clock.now()) > timedelta(0):
        await clock.sleep(min(remaining.total_seconds(), _LONGEST_SLEEP_SECONDS))


def _pinned(ca_pem: bytes, ca_hash: str, server_url: str) -> bytes:
    """The one certificate of the bundle that the token names; others are not trusted on the server's word."""
    try:
        certificates = x509.load_pem_x509_certificates(ca_pem)
    except ValueError:
        certificates = []
    for certificate in certificates:
        if certificate.fingerprint(hashes.SHA256()).hex() == ca_hash:
            return certificate.public_bytes(serialization.Encoding.PEM)
    raise WrongAuthority(
        f"the certificate authority of {server_url} is not the one that made this join token",
        action="check the URL given as --server, or make a new join token there; somebody may stand in between",
    )


def _pending_key(directory: Path) -> bytes:
    path = directory / _PENDING_KEY
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        key_pem, _ = new_key_and_request()
        write_file(path, key_pem, 0o600)
    return path.read_bytes()


def _checked(key_pem: bytes, certificate_pem: bytes, ca_pem: bytes) -> Identity:
    """Raises `CertificateInvalid` unless the certificate is for our key."""
    identity = Identity(key_pem, certificate_pem, ca_pem)
    ours = serialization.load_pem_private_key(key_pem, password=None).public_key()
    try:
        theirs = x509.load_pem_x509_certificate(certificate_pem).public_key()
    except ValueError as error:
        raise CertificateInvalid("the control plane sent no certificate", action="report this") from error
    if ours != theirs:
        raise CertificateInvalid("the control plane sent a certificate for another key", action="report this")
    return identity


def _keep(identity: Identity, directory: Path) -> None:
    identity.save(directory)
    (directory / _PENDING_KEY).unlink(missing_ok=True)
    sync_directory(directory)
