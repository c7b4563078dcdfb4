from __future__ import annotations

from dataclasses import dataclass

import pytest

from common.clock import ManualClock
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.participants import Hooks
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.signatures.model import SignaturePolicy, TrustedKey
from control_plane.registry.signatures.service import SignatureService
from tests.control_plane.registry.people import ADA, Directory
from tests.control_plane.registry.signatures.signing import PrivateKey, public_pem


@dataclass
class World:
    database: Database
    blobs: MemoryBlobStore
    clock: ManualClock
    registry: RegistryService
    gate: SignatureGate
    signatures: SignatureService

    async def trust(self, name: str, key: PrivateKey | str) -> TrustedKey:
        pem = key if isinstance(key, str) else public_pem(key)
        return await self.signatures.add_key(ADA, "acme", name, pem)

    async def demand(self, *keys: TrustedKey, name: str = "signed", **more: object) -> SignaturePolicy:
        ids = tuple(key.key_id for key in keys)
        draft = SignaturePolicy("", "", name, **{"repositories": ("**",), "key_ids": ids, **more})  # type: ignore[arg-type]
        return await self.signatures.add_policy(ADA, "acme", draft)


@pytest.fixture
def world(database: Database, blobs: MemoryBlobStore, clock: ManualClock) -> World:
    """A registry with a signature gate, on both engines."""
    tenants = Directory("acme", "birch")
    gate = SignatureGate(database, blobs, tenants, clock)
    registry = RegistryService(database, blobs, tenants, clock, Hooks((gate,), gate=gate))
    return World(
        database, blobs, clock, registry, gate, SignatureService(database, tenants, registry.rights, gate, clock)
    )
