"""X.509 of TLS swarms (RFC 5280): a tenant's authority and the certificates of its peers; pure but for the signing.

Invariant: a peer's certificate names torrents in its subject alternative names alone; its subject can match no torrent,
because libtorrent would take a common name where no alternative name fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Clocks of machines that just booted are an hour off; a certificate from the "future" would be refused.
_BACKDATING = timedelta(hours=2)
# It is part of the info-hash: a new one would be a new swarm of every content.
_AUTHORITY_LIFE = timedelta(days=30 * 365)


@dataclass(frozen=True)
class TenantAuthority:
    """`pem` is what stands in the metainfo, byte for byte."""

    pem: bytes
    key: ec.EllipticCurvePrivateKey

    def sign(self, names: Sequence[str], key: ec.EllipticCurvePublicKey, now: datetime, ends_at: datetime) -> bytes:
        """A peer's certificate in PEM, for torrents of these names."""
        authority = x509.load_pem_x509_certificate(self.pem)
        return (
            _builder(_subject("Longshore swarm peer"), authority.subject, key, now - _BACKDATING, ends_at)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            # A peer calls and is called.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


def new_tenant_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> TenantAuthority:
    """Self-signed; it signs peers' certificates and nothing else. It does not name the tenant: outsiders see it."""
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    name = _subject(f"Longshore swarm {identifier.digest.hex()[:12]}")
    certificate = (
        _builder(name, name, public, now - _BACKDATING, now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return TenantAuthority(certificate.public_bytes(Encoding.PEM), key)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
