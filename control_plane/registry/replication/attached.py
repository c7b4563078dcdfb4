"""What belongs to an image without being named by it: referrers, and the tags that stand for them where a registry has
no referrers API (distribution specification 1.1, "Referrers Tag Schema"; cosign's `.sig`, `.att`, `.sbom`); pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from common.digest import Digest
from control_plane.registry.manifests import OCI_INDEX, parse_manifest
from control_plane.registry.model import Manifest

_SUFFIXES = (".sig", ".att", ".sbom")
_TAG = re.compile(r"sha(?:256|512)-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?")
# Signatures of SBOMs of images; nobody goes further.
MAX_DEPTH = 4


def is_companion(tag: str) -> bool:
    """Whether the tag is there for another image's sake."""
    return _TAG.fullmatch(tag) is not None


def fallback_tag(subject: Digest) -> str:
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def companion_tags(subject: Digest) -> tuple[str, ...]:
    """Those of cosign; a sha512 digest leaves no room for them in a tag."""
    if subject.algorithm != "sha256":
        return ()
    return tuple(f"{subject.algorithm}-{subject.hex}{suffix}" for suffix in _SUFFIXES)


def with_referrers(listing: bytes | None, added: Sequence[Manifest]) -> bytes:
    """The index of the fallback tag with these in it. A listing that is none is replaced."""
    entries = [entry for entry in _entries(listing) if isinstance(entry, dict)]
    present = {entry.get("digest") for entry in entries}
    entries += [_entry(manifest) for manifest in added if str(manifest.digest) not in present]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json.dumps(document, separators=(",", ":")).encode()


def _entries(listing: bytes | None) -> list[Any]:
    try:
        found = json.loads(listing or b"{}").get("manifests")
    except (ValueError, AttributeError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _entry(manifest: Manifest) -> dict[str, Any]:
    parsed = parse_manifest(manifest.payload, manifest.media_type)
    entry: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": str(manifest.digest),
        "size": len(manifest.payload),
    }
    if parsed.artifact_type:
        entry["artifactType"] = parsed.artifact_type
    if parsed.annotations:
        entry["annotations"] = dict(parsed.annotations)
    return entry
