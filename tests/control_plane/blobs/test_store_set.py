"""Several stores keep the contract of one; and what only they can: another copy when one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.blobs.store_set.members import Member, Tier
from control_plane.blobs.store_set.store import StoreSet
from tests.conformance.blob_store import BlobStoreContract, Rot


def path_of(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex


class TestThreeStores(BlobStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[StoreSet]:
        hot, warm = (FilesystemBlobStore(tmp_path / name, reserve_bytes=0) for name in ("hot", "warm"))
        members = [
            Member("hot", hot),
            Member("warm", warm, Tier.WARM),
            Member("cold", MemoryBlobStore(ManualClock()), Tier.COLD),
        ]
        opened = StoreSet(members, ManualClock())
        yield opened
        await opened.close()

    @pytest.fixture
    def rot(self, tmp_path: Path) -> Rot:
        return lambda digest, data: (path_of(tmp_path / "hot", digest).write_bytes(data), None)[1]


class TestASingleStore(BlobStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[StoreSet]:
        opened = StoreSet([Member("primary", FilesystemBlobStore(tmp_path, reserve_bytes=0))], ManualClock())
        yield opened
        await opened.close()

    @pytest.fixture
    def rot(self, tmp_path: Path) -> Rot:
        return lambda digest, data: (path_of(tmp_path, digest).write_bytes(data), None)[1]
