"""Keys, certificate requests and TLS contexts for mutual TLS inside Longshore.

An identity is a directory with `key.pem`, `certificate.pem` and `ca.pem`, private key mode 0600. The private key is
made where it is used and never leaves; only its request (CSR) does. Names inside certificates are URIs:
`longshore://idc/<idc>/host/<host id>` and `longshore://idc/<idc>/regional/<regional id>`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.durable import write_file
from common.errors import Invalid

IdentityKind = Literal["host", "regional"]
_KINDS: tuple[IdentityKind, ...] = ("host", "regional")


class CertificateInvalid(Invalid):
    code = "certificate_invalid"


@dataclass(frozen=True, slots=True)
class Name:
    """Who a certificate speaks for."""

    idc: str
    kind: IdentityKind
    id: str

    def uri(self) -> str:
        return f"longshore://idc/{self.idc}/{self.kind}/{self.id}"

    @classmethod
    def parse(cls, uri: str) -> Name:
        """Raises `CertificateInvalid` for anything but the two forms above."""
        parts = uri.removeprefix("longshore://").split("/")
        if uri.startswith("longshore://") and len(parts) == 4 and parts[0] == "idc":
            for kind in _KINDS:
                if parts[2] == kind:
                    return cls(parts[1], kind, parts[3])
        raise CertificateInvalid(f"{uri!r} names no host and no regional", action="enrol again with a new join token")


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM bytes of one process's key, its certificate chain and the CA it trusts."""

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes

    @property
    def name(self) -> Name:
        return certificate_name(self.certificate_pem)

    @property
    def validity(self) -> tuple[datetime, datetime]:
        """Not before and not after, aware UTC."""
        certificate = x509.load_pem_x509_certificate(self.certificate_pem)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    def save(self, directory: Path) -> None:
        """Durable; the key first, so that a certificate never lies beside a key that does not match after a crash."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(directory / "ca.pem", self.ca_pem, 0o644)
        # One file for the pair that must match: a crash between two renames would leave a useless identity.
        write_file(directory / "identity.pem", self.key_pem + self.certificate_pem, 0o600)

    @classmethod
    def load(cls, directory: Path) -> Identity | None:
        """None if there is none yet; raises `CertificateInvalid` if what is there cannot be read."""
        pair, ca = directory / "identity.pem", directory / "ca.pem"
        if not pair.exists() or not ca.exists():
            return None
        key, marker, certificate = pair.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        if not marker or b"PRIVATE KEY" not in key:
            raise CertificateInvalid(f"{pair} is damaged", action="remove it and enrol again with a new join token")
        return cls(key, marker + certificate, ca.read_bytes())


def certificate_name(certificate_pem: bytes) -> Name:
    """The Longshore name in the first certificate of the chain. Raises `CertificateInvalid`."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise CertificateInvalid("the certificate names nobody", action="enrol again with a new join token") from None
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("longshore://"):
            return Name.parse(uri)
    raise CertificateInvalid("the certificate has no longshore:// name", action="enrol again with a new join token")


def new_key_and_request() -> tuple[bytes, bytes]:
    """A fresh P-256 key and a CSR for it, both PEM. The CSR carries no name: the control plane gives names, not the
    caller.
    """
    key = private_key_pem(ec.generate_private_key(ec.SECP256R1()))
    return key, request_for(key)


def request_for(key_pem: bytes) -> bytes:
    """A CSR for a key that exists, PEM: what a retry needs. Raises `CertificateInvalid` if the key cannot be read."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateInvalid("the private key cannot be read", action="remove it and enrol again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateInvalid("the private key is not an elliptic-curve key", action="remove it and enrol again")
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "longshore")]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def server_context(directory: Path) -> ssl.SSLContext:
    """Mutual TLS for an HTTP server: only certificates of our CA get in. `directory` as written by `Identity.save`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, directory)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def open_server_context(directory: Path) -> ssl.SSLContext:
    """TLS for an HTTP server that anybody may connect to: who they are is not the certificate's question."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, directory)
    return context


def client_context(directory: Path) -> ssl.SSLContext:
    """Mutual TLS for an HTTP client; trusts our CA and nothing else, checks the server's address against its
    certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, directory)
    return context


def member_client_context(directory: Path) -> ssl.SSLContext:
    """Mutual TLS towards another host, whose certificate has a name and no address: who connects checks that name."""
    context = client_context(directory)
    context.check_hostname = False
    return context


def peer_name(connection: ssl.SSLObject | None) -> Name:
    """Who is at the other end of a connection. Raises `CertificateInvalid` if nobody of ours."""
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    if not certificate:
        raise CertificateInvalid("the other end showed no certificate", action="connect with an identity")
    return certificate_name(ssl.DER_cert_to_PEM_cert(certificate).encode())


def _harden(context: ssl.SSLContext, directory: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=directory / "ca.pem")
    context.load_cert_chain(directory / "identity.pem")
