"""Descriptions of contents that their tenant has no more go, and those that anybody needs stay."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import ManualClock
from common.digest import Digest
from control_plane.database import Database
from control_plane.swarm import block_map_store, metainfo_store
from control_plane.swarm.describe import Describer
from control_plane.swarm.forgetting import Forgetting
from control_plane.swarm.model import ContentCorrupted, WantedContent
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tables import metainfo, metainfo_failures
from tests.control_plane.swarm.parts import Shelf

SIZE = 9 << 20  # large enough for a block map


async def described(connection: AsyncConnection, table: object = metainfo) -> set[tuple[str, str]]:
    rows = await connection.execute(select(table.c.tenant_id, table.c.digest))  # type: ignore[attr-defined]
    return {(row.tenant_id, row.digest) for row in rows}


async def test_what_a_tenant_has_no_more_is_forgotten_after_a_day(
    database: Database, describer: Describer, shelf: Shelf, forgetting: Forgetting, clock: ManualClock
) -> None:
    one, two = shelf.put(os.urandom(SIZE)).digest, shelf.put(os.urandom(SIZE)).digest
    for tenant_id, digest in (("t-acme", one), ("t-globex", one), ("t-acme", two)):
        await describer.describe(tenant_id, digest)
    shelf.owned = {("t-globex", one)}
    assert await forgetting.forget_orphans() == 0, "they are young"
    clock.tick(timedelta(days=1, seconds=1).total_seconds())
    assert await forgetting.forget_orphans() == 2
    async with database.reading() as connection:
        assert await described(connection) == {("t-globex", str(one))}
        assert await block_map_store.find(connection, one) is not None
        assert await block_map_store.find(connection, two) is None
    shelf.owned = set()
    assert await forgetting.forget_orphans() == 1
    async with database.reading() as connection:
        assert await block_map_store.find(connection, one) is None
    before = (await describer.describe("t-acme", two)).info_hash
    assert before == (await describer.describe("t-acme", two)).info_hash, "it is made again when it is needed"
    async with database.reading() as connection:
        assert await block_map_store.find(connection, two) is not None


@pytest.mark.usefixtures("fleet")
async def test_what_somebody_wants_stays_though_the_tenant_does_not_own_it(
    database: Database,
    describer: Describer,
    shelf: Shelf,
    swarm: SwarmService,
    forgetting: Forgetting,
    clock: ManualClock,
) -> None:
    blob = shelf.put(os.urandom(2 << 20))
    await describer.describe("t-acme", blob.digest)
    async with database.transaction() as unit:
        await swarm.want(unit, "idc-east", "t-acme", "o", [WantedContent(blob.digest, blob.size, "layer")])
    clock.tick(2 * 86400)
    assert await forgetting.forget_orphans() == 0
    async with database.transaction() as unit:
        await swarm.release(unit, "o")
    assert await forgetting.forget_orphans() == 1


async def test_failures_go_too_and_many_go_page_by_page(
    database: Database,
    describer: Describer,
    shelf: Shelf,
    forgetting: Forgetting,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control_plane.swarm.forgetting._AT_ONCE", 2)
    blobs = [shelf.put(bytes([number]) * 5000).digest for number in range(7)]
    for number, digest in enumerate(blobs):
        if number % 2:
            shelf.blobs[digest] = b"damaged"
            with pytest.raises(ContentCorrupted):
                await describer.describe("t-acme", digest)
        else:
            await describer.describe("t-acme", digest)
    shelf.owned = {("t-acme", blobs[0]), ("t-acme", blobs[1])}
    clock.tick(2 * 86400)
    assert await forgetting.forget_orphans() == 5
    async with database.reading() as connection:
        assert await described(connection) == {("t-acme", str(blobs[0]))}
        assert await described(connection, metainfo_failures) == {("t-acme", str(blobs[1]))}
        assert await metainfo_store.find(connection, "t-acme", Digest.of(b"never")) is None
