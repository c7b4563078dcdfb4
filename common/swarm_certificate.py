"""How a host or regional asks for its certificate in a tenant's swarms, and proves who it is.

One request is for up to 100 contents. It carries content tokens, which say what may be read, the names of the contents
that are meant (a token may be good for more), and a signature by the process's identity key, which says who asks:
tokens also travel in announce URLs, so a token alone must not buy a certificate. Invariant: whoever passes a request on
(a regional) cannot use it, for the certificate is for the key of the request, nor get more into it than the tokens are
good for. Wire form: JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.errors import Invalid, Unauthenticated
from common.tls import Identity, Name, certificate_name

PATH = "/content/v1/certificates"
MAXIMUM_TOKENS = 100
MAXIMUM_NAMES = 100
# 100 tokens of up to 3.7 kB (common/content_token.py), a request and a chain.
MAXIMUM_BYTES = 512 << 10
_CONTEXT = b"longshore swarm certificate, version 1\n"


class CertificateRequestInvalid(Invalid):
    code = "certificate_request_invalid"


class IdentityUnproven(Unauthenticated):
    """The request is not signed by an identity of ours that is still good."""

    code = "identity_unproven"


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """`csr_pem`: for the key that the certificate shall be for. `identity_pem`: of the process that asks. `names`: of
    contents, as in metainfos; none: all that the tokens are for.
    """

    csr_pem: bytes
    tokens: tuple[str, ...]
    identity_pem: bytes
    signature: bytes
    names: tuple[str, ...] = ()

    def encode(self) -> bytes:
        said = {
            "request": self.csr_pem.decode("ascii"),
            "tokens": list(self.tokens),
            "identity": self.identity_pem.decode("ascii"),
            "signature": base64.b64encode(self.signature).decode("ascii"),
            "names": list(self.names),
        }
        return json.dumps(said).encode()

    @classmethod
    def decode(cls, body: bytes) -> CertificateRequest:
        """Raises `CertificateRequestInvalid`."""
        try:
            said = json.loads(body)
            tokens = said["tokens"]
            if not isinstance(tokens, list) or not 0 < len(tokens) <= MAXIMUM_TOKENS:
                raise CertificateRequestInvalid(f"a request has 1 to {MAXIMUM_TOKENS} tokens", action="ask in parts")
            names = said.get("names", [])
            if not isinstance(names, list) or len(names) > MAXIMUM_NAMES:
                raise CertificateRequestInvalid(f"a request has {MAXIMUM_NAMES} names at most", action="ask in parts")
            return cls(
                csr_pem=_text(said["request"]).encode("ascii"),
                tokens=tuple(map(_text, tokens)),
                identity_pem=_text(said["identity"]).encode("ascii"),
                signature=base64.b64decode(_text(said["signature"]), validate=True),
                names=tuple(map(_text, names)),
            )
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
            raise CertificateRequestInvalid(
                "the request is not JSON with request, tokens, identity and signature",
                action="see docs/decisions/0023-tls-swarms.md",
            ) from error

    def asker(self, authority: x509.Certificate, now: datetime) -> Name:
        """Who signed it. Raises `IdentityUnproven`. `authority`: of hosts and regionals."""
        try:
            identity = x509.load_pem_x509_certificate(self.identity_pem)
            identity.verify_directly_issued_by(authority)
            key = identity.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise TypeError("no elliptic key")
            key.verify(self.signature, _CONTEXT + self.csr_pem, ec.ECDSA(hashes.SHA256()))
        except (ValueError, TypeError, InvalidSignature) as error:
            raise IdentityUnproven("the request is not signed by an identity of ours", action="enrol again") from error
        if not identity.not_valid_before_utc <= now < identity.not_valid_after_utc:
            raise IdentityUnproven(
                "the identity that signed the request has expired", action="renew it, or enrol again"
            )
        return certificate_name(self.identity_pem)


def signed_request(
    identity: Identity, csr_pem: bytes, tokens: Sequence[str], names: Sequence[str] = ()
) -> CertificateRequest:
    """Of more than the limits allow, the first. Raises `CertificateRequestInvalid` if the identity's key is of another
    kind.
    """
    key = load_pem_private_key(identity.key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateRequestInvalid("the identity's key is not an elliptic-curve key", action="enrol again")
    signature = key.sign(_CONTEXT + csr_pem, ec.ECDSA(hashes.SHA256()))
    return CertificateRequest(
        csr_pem,
        tuple(tokens[:MAXIMUM_TOKENS]),
        identity.certificate_pem,
        signature,
        tuple(names[:MAXIMUM_NAMES]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
