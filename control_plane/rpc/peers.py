"""Who is on the other end of a mutual TLS connection: read from the certificate that the handshake verified.

What the certificate says is genuine; whether the identity may still come in is the fleet's question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from common.errors import Unauthenticated
from common.tls import CertificateInvalid, Name, certificate_name


class PeerUnknown(Unauthenticated):
    """The connection carries no certificate that names a host or a regional."""

    code = "peer_unknown"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """`serial` is the certificate's, hexadecimal; `key_hash` is of its public key."""

    name: Name
    serial: str
    key_hash: str


def peer_of(context: Any) -> PeerIdentity:
    """Raises `PeerUnknown`. `context` is a `grpc.aio.ServicerContext`."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        certificate = x509.load_pem_x509_certificate(pem)
        try:
            name = certificate_name(pem)
        except CertificateInvalid as error:
            raise PeerUnknown(error.detail, action=error.action) from error
        return PeerIdentity(name, serial_text(certificate), key_hash(certificate.public_key()))
    raise PeerUnknown("this needs a client certificate", action="enrol with a join token")


def serial_text(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def key_hash(key: Any) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal: the same key in any certificate."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()
