"""The control plane's own certificate authority: made at first start, its key sealed at rest, opened once a process.

Invariant: all replicas of one database share one authority, whichever of them made it; the private key is never
written unsealed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.clock import Clock
from common.errors import Internal
from common.tls import Name, private_key_pem
from control_plane.database import Database
from control_plane.fleet import store_certificates
from control_plane.fleet.certificates import Issued, Signer, new_authority
from control_plane.rpc.server import ServerIdentity

log = structlog.get_logger()

_NAME = "primary"
_SERVER_LIFE = timedelta(days=90)


class Sealer(Protocol):
    """What seals the authority's key (control_plane.sealing.SealedBox)."""

    def seal(self, plaintext: bytes, identity: str) -> bytes: ...

    def open(self, sealed: bytes, identity: str) -> bytes: ...


class AuthorityBroken(Internal):
    """What the sealed key opens to is not the key of the certificate beside it."""

    code = "authority_broken"


@dataclass(frozen=True)
class Authority:
    """Signs what it is told to; who may have what is `enrolment`'s question. `life` is of hosts' and regionals'
    certificates.
    """

    signer: Signer
    clock: Clock
    life: timedelta

    @property
    def ca_pem(self) -> bytes:
        return self.signer.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def ca_hash(self) -> str:
        """SHA-256 of the certificate's DER, hexadecimal: what join tokens carry."""
        return self.signer.certificate.fingerprint(hashes.SHA256()).hex()

    def issue(self, name: Name, key: ec.EllipticCurvePublicKey, addresses: Iterable[str] = ()) -> Issued:
        return self.signer.member(name, key, addresses, self.clock.now(), self.life)


async def open_authority(database: Database, sealer: Sealer, clock: Clock, life: timedelta) -> Authority:
    """The authority of this database; made if there is none. Raises what `sealer` does if the key does not open."""
    async with database.reading() as connection:
        stored = await store_certificates.find_authority(connection, _NAME)
    if stored is None:
        key = ec.generate_private_key(ec.SECP256R1())
        made = new_authority(key, clock.now()).public_bytes(serialization.Encoding.PEM)
        sealed = sealer.seal(private_key_pem(key), _place())
        async with database.transaction() as unit:
            # Another replica may have been quicker: what is stored counts, not what was made here.
            stored = await store_certificates.keep_authority(unit.connection, _NAME, made, sealed, clock.now())
        log.info("certificate authority opened", made_here=stored.certificate_pem == made)
    certificate = x509.load_pem_x509_certificate(stored.certificate_pem)
    opened = serialization.load_pem_private_key(sealer.open(stored.sealed_key, _place()), password=None)
    if not isinstance(opened, ec.EllipticCurvePrivateKey) or opened.public_key() != certificate.public_key():
        raise AuthorityBroken(
            "the key of the certificate authority does not match its certificate", action="restore the database"
        )
    return Authority(Signer(certificate, opened), clock, life)


class ServerCertificates:
    """The certificate of our own listeners: made when first asked for, again at half of its life. The key lives in
    memory only. Called from gRPC's threads as well.
    """

    def __init__(self, authority: Authority, names: Iterable[str]) -> None:
        self._authority = authority
        self._names = tuple(dict.fromkeys(names))
        self._lock = threading.Lock()
        self._current: tuple[Issued, ServerIdentity] | None = None

    def __call__(self) -> ServerIdentity:
        now = self._authority.clock.now()
        with self._lock:
            if self._current is None or now >= self._current[0].expires_at - _SERVER_LIFE / 2:
                key = ec.generate_private_key(ec.SECP256R1())
                issued = self._authority.signer.server(self._names, key.public_key(), now, _SERVER_LIFE)
                identity = ServerIdentity(private_key_pem(key), issued.pem, self._authority.ca_pem)
                self._current = issued, identity
            return self._current[1]


def server_names(listening_hosts: Iterable[str], public_names: Iterable[str]) -> tuple[str, ...]:
    """What the listeners' certificate should say: the hosts listened on, what is configured, and the loopback names,
    which no other machine can be reached by.
    """
    hosts = [host.strip("[]") for host in listening_hosts]
    concrete = [host for host in hosts if host not in ("", "0.0.0.0", "::")]
    return tuple(dict.fromkeys([*public_names, *concrete, "localhost", "127.0.0.1", "::1"]))


def _place() -> str:
    return f"certificate_authorities/{_NAME}"
