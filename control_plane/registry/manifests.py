"""Reading what somebody pushed as a manifest, without believing any of it; pure.

Docker schema 2 (image manifest V2, manifest list) and OCI (image-spec manifest.md, image-index.md, descriptor.md).
Invariant: a `ParsedManifest` is of exactly one kind. A document that could be read as another one by another client
(both `layers` and `manifests`: CVE-2021-41190; duplicate keys; a media type that its header contradicts) is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.registry.descriptors import descriptor_of, object_of, text_map_of
from control_plane.registry.failures import ManifestInvalid, ManifestTooLarge
from control_plane.registry.model import Descriptor

# The distribution specification obliges registries to take 4 MiB; Docker Hub and distribution take no more.
MAX_BYTES = 4 << 20
MAX_LAYERS = 4096
MAX_CHILDREN = 1024
MAX_DEPTH = 32

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_TYPES = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
INDEX_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
MANIFEST_TYPES = IMAGE_TYPES | INDEX_TYPES

_ARTIFACT_TYPE = re.compile(r"[\x21-\x7e]{0,255}")
_NOT_IN_IMAGE = ("manifests", "fsLayers", "signatures", "history", "blobs")
_NOT_IN_INDEX = ("layers", "config", "fsLayers", "signatures", "history", "blobs")
# Layers whose bytes a registry need not hold; the client fetches them from their `urls`.
_FOREIGN_PREFIXES = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


@dataclass(frozen=True, slots=True)
class Platform:
    architecture: str
    operating_system: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Child:
    """One entry of an index."""

    descriptor: Descriptor
    platform: Platform | None

    @property
    def is_manifest(self) -> bool:
        """Else it is some other content, held as a blob."""
        return self.descriptor.media_type in MANIFEST_TYPES


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """`blobs` are the config, then the layers; `required` those of them that the registry must hold."""

    media_type: str
    artifact_type: str | None
    blobs: tuple[Descriptor, ...]
    required: tuple[Descriptor, ...]
    children: tuple[Child, ...]
    subject: Descriptor | None
    annotations: Mapping[str, str]

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    def child_for(self, architecture: str, operating_system: str) -> Descriptor | None:
        """The first image of an index for the platform, as container runtimes choose."""
        for child in self.children:
            platform = child.platform
            if platform and (platform.architecture, platform.operating_system) == (architecture, operating_system):
                return child.descriptor
        return None


def parse_manifest(payload: bytes, content_type: str | None) -> ParsedManifest:
    """`content_type` is the header that came with it. Raises `ManifestInvalid`, `ManifestTooLarge`."""
    if len(payload) > MAX_BYTES:
        raise ManifestTooLarge(
            f"the manifest has {len(payload)} bytes", action=f"keep it within {MAX_BYTES} bytes", limit=MAX_BYTES
        )
    document = object_of(_decode(payload), "the manifest")
    if document.get("schemaVersion") != 2 or isinstance(document["schemaVersion"], bool):
        raise ManifestInvalid("schemaVersion is not 2", action="push Docker schema 2 or OCI manifests")
    media_type = _media_type(document, content_type)
    annotations = text_map_of(document.get("annotations"), "annotations")
    if media_type in INDEX_TYPES:
        return _index(document, media_type, annotations)
    return _image(document, media_type, annotations)


def _decode(payload: bytes) -> Any:
    try:
        document = json.loads(payload.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"the manifest is not JSON: {str(error)[:200]}", action="push valid JSON") from error
    _check_depth(document)
    return document


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise ManifestInvalid("the manifest is nested too deeply", action=f"keep it within {MAX_DEPTH} levels")


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _media_type(document: Mapping[str, Any], content_type: str | None) -> str:
    stated = document.get("mediaType")
    header = content_type.partition(";")[0].strip().lower() if content_type else None
    if stated is not None and not isinstance(stated, str):
        raise ManifestInvalid("mediaType is not a string", action="state the manifest's media type")
    if stated is not None and header is not None and stated != header:
        raise ManifestInvalid(
            f"the manifest says it is {stated[:120]!r}, its Content-Type says {header[:120]!r}",
            action="send the manifest's own media type as Content-Type",
        )
    media_type = stated or header
    if media_type not in MANIFEST_TYPES:
        raise ManifestInvalid(
            f"{str(media_type)[:120]!r} is not a manifest type that this registry stores",
            action="push " + " or ".join(sorted(MANIFEST_TYPES)),
        )
    if stated is None and media_type in (DOCKER_MANIFEST, DOCKER_LIST):
        raise ManifestInvalid("a Docker manifest must state its mediaType", action="add it")
    return str(media_type)


def _image(document: Mapping[str, Any], media_type: str, annotations: Mapping[str, str]) -> ParsedManifest:
    _refuse(document, _NOT_IN_IMAGE, "an image manifest")
    layers = _list(document, "layers", MAX_LAYERS)
    config = descriptor_of(document.get("config"), "config")
    blobs, required = [config], [config]
    for number, layer in enumerate(layers):
        descriptor = descriptor_of(layer, f"layers[{number}]")
        blobs.append(descriptor)
        if not (descriptor.media_type.startswith(_FOREIGN_PREFIXES) and layer.get("urls")):
            required.append(descriptor)
    return ParsedManifest(
        media_type=media_type,
        artifact_type=_artifact_type(document) or config.media_type,
        blobs=tuple(blobs),
        required=tuple(required),
        children=(),
        subject=_subject(document),
        annotations=annotations,
    )


def _index(document: Mapping[str, Any], media_type: str, annotations: Mapping[str, str]) -> ParsedManifest:
    _refuse(document, _NOT_IN_INDEX, "an index")
    children = []
    for number, entry in enumerate(_list(document, "manifests", MAX_CHILDREN)):
        descriptor = descriptor_of(entry, f"manifests[{number}]")
        children.append(Child(descriptor, _platform(entry, number)))
    return ParsedManifest(
        media_type=media_type,
        artifact_type=_artifact_type(document),
        blobs=(),
        required=(),
        children=tuple(children),
        subject=_subject(document),
        annotations=annotations,
    )


def _refuse(document: Mapping[str, Any], keys: Sequence[str], kind: str) -> None:
    for key in keys:
        if key in document:
            raise ManifestInvalid(f"{kind} must not have {key!r}", action="push it under its own media type", key=key)


def _list(document: Mapping[str, Any], key: str, limit: int) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list):
        raise ManifestInvalid(f"{key!r} is not a list", action="see the OCI image specification")
    if len(found) > limit:
        raise ManifestInvalid(f"{key!r} has {len(found)} entries", action=f"use at most {limit}", limit=limit)
    return found


def _artifact_type(document: Mapping[str, Any]) -> str | None:
    found = document.get("artifactType")
    # Lenient about the form (clients use bare words), strict about what a column and a header can hold.
    if found is not None and (not isinstance(found, str) or not _ARTIFACT_TYPE.fullmatch(found)):
        raise ManifestInvalid("artifactType is not a media type", action="use a media type of RFC 6838")
    return found or None


def _subject(document: Mapping[str, Any]) -> Descriptor | None:
    found = document.get("subject")
    return None if found is None else descriptor_of(found, "subject")


def _platform(entry: Mapping[str, Any], number: int) -> Platform | None:
    found = entry.get("platform")
    if found is None:
        return None
    platform = object_of(found, f"manifests[{number}].platform")
    words = [platform.get(key, "") for key in ("architecture", "os", "variant")]
    if not all(isinstance(word, str) for word in words):
        raise ManifestInvalid(f"manifests[{number}].platform is malformed", action="use strings")
    return Platform(*words)
