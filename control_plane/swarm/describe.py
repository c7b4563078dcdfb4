"""The BitTorrent description of a tenant's content, made once, when the content is first needed anywhere.

Invariant: the bytes are hashed twice in one pass, for their digest and for their Merkle tree, and a description is
stored only if the digest came out right, so that no swarm ever spreads a damaged blob. The salt is an HMAC of tenant
and digest under the swarm secret: the same every time, different for each tenant, and not to be guessed by one who has
the bytes. Hashing runs in a thread; hashlib lets go of the interpreter lock for blocks of 2 KiB and more, so the loop
goes on: 1 GiB took 4.4 to 4.8 s beside other work (2.1 CPU seconds), the loop's delay at p99 was 10 to 15 ms (3 to 4
idle), never above 29 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Protocol

import structlog

from common.bittorrent import metainfo, reuse
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.reuse import BlockMap, BlockMapBuilder
from common.digest import Digest, Hasher
from control_plane.blobs import BlobDamaged
from control_plane.database import Database
from control_plane.registry.model import Content
from control_plane.swarm import block_map_store, metainfo_store
from control_plane.swarm.messages import ContentDamaged, ContentDescribed
from control_plane.swarm.model import ContentCorrupted, StoredMetainfo

log = structlog.get_logger()

JOB_KIND = "swarm.describe"
# A hop to a thread and back costs about 0.1 ms; 4 MiB take some 12 ms to hash three times.
_BATCH_BYTES = 4 << 20
_READ_SECONDS = 60.0
REPAIR = "push it again; until then it is not spread"


Report = Callable[[float], Awaitable[None]]


class ContentSource(Protocol):
    """`registry.RegistryService`: no permission check, the caller made it. Raises `NotFound`."""

    async def content(self, digest: Digest) -> Content: ...


def job_payload(tenant_id: str, digest: Digest) -> dict[str, str]:
    return {"tenant_id": tenant_id, "digest": str(digest)}


def job_key(tenant_id: str, digest: Digest) -> str:
    return f"{JOB_KIND}:{tenant_id}:{digest}"


class Describer:
    def __init__(
        self,
        database: Database,
        contents: ContentSource,
        secret: Callable[[], bytes],
        authority: Callable[[str], Awaitable[bytes]] | None = None,
    ) -> None:
        """`secret`: `ContentKeys.swarm_secret`. `authority`: `SwarmAuthorities.certificate_of`, by tenant id; None:
        swarms speak plainly.
        """
        self._authority = authority
        self._database = database
        self._contents = contents
        self._secret = secret

    async def describe(self, tenant_id: str, digest: Digest, report: Report | None = None) -> StoredMetainfo:
        """Harmless to repeat, and to run twice at once. `report` hears the share of the bytes that is hashed.

        Raises `NotFound` if there is no such content, `ContentCorrupted` if its bytes are not what the digest says;
        that is kept for those who ask.
        """
        async with self._database.reading() as connection:
            known = await metainfo_store.find(connection, tenant_id, digest)
        if known is not None:
            return known
        try:
            content = await self._contents.content(digest)
            authority_pem = await self._authority(tenant_id) if self._authority is not None else b""
            built, blocks = await _hash(content, digest, self._salt(tenant_id, digest), authority_pem, report)
        except (ContentCorrupted, BlobDamaged) as failure:
            await self._keep_failure(tenant_id, digest, failure.detail)
            raise ContentCorrupted(failure.detail, action=REPAIR) from failure
        description = StoredMetainfo(
            tenant_id, digest, built.info_hash, built.piece_length, built.encoded, built.length, built.pieces_root
        )
        async with self._database.transaction() as unit:
            await metainfo_store.add(unit.connection, description, unit.clock.now())
            if blocks is not None:
                await block_map_store.add(unit.connection, digest, blocks.encode())
            await unit.announce(ContentDescribed(tenant_id, str(digest), built.info_hash.hex()))
        log.info("content described", tenant=tenant_id, digest=str(digest), pieces=built.piece_count)
        return description

    def _salt(self, tenant_id: str, digest: Digest) -> bytes:
        return hmac.digest(self._secret(), f"{tenant_id}|{digest}".encode(), "sha256")

    async def _keep_failure(self, tenant_id: str, digest: Digest, detail: str) -> None:
        log.error("content is damaged", tenant=tenant_id, digest=str(digest), error=detail)
        async with self._database.transaction() as unit:
            await metainfo_store.add_failure(unit.connection, tenant_id, digest, detail, unit.clock.now())
            await unit.announce(ContentDamaged(tenant_id, str(digest), detail))


async def _hash(
    content: Content, digest: Digest, salt: bytes, authority_pem: bytes, report: Report | None
) -> tuple[metainfo.Metainfo, BlockMap | None]:
    """The map is None for contents in which nothing would be found again."""
    piece_length = metainfo.piece_length_for(content.size)
    hasher, tree, blocks = digest.hasher(), MerkleBuilder(piece_length), _Blocks(content.size)
    async with contextlib.aclosing(_batches(content)) as batches:
        async for batch in batches:
            await asyncio.to_thread(_update, hasher, tree, blocks, batch)
            if report is not None:
                await report(hasher.size / content.size)
    actual = hasher.digest()
    if actual != digest or hasher.size != content.size:
        raise ContentCorrupted(
            f"the stored content {digest} is damaged: {hasher.size} of {content.size} bytes hash to {actual}",
            action=REPAIR,
        )
    length, root, layer = await asyncio.to_thread(tree.finish)
    return metainfo.build(digest.hex, length, root, layer, piece_length, salt, authority_pem), blocks.finish()


class _Blocks:
    """A map of the blocks, if the content's size and beginning say that it is worth one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._builder: BlockMapBuilder | None = None
        self._begun = False

    def update(self, batch: bytearray) -> None:
        if not self._begun and reuse.mappable(self._size, bytes(batch[:8])):
            self._builder = BlockMapBuilder(reuse.block_length_for(self._size))
        self._begun = True
        if self._builder is not None:
            self._builder.update(batch)

    def finish(self) -> BlockMap | None:
        return self._builder.finish() if self._builder is not None else None


def _update(hasher: Hasher, tree: MerkleBuilder, blocks: _Blocks, batch: bytearray) -> None:
    hasher.update(memoryview(batch))
    tree.update(batch)
    blocks.update(batch)


async def _batches(content: Content) -> AsyncGenerator[bytearray]:
    batch = bytearray()
    async with contextlib.aclosing(content.read(0, content.size)) as chunks:
        while (chunk := await _next(chunks)) is not None:
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                yield batch
                batch = bytearray()
    if batch:
        yield batch


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async with asyncio.timeout(_READ_SECONDS):
        return await anext(chunks, None)
