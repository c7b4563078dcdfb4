"""The installer environment as an OCI image layout, to be pushed like any image: `longshore push DIRECTORY NAME:TAG`.

The kernel is the first layer and the initial file system the second, as profiles' `boot.image` expects; each is titled
with its place below `/static`, where `oras pull` puts it. Invariant: the index comes last, so a layout that has one is
whole (image-layout.md of the OCI image specification). Blocking.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.digest import Digest
from common.durable import write_file

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.longshore.installer.v1"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_LAYER_TYPE = "application/octet-stream"


def write_layout(directory: Path, files: list[tuple[str, bytes]], annotations: dict[str, str]) -> Digest:
    """`files` by their titles, in this order; what was pushed before from `directory` stays. Raises `OSError`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    layers = []
    for title, content in files:
        layers.append({**_kept(blobs, _LAYER_TYPE, content), "annotations": {"org.opencontainers.image.title": title}})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": _kept(blobs, _EMPTY_TYPE, b"{}"),
        "layers": layers,
        "annotations": annotations,
    }
    described = _kept(blobs, MANIFEST_TYPE, _json(manifest))
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [described]}
    write_file(directory / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), mode=0o644)
    write_file(directory / "index.json", _json(index), mode=0o644)
    return Digest.parse(described["digest"])


def _kept(blobs: Path, media_type: str, content: bytes) -> dict[str, Any]:
    digest = Digest.of(content)
    path = blobs / digest.hex
    if not path.exists():
        write_file(path, content, mode=0o644)
    return {"mediaType": media_type, "digest": str(digest), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
