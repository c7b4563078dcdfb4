"""OCI image layouts on disk (image-spec image-layout.md), made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


def write_image(root: Path, *, layers: int = 3, layer_bytes: int = 300_000, architecture: str = "amd64") -> str:
    """An image of incompressible layers; returns its digest."""
    made = [_layer(f"{architecture} {number}", layer_bytes) for number in range(layers)]
    descriptors = [_write(root, data, _LAYER) for _, data in made]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in made]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _write(root, _encode(config), _CONFIG),
        "layers": descriptors,
    }
    described = _write(root, _encode(manifest), _MANIFEST)
    _write_index(root, [described])
    return str(described["digest"])


def write_index(root: Path, *architectures: str) -> str:
    """A multi-platform image; returns the index's digest."""
    children = []
    for architecture in architectures:
        digest = write_image(root, layers=1, architecture=architecture)
        size = (root / "blobs" / "sha256" / digest.removeprefix("sha256:")).stat().st_size
        platform = {"architecture": architecture, "os": "linux"}
        children.append({"mediaType": _MANIFEST, "digest": digest, "size": size, "platform": platform})
    described = _write(root, _encode({"schemaVersion": 2, "mediaType": _INDEX, "manifests": children}), _INDEX)
    _write_index(root, [described])
    return str(described["digest"])


def blobs_of(root: Path) -> dict[str, bytes]:
    """Every content of a layout, checked against its name."""
    found = {path.name: path.read_bytes() for path in (root / "blobs" / "sha256").iterdir()}
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in found.items())
    return found


def _layer(name: str, size: int) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name.replace(" ", "-"))
        entry.size = size
        archive.addfile(entry, io.BytesIO(random.Random(name).randbytes(size)))
    raw = buffer.getvalue()
    return f"sha256:{hashlib.sha256(raw).hexdigest()}", gzip.compress(raw, 1, mtime=0)


def _write(root: Path, data: bytes, media_type: str) -> dict[str, Any]:
    name = hashlib.sha256(data).hexdigest()
    folder = root / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}


def _write_index(root: Path, manifests: list[dict[str, Any]]) -> None:
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_bytes(_encode({"schemaVersion": 2, "manifests": manifests}))


def _encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
