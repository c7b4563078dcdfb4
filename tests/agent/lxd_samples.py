"""LXD images as OCI artifacts for the agent's tests, and a holder of their bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.cache import ContentCache
from agent.model import Content, Image
from common.digest import Digest
from common.lxd_image import (
    CONFIG,
    METADATA,
    OCI_MANIFEST,
    ROOTFS_SQUASHFS,
    ROOTFS_TAR,
    UNIFIED,
    Part,
    config_of,
    manifest_of,
)


@dataclass(frozen=True)
class LxdSample:
    """An image and its bytes; `open_held` is what an agent's cache would give."""

    image: Image
    bytes_of: dict[Digest, bytes]

    @property
    def manifest(self) -> Digest:
        return self.image.manifest.digest

    async def open_held(self, digest: Digest) -> BinaryIO | None:
        data = self.bytes_of.get(digest)
        return None if data is None else io.BytesIO(data)

    async def put_into(self, cache: ContentCache, scratch: Path) -> None:
        for digest, data in self.bytes_of.items():
            await cache.publish_bytes(digest, [data])


def lxd_sample(*layers: tuple[str, bytes], properties: Mapping[str, str] | None = None) -> LxdSample:
    """`layers`: media types and bytes, of which nothing need be true."""
    config = config_of("x86_64", properties or {"os": "busybox"})
    parts = [(_part(media_type, data), data) for media_type, data in ((CONFIG, config), *layers)]
    manifest = manifest_of(parts[0][0], tuple(part for part, _ in parts[1:]))
    image = Image(
        "acme/system",
        "1",
        Content(Digest.of(manifest), len(manifest), OCI_MANIFEST, "token"),
        tuple(Content(part.digest, part.size_bytes, part.media_type, "token") for part, _ in parts),
    )
    return LxdSample(image, {Digest.of(manifest): manifest, **{part.digest: data for part, data in parts}})


def unified_sample(data: bytes) -> LxdSample:
    return lxd_sample((UNIFIED, data))


def split_sample(
    metadata: bytes, rootfs: bytes, *, squashfs: bool = False, properties: Mapping[str, str] | None = None
) -> LxdSample:
    root = (ROOTFS_SQUASHFS if squashfs else ROOTFS_TAR, rootfs)
    return lxd_sample((METADATA, metadata), root, properties=properties)


def _part(media_type: str, data: bytes) -> Part:
    return Part(media_type, Digest.of(data), len(data))
