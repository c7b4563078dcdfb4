from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import delete

from common.bittorrent import metainfo
from common.clock import ManualClock
from common.digest import Digest
from common.errors import NotFound
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.sealing import SealedBox
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.describe import Describer
from control_plane.swarm.forgetting import Forgetting
from control_plane.swarm.jobs import build_handlers
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.model import ContentCorrupted, MetainfoPending, NotInSwarm
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tables import metainfo as metainfo_rows
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.swarm.parts import Running, Shelf, announced, to_describe

BLOB = bytes(range(256)) * (3 << 12) + b"a last piece that is short"


async def test_a_description_has_the_blobs_pieces_and_its_digest_for_a_name(describer: Describer, shelf: Shelf) -> None:
    blob = shelf.put(BLOB)
    described = await describer.describe("t-acme", blob.digest)
    parsed = metainfo.parse(described.encoded)
    assert (parsed.name, parsed.length, parsed.info_hash) == (blob.digest.hex, len(BLOB), described.info_hash)
    first = memoryview(BLOB)[: parsed.piece_length]
    assert metainfo.verify_piece(parsed, 0, first)


@pytest.mark.parametrize("chunk_bytes", [1000, 65536, 1 << 20, 10 << 20])
async def test_the_size_of_chunks_makes_no_difference(
    describer: Describer, shelf: Shelf, keys: ContentKeys, chunk_bytes: int
) -> None:
    shelf.chunk_bytes = chunk_bytes
    blob = shelf.put(BLOB)
    parsed = metainfo.parse((await describer.describe("t-acme", blob.digest)).encoded)
    tree = metainfo.merkle.MerkleBuilder(parsed.piece_length)
    tree.update(BLOB)
    assert tree.finish() == (len(BLOB), parsed.pieces_root, parsed.piece_layer)
    assert keys.swarm_secret() not in parsed.encoded


async def test_tenants_have_swarms_of_their_own(describer: Describer, shelf: Shelf) -> None:
    blob = shelf.put(BLOB)
    first = await describer.describe("t-acme", blob.digest)
    second = await describer.describe("t-globex", blob.digest)
    assert first.info_hash != second.info_hash


async def test_every_replica_describes_alike(
    describer: Describer, shelf: Shelf, open_replica: Callable[[], Database], box: SealedBox, clock: ManualClock
) -> None:
    blob = shelf.put(BLOB)
    other_database = open_replica()
    keys = ContentKeys(other_database, box, clock)
    await keys.load()
    other = Describer(other_database, shelf, keys.swarm_secret)
    first, second = await asyncio.gather(
        describer.describe("t-acme", blob.digest), other.describe("t-acme", blob.digest)
    )
    assert first == second
    assert shelf.reads == 2


async def test_two_control_planes_with_one_secret_describe_byte_for_byte_alike(
    describer: Describer, shelf: Shelf, open_replica: Callable[[], Database], keys: ContentKeys
) -> None:
    """A database of its own, and blobs that are read in other chunks."""
    blob = shelf.put(BLOB)
    first = await describer.describe("t-acme", blob.digest)
    async with open_replica().transaction() as unit:
        await unit.connection.execute(delete(metainfo_rows))
    shelf.chunk_bytes = 12_345
    again = await Describer(open_replica(), shelf, keys.swarm_secret).describe("t-acme", blob.digest)
    assert again == first
    assert shelf.reads == 2


async def test_a_second_description_reads_nothing(describer: Describer, shelf: Shelf, database: Database) -> None:
    blob = shelf.put(BLOB)
    first = await describer.describe("t-acme", blob.digest)
    assert await describer.describe("t-acme", blob.digest) == first
    assert shelf.reads == 1
    assert (await announced(database)).count("swarm.content_described") == 1


async def test_the_loop_goes_on_while_a_blob_is_hashed(describer: Describer, shelf: Shelf) -> None:
    blob = shelf.put(BLOB * 8)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        await describer.describe("t-acme", blob.digest)
        counting.cancel()
    assert turns > 50


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + b"!", lambda data: data[:-1], lambda data: data + b"!"])
async def test_a_damaged_blob_gets_no_description_and_says_so(
    describer: Describer, swarm: SwarmService, shelf: Shelf, database: Database, damage: Callable[[bytes], bytes]
) -> None:
    blob = shelf.put(BLOB)
    shelf.blobs[blob.digest] = damage(BLOB)
    with pytest.raises(ContentCorrupted, match="damaged"):
        await describer.describe("t-acme", blob.digest)
    with pytest.raises(ContentCorrupted, match="push it again"):
        await swarm.metainfo("t-acme", blob.digest)
    assert "swarm.content_damaged" in await announced(database)


