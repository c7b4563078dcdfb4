"""The wire forms of trusted keys, signature policies and attachments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.signatures.keys import MAX_PEM
from control_plane.registry.signatures.model import (
    MAX_KEYS,
    ArtifactKind,
    AttachedArtifact,
    Identity,
    KeyKind,
    SignaturePolicy,
    TrustedKey,
)

_Pattern = Annotated[str, Field(min_length=1, max_length=255)]
_Id = Annotated[str, Field(min_length=1, max_length=36)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrustedKeyBody(_Body):
    name: str = Field(min_length=1, max_length=63)
    pem: str = Field(max_length=MAX_PEM, description="a public key as cosign writes it, or a certificate for notation")


class TrustedKeyView(BaseModel):
    """`fingerprint`: SHA-256 of the public key (SubjectPublicKeyInfo, DER)."""

    id: str
    name: str
    kind: KeyKind
    fingerprint: str
    pem: str
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, key: TrustedKey) -> TrustedKeyView:
        return cls(
            id=key.key_id,
            name=key.name,
            kind=key.kind,
            fingerprint=key.fingerprint,
            pem=key.pem,
            created_by=key.created_by,
            created_at=key.created_at,
        )


class SignaturePolicyBody(_Body):
    """Pulls and deployments of the repositories need valid signatures of `needed` of the keys."""

    name: str = Field(min_length=1, max_length=63)
    repositories: list[_Pattern] = Field(
        default_factory=lambda: ["**"], max_length=64, description="patterns over the name after the tenant"
    )
    key_ids: list[_Id] = Field(min_length=1, max_length=MAX_KEYS)
    needed: int = Field(default=1, ge=1, le=MAX_KEYS, description="how many different keys must have signed")
    identity: Identity = Field(
        default=Identity.ANY, description="repository: the signature must name this very repository"
    )
    pushers_may_pull: bool = Field(
        default=True, description="who may push may pull what is not signed yet, as signing programs must"
    )
    enabled: bool = True

    def to_draft(self) -> SignaturePolicy:
        return SignaturePolicy(
            policy_id="",
            tenant_id="",
            name=self.name,
            repositories=tuple(self.repositories),
            key_ids=tuple(self.key_ids),
            needed=self.needed,
            identity=self.identity,
            pushers_may_pull=self.pushers_may_pull,
            enabled=self.enabled,
        )


class SignaturePolicyView(SignaturePolicyBody):
    id: str

    @classmethod
    def of(cls, policy: SignaturePolicy) -> SignaturePolicyView:
        return cls(
            id=policy.policy_id,
            name=policy.name,
            repositories=list(policy.repositories),
            key_ids=list(policy.key_ids),
            needed=policy.needed,
            identity=policy.identity,
            pushers_may_pull=policy.pushers_may_pull,
            enabled=policy.enabled,
        )


class SignerView(BaseModel):
    id: str
    name: str
    fingerprint: str


class AttachedArtifactView(BaseModel):
    """`size_bytes` is that of its contents; `verified_by` are the tenant's trusted keys that signed it."""

    digest: str
    kind: ArtifactKind
    format: str
    size_bytes: int
    pushed_at: datetime
    tag: str | None
    verified_by: list[SignerView]

    @classmethod
    def of(cls, attachment: AttachedArtifact) -> AttachedArtifactView:
        return cls(
            digest=str(attachment.digest),
            kind=attachment.kind,
            format=attachment.form,
            size_bytes=attachment.size_bytes,
            pushed_at=attachment.pushed_at,
            tag=attachment.tag,
            verified_by=[
                SignerView(id=key.key_id, name=key.name, fingerprint=key.fingerprint) for key in attachment.verified_by
            ],
        )
