"""From what is attached to an image to proofs: which trusted keys have signed it; pure.

Invariant: no evidence, however malformed, raises or proves anything; a proof exists only where a key verified over the
exact bytes, and what it signed names the digest of this image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from common.digest import Digest
from control_plane.registry.signatures.claims import (
    BUNDLE_PREFIX,
    DSSE,
    SIMPLE_SIGNING,
    Claim,
    bundled_envelope,
    envelope_claim,
    simple_claim,
)
from control_plane.registry.signatures.documents import document_of
from control_plane.registry.signatures.keys import Verifier
from control_plane.registry.signatures.model import KeyKind, Proof
from control_plane.registry.signatures.notation import JWS, notation_claim


@dataclass(frozen=True, slots=True)
class Evidence:
    """One layer of an attached artifact, with its bytes. `signature` is cosign's annotation."""

    artifact: Digest
    media_type: str
    data: bytes
    signature: str | None = None


def is_evidence(media_type: str) -> bool:
    """Whether a layer of that type can prove anything, so that it is worth reading."""
    return media_type in (SIMPLE_SIGNING, DSSE, JWS) or media_type.startswith(BUNDLE_PREFIX)


def prove(
    image: Digest, evidence: Iterable[Evidence], verifiers: Sequence[Verifier], now: datetime
) -> tuple[Proof, ...]:
    """Each pair of artifact and key that verifies, once."""
    proofs: dict[tuple[Digest, str, bool, str | None], Proof] = {}
    for each in evidence:
        for verifier in verifiers:
            claim = _claim(each, verifier, now)
            if claim is not None and str(image) in claim.digests:
                proof = Proof(each.artifact, verifier.key_id, claim.is_signature, claim.reference)
                proofs.setdefault((proof.artifact, proof.key_id, proof.counts, proof.reference), proof)
    return tuple(proofs.values())


def _claim(evidence: Evidence, verifier: Verifier, now: datetime) -> Claim | None:
    read = verifier.read
    if evidence.media_type == JWS:
        return None if read.certificate is None else notation_claim(evidence.data, read.certificate, now)
    if read.kind is not KeyKind.PUBLIC_KEY:
        return None
    if evidence.media_type == SIMPLE_SIGNING:
        return simple_claim(evidence.data, evidence.signature, read.key)
    if evidence.media_type == DSSE:
        return envelope_claim(document_of(evidence.data), read.key)
    if evidence.media_type.startswith(BUNDLE_PREFIX):
        return envelope_claim(bundled_envelope(evidence.data), read.key)
    return None