async def test_a_blob_that_was_pushed_again_is_described_after_all(
    describer: Describer, swarm: SwarmService, shelf: Shelf, clock: ManualClock
) -> None:
    blob = shelf.put(BLOB)
    shelf.blobs[blob.digest] = b"damaged"
    with pytest.raises(ContentCorrupted):
        await describer.describe("t-acme", blob.digest)
    shelf.put(BLOB)
    clock.tick(180)
    with pytest.raises(MetainfoPending):
        await swarm.metainfo("t-acme", blob.digest)
    described = await describer.describe("t-acme", blob.digest)
    assert await swarm.metainfo("t-acme", blob.digest) == described


async def test_asking_for_metainfo_has_it_made_once(swarm: SwarmService, shelf: Shelf, jobs: JobService) -> None:
    blob = shelf.put(BLOB)
    for _ in range(3):
        with pytest.raises(MetainfoPending) as pending:
            await swarm.metainfo("t-acme", blob.digest)
        assert pending.value.retry_after_seconds >= 1
    assert await to_describe(jobs) == [("t-acme", blob.digest)]


async def test_who_asks_while_it_is_being_made_gets_it_without_coming_back(
    database: Database,
    clock: ManualClock,
    tokens: ContentTokens,
    shelf: Shelf,
    jobs: JobService,
    describer: Describer,
    metrics: SwarmMetrics,
) -> None:
    patient = SwarmService(database, tokens, shelf, jobs, metrics, smallest_bytes=1 << 20, patience_seconds=2.0)
    blob = shelf.put(BLOB)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(patient.metainfo("t-acme", blob.digest))
        described = await describer.describe("t-acme", blob.digest)
        while not asking.done():
            await clock.advance(0.05)
    assert asking.result() == described


async def test_a_small_content_is_not_in_the_swarm(swarm: SwarmService, shelf: Shelf, jobs: JobService) -> None:
    blob = shelf.put(b"small")
    with pytest.raises(NotInSwarm):
        await swarm.metainfo("t-acme", blob.digest)
    assert await to_describe(jobs) == []


async def test_an_unknown_content_is_not_found(swarm: SwarmService, describer: Describer) -> None:
    digest = Digest.of(b"nowhere")
    with pytest.raises(NotFound):
        await swarm.metainfo("t-acme", digest)
    with pytest.raises(NotFound):
        await describer.describe("t-acme", digest)


async def test_the_job_describes_and_reports_how_far_it_is(
    describer: Describer,
    keys: ContentKeys,
    shelf: Shelf,
    swarm: SwarmService,
    bad_peers: BadPeers,
    forgetting: Forgetting,
) -> None:
    blob = shelf.put(BLOB * 4)
    job = Running({"tenant_id": "t-acme", "digest": str(blob.digest)})
    result = await build_handlers(describer, keys, bad_peers, forgetting)["swarm.describe"](job)
    assert result == {"info_hash": (await swarm.metainfo("t-acme", blob.digest)).info_hash.hex()}
    assert job.reported == sorted(job.reported)
    assert job.reported[-1] == 1


async def test_the_job_does_not_read_a_damaged_blob_again_and_again(
    describer: Describer, keys: ContentKeys, shelf: Shelf, bad_peers: BadPeers, forgetting: Forgetting
) -> None:
    blob = shelf.put(BLOB)
    shelf.blobs[blob.digest] = b"damaged"
    result = await build_handlers(describer, keys, bad_peers, forgetting)["swarm.describe"](
        Running({"tenant_id": "t-acme", "digest": str(blob.digest)})
    )
    assert result is not None
    assert "damaged" in result["corrupted"]


async def test_keys_are_rotated_when_they_are_old(
    describer: Describer, keys: ContentKeys, clock: ManualClock, bad_peers: BadPeers, forgetting: Forgetting
) -> None:
    rotate = build_handlers(describer, keys, bad_peers, forgetting)["swarm.rotate_content_keys"]
    assert await rotate(Running({})) == {"key_id": None}
    clock.tick(31 * 24 * 3600)
    assert await rotate(Running({})) != {"key_id": None}
    assert len(keys.verifying()) == 2
