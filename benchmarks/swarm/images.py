"""Images whose layers are any bytes: the registry does not open layers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from common.digest import Digest
from control_plane.cli.image_source import BlobSource, ManifestSource

_MEDIA = "application/vnd.oci.image"


def image_of(layers: Sequence[BlobSource]) -> ManifestSource:
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    small = BlobSource(Digest.of(config), len(config), lambda: io.BytesIO(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": {"mediaType": f"{_MEDIA}.config.v1+json", "digest": str(small.digest), "size": small.size},
        "layers": [
            {"mediaType": f"{_MEDIA}.layer.v1.tar", "digest": str(layer.digest), "size": layer.size} for layer in layers
        ],
    }
    payload = json.dumps(manifest).encode()
    return ManifestSource(Digest.of(payload), f"{_MEDIA}.manifest.v1+json", payload, (small, *layers))
