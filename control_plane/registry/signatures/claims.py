"""What cosign signs, in its three forms; pure.

- Simple signing (containers/image, "atomic container signature"; cosign's SIGNATURE_SPEC): a JSON payload as a blob,
  the base64 signature over its exact bytes in the layer's annotation.
- DSSE (secure-systems-lab/dsse v1.0.0) around an in-toto statement: the signature is over the pre-authentication
  encoding of type and payload.
- A sigstore bundle v0.3 that holds such an envelope. What it says of transparency logs and certificates is not read.

Invariant: nothing is believed before its signature verified over the bytes that were read, and a claim names the image
by digest, so that a signature moved to another image claims nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from control_plane.registry.signatures.documents import base64_of, document_of, list_at, member_at, text_at
from control_plane.registry.signatures.keys import SigningKey, verifies

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
DSSE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
COSIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
_SIMPLE_TYPE = "cosign container image signature"
_STATEMENTS = ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1")
_MAX_SIGNATURES = 16
_MAX_SUBJECTS = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """`digests` are the images meant; `predicate` is None for a plain signature."""

    digests: frozenset[str]
    reference: str | None = None
    predicate: str | None = None

    @property
    def is_signature(self) -> bool:
        return self.predicate in (None, COSIGN_PREDICATE)


def simple_claim(payload: bytes, signature: str | None, key: SigningKey) -> Claim | None:
    """None unless the key signed these bytes and they are a signature's payload."""
    raw = base64_of(signature)
    if raw is None or not verifies(key, raw, payload):
        return None
    critical = member_at(document_of(payload), "critical")
    digest = text_at(critical, "image", "docker-manifest-digest")
    if text_at(critical, "type") != _SIMPLE_TYPE or digest is None:
        return None
    return Claim(frozenset((digest,)), text_at(critical, "identity", "docker-reference"))


def envelope_claim(envelope: Any, key: SigningKey) -> Claim | None:
    """`envelope` is a DSSE document. None unless the key signed it and it holds an in-toto statement."""
    kind, payload = text_at(envelope, "payloadType"), base64_of(text_at(envelope, "payload"))
    if kind != IN_TOTO or payload is None:
        return None
    signed = pre_authentication_encoding(kind, payload)
    signatures = [base64_of(text_at(each, "sig")) for each in list_at(envelope, "signatures")[:_MAX_SIGNATURES]]
    if not any(raw is not None and verifies(key, raw, signed) for raw in signatures):
        return None
    return _statement(document_of(payload))


def pre_authentication_encoding(kind: str, payload: bytes) -> bytes:
    encoded = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(encoded), encoded, len(payload), payload)


def bundled_envelope(bundle: bytes) -> Any:
    """The DSSE document of a sigstore bundle, or None."""
    document = document_of(bundle)
    if not (text_at(document, "mediaType") or "").startswith(BUNDLE_PREFIX):
        return None
    return member_at(document, "dsseEnvelope")


def predicate_of(envelope: Any) -> str | None:
    """What the statement is about, for showing: unverified."""
    return text_at(document_of(base64_of(text_at(envelope, "payload")) or b""), "predicateType")


def _statement(statement: Any) -> Claim | None:
    predicate = text_at(statement, "predicateType")
    if text_at(statement, "_type") not in _STATEMENTS or predicate is None:
        return None
    subjects = list_at(statement, "subject")[:_MAX_SUBJECTS]
    digests = frozenset(
        f"{algorithm}:{text}"
        for subject in subjects
        for algorithm in ("sha256", "sha512")
        if (text := text_at(subject, "digest", algorithm)) is not None
    )
    reference = text_at(subjects[0], "name") if len(subjects) == 1 else None
    return Claim(digests, reference, predicate)
