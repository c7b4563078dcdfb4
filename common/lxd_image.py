"""An LXD image as an OCI artifact: the media types of its parts, and how a manifest names them; pure.

Unified: one layer, a tarball of metadata.yaml, templates/ and rootfs/. Split: two layers, the metadata tarball, then
the root file system as a squashfs or a tarball. Layers are LXD's own files, byte for byte: LXD knows an image by its
fingerprint, the sha256 of their bytes one after the other ("Image format" of LXD's documentation), so nothing may ever
compress them again. The config is for people and for choosing a platform; who imports an image computes the
fingerprint himself, for a config that lies must not name somebody else's image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.digest import Digest
from common.errors import Invalid

CONFIG = "application/vnd.longshore.lxd.config.v1+json"
UNIFIED = "application/vnd.longshore.lxd.unified.v1.tar"
METADATA = "application/vnd.longshore.lxd.metadata.v1.tar"
ROOTFS_SQUASHFS = "application/vnd.longshore.lxd.rootfs.v1.squashfs"
ROOTFS_TAR = "application/vnd.longshore.lxd.rootfs.v1.tar"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ROOTFS = frozenset({ROOTFS_SQUASHFS, ROOTFS_TAR})
# LXD's words for architectures are the kernel's, OCI's are those of Go.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


class LxdImageInvalid(Invalid):
    code = "lxd_image_invalid"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an image."""

    media_type: str
    digest: Digest
    size_bytes: int

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size_bytes}


def config_of(architecture: str, properties: Mapping[str, str]) -> bytes:
    """`architecture` in LXD's words. Raises `LxdImageInvalid` if nobody knows it."""
    if architecture not in _ARCHITECTURES:
        raise LxdImageInvalid(
            f"the image's metadata.yaml names the architecture {architecture[:60]!r}",
            action=f"known are {', '.join(_ARCHITECTURES)}",
        )
    document = {
        "architecture": _ARCHITECTURES[architecture],
        "os": "linux",
        "type": "container",
        "properties": dict(properties),
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def manifest_of(config: Part, parts: tuple[Part, ...]) -> bytes:
    _require_pair(parts)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [part.descriptor() for part in parts],
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def parts_in(manifest: bytes) -> tuple[Part, ...]:
    """The layers, in the order in which their bytes make the fingerprint. Raises `LxdImageInvalid`."""
    try:
        document = json.loads(manifest)
        parts = tuple(_part(layer) for layer in document["layers"])
        config = document["config"]["mediaType"]
    except (ValueError, KeyError, TypeError) as error:
        raise LxdImageInvalid(
            f"the manifest is not that of an image: {error}", action="push the image again"
        ) from error
    if config != CONFIG:
        raise LxdImageInvalid(f"the manifest's config is {config!r}, not that of an LXD image", action="see its format")
    _require_pair(parts)
    return parts


def _part(layer: Mapping[str, Any]) -> Part:
    return Part(str(layer["mediaType"]), Digest.parse(str(layer["digest"])), int(layer["size"]))


def _require_pair(parts: tuple[Part, ...]) -> None:
    kinds = [part.media_type for part in parts]
    unified = kinds == [UNIFIED]
    split = len(kinds) == 2 and kinds[0] == METADATA and kinds[1] in _ROOTFS
    if not unified and not split:
        raise LxdImageInvalid(
            f"these layers make no LXD image: {', '.join(kinds)[:300] or 'none'}",
            action="push it again with `longshore image import-lxd`",
        )
