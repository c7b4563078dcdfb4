"""What is pushed is described before it is needed, for who spreads contents, and without a part in the push."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from common.clock import ManualClock
from common.digest import Digest
from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.jobs.service import JobService
from control_plane.registry.messages import ImagePushed, TagMoved
from control_plane.swarm.ahead import DescribeAhead
from control_plane.swarm.describe import Describer
from control_plane.swarm.model import WantedContent
from control_plane.swarm.service import SwarmService
from tests.control_plane.swarm.parts import Shelf, add_idc, to_describe
from tests.control_plane.tenants.conftest import counted_queries

MANIFEST = Digest.of(b"manifest")
LAYERS = [Digest.of(b"one"), Digest.of(b"two")]


class Images:
    """What was pushed where, with its large blobs."""

    def __init__(self) -> None:
        self.asked = 0

    async def large_contents(self, repository: str, manifest: Digest, smallest_bytes: int) -> list[Digest]:
        self.asked += 1
        return LAYERS if manifest == MANIFEST else []


def pushed(*digests: Digest, tenant: str = "acme") -> list[Announcement]:
    at = ManualClock().now()
    payloads = [
        {"tenant_id": f"t-{tenant}", "repository": f"{tenant}/web", "digest": str(digest), "tag": "1"}
        for digest in digests
    ]
    return [Announcement(f"m-{number}", ImagePushed.topic, each, at) for number, each in enumerate(payloads)]


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def ahead(database: Database, clock: ManualClock, images: Images, jobs: JobService) -> DescribeAhead:
    return DescribeAhead(database, clock, images, jobs, 1 << 20)


async def spread_something(database: Database, swarm: SwarmService, shelf: Shelf) -> None:
    idc_id = await add_idc(database, "east")
    blob = shelf.put(b"small")
    wanted: Sequence[WantedContent] = [WantedContent(blob.digest, blob.size, blob.media_type)]
    async with database.transaction() as unit:
        await swarm.want(unit, idc_id, "t-acme", "owner", wanted)


async def test_large_contents_of_a_tenant_that_spreads_are_described_once(
    database: Database, swarm: SwarmService, shelf: Shelf, ahead: DescribeAhead, jobs: JobService
) -> None:
    await spread_something(database, swarm, shelf)
    await ahead(pushed(MANIFEST, Digest.of(b"small image"), MANIFEST))
    await ahead(pushed(MANIFEST))
    assert sorted(await to_describe(jobs)) == sorted(("t-acme", digest) for digest in LAYERS)


async def test_what_is_described_already_is_not_described_again(
    database: Database, swarm: SwarmService, shelf: Shelf, ahead: DescribeAhead, jobs: JobService, describer: Describer
) -> None:
    blob = shelf.put(b"one")
    assert blob.digest == LAYERS[0]
    await describer.describe("t-acme", blob.digest)
    await ahead(pushed(MANIFEST))
    assert await to_describe(jobs) == [("t-acme", LAYERS[1])]


async def test_where_nothing_is_spread_a_push_costs_one_query_in_half_a_minute(
    database: Database, clock: ManualClock, images: Images, ahead: DescribeAhead, jobs: JobService
) -> None:
    with counted_queries(database) as queries:
        for _ in range(20):
            await ahead(pushed(MANIFEST, tenant="globex"))
        assert queries.count == 1
        clock.tick(31)
        await ahead(pushed(MANIFEST, tenant="globex"))
        assert queries.count == 2
    assert images.asked == 0
    assert await to_describe(jobs) == []


async def test_other_messages_cost_nothing(database: Database, ahead: DescribeAhead) -> None:
    moved = Announcement("m-1", TagMoved.topic, {"tenant_id": "t-acme"}, ManualClock().now())
    with counted_queries(database) as queries:
        await ahead([moved])
    assert queries.count == 0
