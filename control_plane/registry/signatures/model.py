"""Trusted keys, signature policies, and what is attached to an image; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from common.digest import Digest
from control_plane.registry.patterns import check_patterns, compile_patterns
from control_plane.registry.signatures.failures import PolicyInvalid

MAX_KEYS = 64


class KeyKind(StrEnum):
    """A public key verifies cosign's signatures, a certificate (or the one that issued it) notation's."""

    PUBLIC_KEY = "public_key"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """`fingerprint`: SHA-256 of the public key (SubjectPublicKeyInfo, DER) in hexadecimal."""

    key_id: str
    tenant_id: str
    name: str
    kind: KeyKind
    pem: str
    fingerprint: str
    created_by: str
    created_at: datetime


class Identity(StrEnum):
    """What a signature must say of where the image is: anything, or this very repository."""

    ANY = "any"
    REPOSITORY = "repository"


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Images of the repositories need valid signatures of `needed` of the keys. `pushers_may_pull`: who may push may
    read what is not signed yet, as every signing program must; hosts may not, whoever deploys.
    """

    policy_id: str
    tenant_id: str
    name: str
    repositories: tuple[str, ...]
    key_ids: tuple[str, ...]
    needed: int = 1
    identity: Identity = Identity.ANY
    pushers_may_pull: bool = True
    enabled: bool = True

    def check(self) -> None:
        """Raises `PolicyInvalid`, `PatternInvalid`."""
        if not self.name.strip() or len(self.name) > 63 or "\x00" in self.name:
            raise PolicyInvalid("the policy has no name of 1 to 63 characters", action="give it one")
        if not self.repositories:
            raise PolicyInvalid("the policy names no repository", action="give at least one pattern, ** for all")
        check_patterns(self.repositories)
        if not 1 <= len(self.key_ids) <= MAX_KEYS or len(set(self.key_ids)) != len(self.key_ids):
            raise PolicyInvalid("the policy's keys are none, too many or doubled", action=f"name 1 to {MAX_KEYS} keys")
        if not 1 <= self.needed <= len(self.key_ids):
            raise PolicyInvalid(
                f"{self.needed} of {len(self.key_ids)} keys cannot sign",
                action="need 1 up to as many as there are keys",
            )

    def covers(self, repository: str) -> bool:
        """By the part of the name after the tenant."""
        return compile_patterns(self.repositories).match(repository.partition("/")[2])


class ArtifactKind(StrEnum):
    SIGNATURE = "signature"
    ATTESTATION = "attestation"
    SBOM = "sbom"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Proof:
    """A valid signature by a trusted key. `reference` is where the signer says the image is, if it says so; `counts`
    is false for an attestation: it is signed, but says something else than that the image may run.
    """

    artifact: Digest
    key_id: str
    counts: bool
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class AttachedArtifact:
    """`form` names the format; `verified_by` are the trusted keys with a valid signature in it."""

    digest: Digest
    kind: ArtifactKind
    form: str
    size_bytes: int
    pushed_at: datetime
    tag: str | None
    verified_by: tuple[TrustedKey, ...] = ()


def satisfied(policy: SignaturePolicy, repository: str, proofs: Iterable[Proof]) -> bool:
    """Whether the proofs of one image are what the policy wants."""
    signers = {
        proof.key_id
        for proof in proofs
        if proof.counts
        and proof.key_id in policy.key_ids
        and (policy.identity is Identity.ANY or names_repository(proof.reference, repository))
    }
    return len(signers) >= policy.needed


def names_repository(reference: str | None, repository: str) -> bool:
    """Whether a reference (`[host[:port]/]name[:tag][@digest]`) means the repository, at whichever host."""
    if reference is None:
        return False
    name = reference.partition("@")[0]
    host, slash, path = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        name = path
    head, colon, tag = name.rpartition(":")
    return (head if colon and "/" not in tag else name) == repository
