"""Images and assignments for the agent's tests."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from agent.cache import ContentCache
from agent.model import Assignment, Assignments, ContainerSpec, Content, DesiredState, Image
from common.digest import Digest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
INSTANCE = "01900000-0000-7000-8000-0000deadbeef"
SLEEPER = ContainerSpec(command=("/bin/sleep", "3600"), stop_grace_seconds=1)


@dataclass(frozen=True)
class Sample:
    """An image and its bytes."""

    image: Image
    bytes_of: dict[Digest, bytes]

    async def put_into(self, cache: ContentCache, scratch: Path) -> None:
        for digest, data in self.bytes_of.items():
            source = scratch / digest.hex
            source.write_bytes(data)
            await cache.publish(digest, len(data), source)
            source.unlink()


def noise(size: int, seed: str = "noise") -> bytes:
    """Incompressible, the same in every run."""
    return hashlib.shake_256(seed.encode()).digest(size)


def content(data: bytes, media_type: str = LAYER_TYPE, token: str = "token") -> Content:
    return Content(Digest.of(data), len(data), media_type, token)


def sample(*layers: bytes, repository: str = "acme/web", tag: str = "1.4", command: tuple[str, ...] = ()) -> Sample:
    """An OCI image of these layers. They need not be archives unless an engine is to unpack them."""
    packed = [layer if layer[:2] == b"\x1f\x8b" else gzip.compress(layer, 1, mtime=0) for layer in layers]
    diff_ids = [str(Digest.of(gzip.decompress(layer))) for layer in packed]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin"]} if command else {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    contents = (content(config, CONFIG_TYPE), *(content(layer) for layer in packed))
    descriptors = [{"mediaType": one.media_type, "digest": str(one.digest), "size": one.size_bytes} for one in contents]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": descriptors[0], "layers": descriptors[1:]}
    ).encode()
    image = Image(repository, tag, content(manifest, MANIFEST_TYPE), contents)
    return Sample(image, {Digest.of(data): data for data in (manifest, config, *packed)})


def assignment(image: Image, desired: DesiredState = DesiredState.RUNNING, **changes: object) -> Assignment:
    made = Assignment(INSTANCE, 1, "tenant-1", "acme", "web", desired, image, SLEEPER)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def assignments(*items: Assignment, generation: int = 1) -> Assignments:
    return Assignments(generation, True, {one.instance_id: one for one in items})
