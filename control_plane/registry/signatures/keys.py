"""Public keys and certificates in PEM, and checking a signature with one; pure.

Invariant: `verifies` answers, it never raises, whatever it is given. Accepted: ECDSA on P-256, P-384 and P-521, RSA of
2048 to 8192 bits, Ed25519. cosign hashes with SHA-256 whatever the curve (its default), or with the hash of the
curve's size (its algorithm registry); RSA is PKCS#1 v1.5 as cosign writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from control_plane.registry.signatures.failures import KeyInvalid
from control_plane.registry.signatures.model import KeyKind, TrustedKey

MAX_PEM = 16_384
_RSA_BITS = range(2048, 8193)
_CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
SigningKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class ReadKey:
    kind: KeyKind
    key: SigningKey
    certificate: x509.Certificate | None
    pem: str
    fingerprint: str


def read_key(pem: str) -> ReadKey:
    """`pem` is one public key or one certificate. Raises `KeyInvalid`."""
    data = pem.encode("ascii", "replace")
    if len(data) > MAX_PEM or data.count(b"-----BEGIN") != 1:
        raise _invalid("is not one public key or certificate in PEM")
    if b"PRIVATE KEY" in data:
        raise _invalid("is a private key")
    key: PublicKeyTypes
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            certificate = x509.load_pem_x509_certificate(data)
            key = certificate.public_key()
            canonical = certificate.public_bytes(serialization.Encoding.PEM)
        else:
            certificate = None
            key = serialization.load_pem_public_key(data)
            canonical = _spki(key, serialization.Encoding.PEM)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid("cannot be read as PEM") from error
    usable = usable_key(key)
    if usable is None:
        raise _invalid("is of a kind that is not accepted")
    kind = KeyKind.PUBLIC_KEY if certificate is None else KeyKind.CERTIFICATE
    fingerprint = hashlib.sha256(_spki(usable, serialization.Encoding.DER)).hexdigest()
    return ReadKey(kind, usable, certificate, canonical.decode(), fingerprint)


def usable_key(key: PublicKeyTypes) -> SigningKey | None:
    """`key` itself if it is of an accepted kind and size."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key if key.curve.name in _CURVES else None
    if isinstance(key, rsa.RSAPublicKey):
        return key if key.key_size in _RSA_BITS else None
    return key if isinstance(key, ed25519.Ed25519PublicKey) else None


@dataclass(frozen=True, slots=True)
class Verifier:
    """A trusted key, ready to check with."""

    key_id: str
    read: ReadKey

    @classmethod
    def of(cls, trusted: TrustedKey) -> Verifier:
        return cls(trusted.key_id, read_key(trusted.pem))


def verifies(key: SigningKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is the key's over exactly `data`."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _holds(lambda: key.verify(signature, data))
    if isinstance(key, rsa.RSAPublicKey):
        return _holds(lambda: key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256()))
    accepted = {type(each): each for each in (_CURVES[key.curve.name], hashes.SHA256())}
    return any(_ecdsa(key, signature, data, algorithm) for algorithm in accepted.values())


def _ecdsa(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    return _holds(lambda: key.verify(signature, data, ec.ECDSA(algorithm)))


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _spki(key: PublicKeyTypes, encoding: serialization.Encoding) -> bytes:
    return key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def _invalid(why: str) -> KeyInvalid:
    return KeyInvalid(
        f"what was sent {why}",
        action="send a PEM public key (P-256, P-384, P-521, RSA from 2048 bits, Ed25519) or a certificate of one",
    )
