from __future__ import annotations

import pytest

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs import DiskFull
from control_plane.blobs.memory import MemoryBlobStore
from tests.conformance.blob_store import BlobStoreContract, Rot, content, pieces, uploaded


class TestMemoryBlobStore(BlobStoreContract):
    @pytest.fixture
    def store(self) -> MemoryBlobStore:
        return MemoryBlobStore(ManualClock())

    @pytest.fixture
    def rot(self, store: MemoryBlobStore) -> Rot:
        return store.damage


async def test_a_full_store_keeps_what_fitted() -> None:
    store = MemoryBlobStore(ManualClock(), capacity=1000)
    data = content(1500)
    with pytest.raises(DiskFull):
        await uploaded(store, data)
    [pending] = await store.pending_uploads(ManualClock().now().replace(year=2100))
    assert pending.size == 1000
    store._capacity = 2000
    await store.append(pending.upload_id, 1000, pieces(data[1000:]))
    assert await store.commit(pending.upload_id, Digest.of(data)) == 1500
