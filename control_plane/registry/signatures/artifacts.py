"""What an attached manifest is, by its structure; pure.

Invariant: a policy lets through what no runtime can run, so a false "yes" would be a way around it. What a manifest
calls itself is not asked; every layer must be of a type of signatures, attestations or SBOMs. cosign's own manifests
carry the config type of an image, and a runtime that looks at nothing else might unpack their layers: of those, every
layer must be a JSON document, which no tar archive, compressed or not, can be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.digest import Digest, DigestInvalid
from control_plane.registry.signatures.claims import BUNDLE_PREFIX, DSSE, IN_TOTO, SIGNATURE_ANNOTATION, SIMPLE_SIGNING
from control_plane.registry.signatures.documents import document_of, list_at, member_at, text_at
from control_plane.registry.signatures.model import ArtifactKind
from control_plane.registry.signatures.notation import COSE, JWS, NOTATION

MAX_LAYERS = 16
_SBOMS = {
    "application/spdx+json": "spdx",
    "text/spdx+json": "spdx",
    "text/spdx": "spdx",
    "text/spdx+xml": "spdx",
    "application/vnd.cyclonedx": "cyclonedx",
    "application/vnd.cyclonedx+json": "cyclonedx",
    "application/vnd.cyclonedx+xml": "cyclonedx",
    "application/vnd.syft+json": "syft",
}
_IMAGE_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_COSIGN_TAG = re.compile(r"(sha256|sha512)-([0-9a-f]+)\.(sig|att|sbom)")
COSIGN_SUFFIXES = ("sig", "att", "sbom")


@dataclass(frozen=True, slots=True)
class Layer:
    media_type: str
    digest: Digest
    size: int
    signature: str | None


@dataclass(frozen=True, slots=True)
class Artifact:
    kind: ArtifactKind
    form: str
    layers: tuple[Layer, ...]


def cosign_tags(digest: Digest) -> tuple[str, ...]:
    """The tags under which cosign attaches to an image."""
    return tuple(f"{digest.algorithm}-{digest.hex}.{suffix}" for suffix in COSIGN_SUFFIXES)


def is_cosign_tag(tag: str) -> bool:
    return _COSIGN_TAG.fullmatch(tag) is not None


def looks_attached(payload: bytes) -> bool:
    """Every layer is of a type that is attached, and there is one."""
    document = document_of(payload)
    layers = list_at(document, "layers")
    return (
        bool(layers)
        and "manifests" not in (document or {})
        and all(_is_attachment_type(text_at(layer, "mediaType") or "") for layer in layers)
    )


def claims_to_be_an_image(payload: bytes) -> bool:
    return text_at(document_of(payload), "config", "mediaType") in _IMAGE_CONFIGS


def _is_attachment_type(media_type: str) -> bool:
    return (
        media_type in (SIMPLE_SIGNING, DSSE, IN_TOTO, JWS, COSE)
        or media_type in _SBOMS
        or media_type.startswith(BUNDLE_PREFIX)
    )


def read_artifact(payload: bytes) -> Artifact:
    """Never raises; what is unknown is `OTHER`."""
    document = document_of(payload)
    layers = tuple(layer for each in list_at(document, "layers")[:MAX_LAYERS] if (layer := _layer(each)) is not None)
    artifact_type = text_at(document, "artifactType") or text_at(document, "config", "mediaType") or ""
    types = {layer.media_type for layer in layers}
    predicate = text_at(member_at(document, "annotations"), "dev.sigstore.bundle.predicateType")
    kind, form = _kind(artifact_type, types, predicate)
    return Artifact(kind, form, layers)


def _kind(artifact_type: str, types: set[str], predicate: str | None) -> tuple[ArtifactKind, str]:
    if SIMPLE_SIGNING in types:
        return ArtifactKind.SIGNATURE, "cosign"
    if any(each.startswith(BUNDLE_PREFIX) for each in types):
        is_signature = predicate is None or predicate.startswith("https://sigstore.dev/cosign/sign/")
        return (ArtifactKind.SIGNATURE if is_signature else ArtifactKind.ATTESTATION), "sigstore-bundle"
    if artifact_type == NOTATION:
        return ArtifactKind.SIGNATURE, "notation-cose" if COSE in types else "notation-jws"
    if DSSE in types:
        return ArtifactKind.ATTESTATION, "dsse"
    if IN_TOTO in types:
        return ArtifactKind.ATTESTATION, "in-toto"
    found = next((_SBOMS[each] for each in sorted({*types, artifact_type}) if each in _SBOMS), None)
    return (ArtifactKind.SBOM, found) if found else (ArtifactKind.OTHER, artifact_type or "unknown")


def _layer(entry: object) -> Layer | None:
    media_type, digest, size = text_at(entry, "mediaType"), text_at(entry, "digest"), member_at(entry, "size")
    try:
        parsed = Digest.parse(digest or "")
    except DigestInvalid:
        return None
    if media_type is None or not isinstance(size, int):
        return None
    return Layer(media_type, parsed, size, text_at(entry, "annotations", SIGNATURE_ANNOTATION))
