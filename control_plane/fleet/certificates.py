"""X.509 certificates of Longshore's own authority (RFC 5280): built here, kept nowhere; pure but for the signing.

Invariant: every certificate names exactly one host or regional by URI, or the control plane by its addresses; a host's
has no address, so it can serve nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import Invalid
from common.tls import Name
from control_plane.rpc.peers import key_hash, serial_text

# A certificate from the "future" is refused, and the clock of a machine that just booted, or that mistook summer time,
# is an hour behind. Of short lives less, for renewal counts from the beginning (common/enrolment.py).
_MOST_BACKDATING = timedelta(hours=2)
_LEAST_BACKDATING = timedelta(minutes=5)
_AUTHORITY_LIFE = timedelta(days=3650)


class RequestInvalid(Invalid):
    """A certificate request (PKCS#10) that is broken, unsigned, or for a key we do not take."""

    code = "certificate_request_invalid"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed; `pem` may go to anybody."""

    serial: str
    pem: bytes
    key_hash: str
    issued_at: datetime
    expires_at: datetime


def backdating(life: timedelta) -> timedelta:
    """How long before its making a certificate of that life begins to be valid."""
    return min(max(life / 12, _LEAST_BACKDATING), _MOST_BACKDATING)


def requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a request whose sender holds the private one. Raises `RequestInvalid`."""
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        genuine = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RequestInvalid("the certificate request cannot be read", action="send PKCS#10 in PEM") from error
    if not genuine:
        raise RequestInvalid("the certificate request is not signed by its own key", action="make a new one")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise RequestInvalid("the certificate request has a key of another kind", action="use a P-256 key")
    return key


def new_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """A self-signed CA that may sign end entities only."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Longshore CA {key_hash(key.public_key())[:12]}")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, key.public_key(), now - _MOST_BACKDATING, now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


@dataclass(frozen=True)
class Signer:
    """The authority's certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def member(
        self, name: Name, key: ec.EllipticCurvePublicKey, addresses: Iterable[str], now: datetime, life: timedelta
    ) -> Issued:
        """A certificate for a host (no addresses) or a regional (what agents dial)."""
        names = [x509.UniformResourceIdentifier(name.uri()), *map(_general_name, addresses)]
        # Hosts serve too: what moves away from one is read by another, which checks the name. They have no address, so
        # nobody who looks for one takes a host for a server.
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        return self._sign(f"{name.kind} {name.id}", key, names, uses, now, life)

    def server(
        self, addresses: Iterable[str], key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
    ) -> Issued:
        """A certificate for our own listeners."""
        uses = [ExtendedKeyUsageOID.SERVER_AUTH]
        return self._sign("control plane", key, [_general_name(address) for address in addresses], uses, now, life)

    def _sign(
        self,
        common_name: str,
        key: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        uses: list[x509.ObjectIdentifier],
        now: datetime,
        life: timedelta,
    ) -> Issued:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _builder(subject, self.certificate.subject, key, now - backdating(life), now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(authority_key, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Issued(
            serial=serial_text(certificate),
            pem=certificate.public_bytes(serialization.Encoding.PEM),
            key_hash=key_hash(key),
            issued_at=certificate.not_valid_before_utc,
            expires_at=certificate.not_valid_after_utc,
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
