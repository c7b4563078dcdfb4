"""notation's JWS signatures; pure. Notary Project: signature-specification.md, signature-envelope-jws.md.

The payload names the image; the protected header is signed with it; the certificate chain comes along unprotected and
is worth something only if it leads to a certificate that the tenant trusts. COSE envelopes are shown, not verified.

Invariant: an envelope with a critical header that is not understood, an algorithm that does not fit the key, a chain
that does not hold, or that expired, verifies nothing. Revocation and timestamps by an authority are not checked: a
signature counts while the leaf certificate is valid now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID

from control_plane.registry.signatures.claims import Claim
from control_plane.registry.signatures.documents import base64_of, base64url_of, document_of, list_at, text_at
from control_plane.registry.signatures.keys import usable_key

NOTATION = "application/vnd.cncf.notary.signature"
JWS = "application/jose+json"
COSE = "application/cose"
_CONTENT = "application/vnd.cncf.notary.payload.v1+json"
_SCHEME = "io.cncf.notary.signingScheme"
_EXPIRY = "io.cncf.notary.expiry"
_UNDERSTOOD = frozenset({_SCHEME, _EXPIRY, "io.cncf.notary.authenticSigningTime", "io.cncf.notary.signingTime"})
_SCHEMES = ("notary.x509", "notary.x509.signingAuthority")
_MAX_CHAIN = 8
# Signature specification, "Algorithm Selection": the hash follows from the key.
_RSA = {2048: ("PS256", hashes.SHA256()), 3072: ("PS384", hashes.SHA384()), 4096: ("PS512", hashes.SHA512())}
_EC = {
    "secp256r1": ("ES256", hashes.SHA256(), 32),
    "secp384r1": ("ES384", hashes.SHA384(), 48),
    "secp521r1": ("ES512", hashes.SHA512(), 66),
}


def notation_claim(envelope: bytes, trusted: x509.Certificate, now: datetime) -> Claim | None:
    """None unless a certificate that `trusted` is or issued signed the envelope and is valid at `now`."""
    document = document_of(envelope)
    protected_text, payload_text = text_at(document, "protected"), text_at(document, "payload")
    protected = document_of(base64url_of(protected_text) or b"")
    payload = document_of(base64url_of(payload_text) or b"")
    raw = base64url_of(text_at(document, "signature"))
    chain = _chain(list_at(document, "header", "x5c"))
    if protected is None or payload is None or raw is None or not chain:
        return None
    if not _acceptable(protected, now) or not _leads_to(chain, trusted, now):
        return None
    if not _signed(chain[0], text_at(protected, "alg"), raw, f"{protected_text}.{payload_text}".encode()):
        return None
    digest = text_at(payload, "targetArtifact", "digest")
    return None if digest is None else Claim(frozenset((digest,)))


def _acceptable(protected: Any, now: datetime) -> bool:
    critical = list_at(protected, "crit")
    if text_at(protected, "cty") != _CONTENT or text_at(protected, _SCHEME) not in _SCHEMES:
        return False
    if _SCHEME not in critical or not all(_is_understood(name, protected) for name in critical):
        return False
    expiry = protected.get(_EXPIRY)
    if expiry is None:
        return True
    try:
        return isinstance(expiry, str) and now < datetime.fromisoformat(expiry)
    except (ValueError, TypeError):
        return False


def _is_understood(name: object, protected: Mapping[str, Any]) -> bool:
    return isinstance(name, str) and name in _UNDERSTOOD and name in protected


def _chain(entries: list[Any]) -> list[x509.Certificate]:
    """The leaf first; empty if any of it cannot be read."""
    if len(entries) > _MAX_CHAIN:
        return []
    found = []
    for entry in entries:
        der = base64_of(entry) if isinstance(entry, str) else None
        try:
            found.append(x509.load_der_x509_certificate(der or b""))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return []
    return found


def _leads_to(chain: list[x509.Certificate], trusted: x509.Certificate, now: datetime) -> bool:
    """Whether each certificate issued the one before it, up to the trusted one, and all are valid now."""
    for number, certificate in enumerate(chain):
        if not _valid(certificate, now, is_leaf=number == 0):
            return False
        if certificate == trusted:
            return True
        issuer = chain[number + 1] if number + 1 < len(chain) else trusted
        if not _issued(certificate, issuer):
            return False
    return _valid(trusted, now, is_leaf=False)


def _valid(certificate: x509.Certificate, now: datetime, *, is_leaf: bool) -> bool:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return False
    try:
        extensions = certificate.extensions
    except ValueError:
        return False
    constraints = [each.value for each in extensions if isinstance(each.value, x509.BasicConstraints)]
    usages = [each.value for each in extensions if isinstance(each.value, x509.ExtendedKeyUsage)]
    # A leaf that could issue others, or an issuer that must not, is a mistake or worse.
    if any(each.ca for each in constraints) is is_leaf:
        return False
    return not is_leaf or all(ExtendedKeyUsageOID.CODE_SIGNING in usage for usage in usages)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _signed(leaf: x509.Certificate, algorithm: str | None, raw: bytes, data: bytes) -> bool:
    try:
        key = usable_key(leaf.public_key())
        if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA:
            name, digest = _RSA[key.key_size]
            scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            key.verify(raw, data, scheme, digest)
            return name == algorithm
        if isinstance(key, ec.EllipticCurvePublicKey):
            name, digest, width = _EC[key.curve.name]
            if len(raw) != 2 * width:
                return False
            halves = int.from_bytes(raw[:width], "big"), int.from_bytes(raw[width:], "big")
            key.verify(encode_dss_signature(*halves), data, ec.ECDSA(digest))
            return name == algorithm
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return False
