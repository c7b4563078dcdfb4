"""Certificates by which peers of a TLS swarm know each other (libtorrent's "SSL torrents"): read and judged; pure.

A swarm's metainfo carries the certificate of its tenant's authority (`ssl-cert`). Both sides of a connection show a
certificate signed by it whose subject alternative names hold the torrent's name, byte for byte, or `*`; it is looked at
in the handshake alone. Invariant: `Credentials` that were accepted here are taken by libtorrent; one that it cannot
read would stop the torrent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from common.errors import Invalid

# Covers every torrent of the authority: for regionals, which seed whatever their IDC ordered.
EVERY_NAME = "*"


class CredentialsInvalid(Invalid):
    """A peer's certificate or key that cannot be read, or that do not belong together."""

    code = "credentials_invalid"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a peer shows in a TLS swarm, both PEM. The key is not encrypted: keep it out of logs."""

    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "Credentials(...)"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """`names`: of torrents, or `EVERY_NAME`. Valid from `begins_at` to `ends_at`, aware UTC."""

    names: frozenset[str]
    begins_at: datetime
    ends_at: datetime
    certificate: x509.Certificate

    @classmethod
    def read(cls, pem: bytes) -> PeerCertificate:
        """Raises `CredentialsInvalid`."""
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound) as error:
            raise CredentialsInvalid("a peer's certificate cannot be read", action="ask for a new one") from error
        return cls(
            names=frozenset(names.get_values_for_type(x509.DNSName)),
            begins_at=certificate.not_valid_before_utc,
            ends_at=certificate.not_valid_after_utc,
            certificate=certificate,
        )

    def covers(self, name: str) -> bool:
        return name in self.names or EVERY_NAME in self.names

    def is_alive(self, now: datetime) -> bool:
        return self.begins_at <= now < self.ends_at

    def is_signed_by(self, authority_pem: bytes) -> bool:
        try:
            self.certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def check_pair(credentials: Credentials) -> PeerCertificate:
    """Raises `CredentialsInvalid` unless the key is the certificate's."""
    certificate = PeerCertificate.read(credentials.certificate_pem)
    try:
        key = load_pem_private_key(credentials.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise CredentialsInvalid("a peer's key cannot be read", action="make a new one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or _spki(key) != _spki(certificate.certificate):
        raise CredentialsInvalid("a peer's certificate is for another key", action="ask for one for this key")
    return certificate


def _spki(holder: ec.EllipticCurvePrivateKey | x509.Certificate) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
