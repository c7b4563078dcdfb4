"""Clients of the registries of the tests, and what they push."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator

from common.clock import SystemClock
from common.digest import Digest
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.remote.client import RegistryClient
from control_plane.registry.remote.model import Endpoint, Patience
from control_plane.registry.remote.pushing import Source
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy
from tests.control_plane.registry.people import image_manifest

HASTY = Patience(tries=3, longest_wait_seconds=0.3, first_wait_seconds=0.01, idle_seconds=5, request_seconds=10)
LOOPBACK = AddressPolicy.of(["127.0.0.1"])


@contextlib.asynccontextmanager
async def talking_to(
    url: str, *, username: str = "", password: str = "", ca_pem: str = "", patience: Patience = HASTY
) -> AsyncIterator[RegistryClient]:
    outbound = Outbound(LOOPBACK)
    endpoint = Endpoint(url, username, password, ca_pem)
    yield RegistryClient(outbound, endpoint, SystemClock(), random.Random(1).random, patience)
    await outbound.close()


def source_of(data: bytes, piece: int = 100_000) -> Source:
    async def read(start: int, end: int) -> AsyncIterator[bytes]:
        for at in range(start, end, piece):
            yield data[at : min(end, at + piece)]

    return read


async def push_image(
    client: RegistryClient, repository: str, tag: str, layers: tuple[bytes, ...] = (b"layer",), config: bytes = b"{}"
) -> tuple[bytes, Digest]:
    """The manifest and its digest."""
    for data in (config, *layers):
        await client.push.blob(repository, Digest.of(data), len(data), source_of(data))
    payload = image_manifest(config, layers)
    return payload, await client.push.manifest(repository, tag, OCI_MANIFEST, payload)
