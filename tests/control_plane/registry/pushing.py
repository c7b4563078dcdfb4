"""Pushing through the services, as most tests begin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from common.digest import Digest
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Principal
from tests.control_plane.registry.people import ADA, image_manifest, index_manifest

WEB = "acme/web"


@dataclass(frozen=True)
class Image:
    payload: bytes
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        return Digest.of(self.payload)


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def push_blob(
    registry: RegistryService, data: bytes, repository: str = WEB, principal: Principal = ADA
) -> Digest:
    digest = Digest.of(data)
    await registry.uploads.push_whole(principal, repository, digest, chunks_of(data))
    return digest


async def push_image(
    registry: RegistryService,
    name: str = "image",
    *,
    tag: str | None = "latest",
    repository: str = WEB,
    principal: Principal = ADA,
) -> Image:
    """One that is unlike those of other names."""
    config, layers = f'{{"name":"{name}"}}'.encode(), (f"base {name}".encode(), f"top {name}".encode())
    for data in (config, *layers):
        await push_blob(registry, data, repository, principal)
    image = Image(image_manifest(config, layers), config, layers)
    await registry.images.push(principal, repository, image.payload, OCI_MANIFEST, tags=[tag] if tag else [])
    return image


async def push_index(
    registry: RegistryService, tag: str = "multi", repository: str = WEB
) -> tuple[bytes, dict[str, Image]]:
    images = {name: await push_image(registry, name, tag=None, repository=repository) for name in ("amd64", "arm64")}
    payload = index_manifest([(image.payload, name) for name, image in images.items()])
    await registry.images.push(ADA, repository, payload, OCI_INDEX, tags=[tag])
    return payload, images
