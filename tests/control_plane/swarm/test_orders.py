from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from common.content_token import ContentVerifier
from common.digest import Digest
from control_plane.database import Database
from control_plane.fleet.desired import OrderSnapshot
from control_plane.fleet.model import IdcUnknown
from control_plane.jobs.service import JobService
from control_plane.swarm import returns_store
from control_plane.swarm.model import Effort, WantedContent
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from control_plane.swarm.wire import EFFORTS
from proto.regional.v1 import regional_pb2
from tests.control_plane.swarm.parts import Shelf, add_host, add_idc, announced, orders_generation, to_describe

pytestmark = pytest.mark.usefixtures("fleet")

SMALL = WantedContent(Digest.of(b"small"), 1000, "application/json")
LARGE = WantedContent(Digest.of(b"large"), 5 << 20, "application/octet-stream")
OTHER = WantedContent(Digest.of(b"other"), 5 << 20, "application/octet-stream")


async def want(
    database: Database,
    swarm: SwarmService,
    owner: str,
    contents: Sequence[WantedContent],
    idc: str = "idc-east",
    tenant: str = "t-acme",
    effort: Effort = Effort.ORDINARY,
) -> None:
    async with database.transaction() as unit:
        await swarm.want(unit, idc, tenant, owner, contents, effort)


async def release(database: Database, swarm: SwarmService, owner: str, idc: str | None = None) -> None:
    async with database.transaction() as unit:
        await swarm.release(unit, owner, idc)


async def snapshot(swarm: SwarmService, idc: str = "idc-east") -> OrderSnapshot:
    return await swarm.orders(idc, "regional-er")


async def efforts(swarm: SwarmService, idc: str = "idc-east") -> dict[WantedContent, Effort]:
    ordered = (await snapshot(swarm, idc)).orders.values()
    meant = {message: effort for effort, message in EFFORTS.items()}
    known = {str(one.digest): one for one in (SMALL, LARGE, OTHER)}
    return {known[order.content.digest]: meant[order.effort] for order in ordered}


async def test_what_is_wanted_is_ordered_in_that_idc_alone(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [SMALL, LARGE])
    ordered = await snapshot(swarm)
    assert set(ordered.orders) == {("t-acme", str(SMALL.digest)), ("t-acme", str(LARGE.digest))}
    order = ordered.orders["t-acme", str(LARGE.digest)]
    assert (order.content.size_bytes, order.content.media_type) == (LARGE.size_bytes, LARGE.media_type)
    assert (await snapshot(swarm, "idc-west")).orders == {}


async def test_orders_carry_tokens_for_the_regional_that_asks(
    database: Database, swarm: SwarmService, tokens: ContentTokens, clock: ManualClock
) -> None:
    await want(database, swarm, "i-1", [LARGE])
    verifier = ContentVerifier(clock)
    verifier.replace_keys(tokens.verifying_keys())
    (order,) = (await snapshot(swarm)).orders.values()
    claim = verifier.verify(order.content.token, LARGE.digest)
    assert (claim.bearer, claim.idc, claim.tenant_id) == ("regional/regional-er", "east", "t-acme")


async def test_an_order_stays_until_its_last_owner_releases_it(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [LARGE])
    await want(database, swarm, "i-2", [LARGE, SMALL])
    await release(database, swarm, "i-1")
    assert len((await snapshot(swarm)).orders) == 2
    await release(database, swarm, "i-2")
    assert (await snapshot(swarm)).orders == {}


async def test_the_generation_grows_exactly_when_orders_change(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [LARGE])
    first = await snapshot(swarm)
    await want(database, swarm, "i-1", [LARGE])
    await want(database, swarm, "i-2", [LARGE])
    await release(database, swarm, "i-1")
    assert await snapshot(swarm) == first
    await release(database, swarm, "i-2")
    assert (await snapshot(swarm)).generation == first.generation + 1
    assert (await announced(database)).count("fleet.orders_changed") == 2


async def test_two_tenants_order_the_same_bytes_apart(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [LARGE], tenant="t-acme")
    await want(database, swarm, "i-2", [LARGE], tenant="t-globex")
    orders = (await snapshot(swarm)).orders
    assert set(orders) == {("t-acme", str(LARGE.digest)), ("t-globex", str(LARGE.digest))}
    assert len({order.content.token for order in orders.values()}) == 2


async def test_a_unit_of_work_that_fails_wants_nothing(database: Database, swarm: SwarmService) -> None:
    before = await snapshot(swarm)
    with pytest.raises(RuntimeError):  # noqa: PT012  the failure is the caller's, inside its own transaction
        async with database.transaction() as unit:
            await swarm.want(unit, "idc-east", "t-acme", "i-1", [LARGE])
            raise RuntimeError
    assert await snapshot(swarm) == before


async def test_releasing_nothing_is_harmless(database: Database, swarm: SwarmService) -> None:
    await release(database, swarm, "nobody")
    assert await orders_generation(database, "east") == 1


async def test_an_unknown_idc_has_no_orders(swarm: SwarmService) -> None:
    with pytest.raises(IdcUnknown):
        await swarm.orders("idc-north", "regional-er")


async def test_large_contents_are_described_as_soon_as_they_are_wanted(
    database: Database, swarm: SwarmService, jobs: JobService
) -> None:
    await want(database, swarm, "i-1", [SMALL, LARGE])
    await want(database, swarm, "i-2", [SMALL, LARGE], idc="idc-west")
    assert await to_describe(jobs) == [("t-acme", LARGE.digest)]


async def test_concurrent_owners_never_lose_an_order(
    database: Database,
    swarm: SwarmService,
    open_replica: Callable[[], Database],
    tokens: ContentTokens,
    jobs: JobService,
) -> None:
    other_database = open_replica()
    other = SwarmService(other_database, tokens, Shelf(), jobs, SwarmMetrics(CollectorRegistry()))
    await want(database, swarm, "i-0", [LARGE])
    for step in range(10):
        generation = (await snapshot(swarm)).generation
        # The one owner leaves while the next arrives: whichever is first, the order is there afterwards.
        await asyncio.gather(
            release(database, swarm, f"i-{step}"), want(other_database, other, f"i-{step + 1}", [LARGE])
        )
        after = await snapshot(swarm)
        assert list(after.orders) == [("t-acme", str(LARGE.digest))]
        assert after.generation in (generation, generation + 2)


async def lists(database: Database) -> set[tuple[str, str]]:
    """(IDC, digest) of what is kept of contents that somebody wants."""
    async with database.reading() as connection:
        rows = await connection.exec_driver_sql("SELECT idc_id, digest FROM wanted_contents")
        return {(row[0], row[1]) for row in rows}


async def test_lists_that_overlap_are_ordered_once_with_the_smallest_effort(
    database: Database, swarm: SwarmService
) -> None:
    await want(database, swarm, "i-1", [SMALL, LARGE], effort=Effort.LOWER)
    await want(database, swarm, "i-2", [LARGE, OTHER], effort=Effort.ORDINARY)
    assert await efforts(swarm) == {SMALL: Effort.LOWER, LARGE: Effort.ORDINARY, OTHER: Effort.ORDINARY}
    await release(database, swarm, "i-2")
    assert await efforts(swarm) == {SMALL: Effort.LOWER, LARGE: Effort.LOWER}


async def test_who_wants_the_same_again_takes_the_new_effort_in_whatever_order_it_is_told(
    database: Database, swarm: SwarmService
) -> None:
    await want(database, swarm, "i-1", [SMALL, LARGE])
    await want(database, swarm, "i-1", [LARGE, SMALL, LARGE], effort=Effort.PAUSED)
    assert await efforts(swarm) == {SMALL: Effort.PAUSED, LARGE: Effort.PAUSED}


async def test_what_was_wanted_leaves_nothing_behind(database: Database, swarm: SwarmService) -> None:
    for owner in ("i-1", "i-2"):
        for idc in ("idc-east", "idc-west"):
            await want(database, swarm, owner, [SMALL, LARGE], idc)
    await release(database, swarm, "i-1")
    assert len(await lists(database)) == 4
    await release(database, swarm, "i-2", "idc-west")
    assert await lists(database) == {("idc-east", str(one.digest)) for one in (SMALL, LARGE)}
    await release(database, swarm, "i-2")
    assert await lists(database) == set()


async def test_who_wants_no_content_wants_nothing(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [])
    assert await orders_generation(database, "east") == 1


@pytest.mark.parametrize("seed", range(4))
async def test_orders_are_what_all_owners_want_whoever_comes_and_goes(
    database: Database, swarm: SwarmService, seed: int
) -> None:
    chance = random.Random(seed)
    said: dict[tuple[str, str, tuple[WantedContent, ...]], Effort] = {}

    def meant(idc: str) -> dict[WantedContent, Effort]:
        found: dict[WantedContent, Effort] = {}
        for (_, at, contents), effort in said.items():
            for content in contents if at == idc else ():
                found[content] = min(effort, found.get(content, effort))
        return found

    for _ in range(60):
        owner, idc = chance.choice(["i-1", "i-2", "i-3"]), chance.choice(["idc-east", "idc-west"])
        before, generation = meant(idc), (await snapshot(swarm, idc)).generation
        if chance.random() < 0.6:
            contents = tuple(one for one in (SMALL, LARGE, OTHER) if chance.random() < 0.6)
            effort = chance.choice(list(Effort))
            await want(database, swarm, owner, contents, idc, effort=effort)
            said[owner, idc, contents] = effort
        else:
            await release(database, swarm, owner, idc)
            said = {key: effort for key, effort in said.items() if key[:2] != (owner, idc)}
        assert await efforts(swarm, idc) == meant(idc)
        assert (await snapshot(swarm, idc)).generation == generation + (before != meant(idc))
    assert await lists(database) == {
        (idc, str(content.digest)) for idc in ("idc-east", "idc-west") for content in meant(idc)
    }


def order_report(
    digest: Digest = LARGE.digest, held: int = 0, phase: regional_pb2.OrderPhase.ValueType | None = None
) -> regional_pb2.OrderReport:
    return regional_pb2.OrderReport(
        tenant_id="t-acme",
        digest=str(digest),
        size_bytes=LARGE.size_bytes,
        held_bytes=held,
        phase=regional_pb2.ORDER_PHASE_FETCHING if phase is None else phase,
        from_centre_bytes=held,
    )


async def reported(database: Database) -> list[tuple[str, int, str]]:
    async with database.reading() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT regional_id, held_bytes, phase FROM regional_contents ORDER BY 1"
        )
        return [(row[0], row[1], row[2]) for row in rows]


async def test_the_last_report_of_a_regional_counts(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [LARGE])
    await swarm.accept_order_reports("regional-er", [order_report(held=10)])
    await swarm.accept_order_reports(
        "regional-er", [order_report(held=LARGE.size_bytes, phase=regional_pb2.ORDER_PHASE_HELD)]
    )
    assert await reported(database) == [("regional-er", LARGE.size_bytes, "held")]


async def test_reports_of_what_nobody_wants_are_not_kept(database: Database, swarm: SwarmService) -> None:
    await swarm.accept_order_reports("regional-er", [order_report(held=10)])
    assert await reported(database) == []


async def test_what_a_regional_holds_whole_is_kept_unasked_and_bounded(
    database: Database, swarm: SwarmService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.swarm.service._MOST_UNWANTED", 3)
    held, digests = regional_pb2.ORDER_PHASE_HELD, [Digest.of(bytes([number])) for number in range(5)]
    whole = [order_report(digest, LARGE.size_bytes, held) for digest in digests]
    await swarm.accept_order_reports("regional-er", whole[:2])
    await swarm.accept_order_reports("regional-er", whole)
    assert await reported(database) == [("regional-er", LARGE.size_bytes, "held")] * 3
    await swarm.accept_order_reports("regional-wr", whole[:1])
    async with database.reading() as connection:
        found = await returns_store.holders(connection, digests[0], LARGE.size_bytes, 9)
        assert found == [], "neither is attached"
    await swarm.accept_order_reports("regional-er", [order_report(digests[0], 0, regional_pb2.ORDER_PHASE_WAITING)])
    assert len(await reported(database)) == 3
    await swarm.accept_order_reports("regional-er", whole[4:])
    assert len(await reported(database)) == 4


async def test_an_evicted_order_is_forgotten_when_nobody_wants_it(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [LARGE])
    await swarm.accept_order_reports("regional-er", [order_report(held=10)])
    await release(database, swarm, "i-1")
    await swarm.accept_order_reports("regional-er", [order_report(held=5)])
    assert await reported(database) == [("regional-er", 5, "fetching")]
    await swarm.accept_order_reports("regional-er", [order_report(held=0, phase=regional_pb2.ORDER_PHASE_WAITING)])
    assert await reported(database) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": "sha256:short"},
        {"digest": "../../etc/passwd"},
        {"tenant_id": ""},
        {"tenant_id": "x" * 37},
        {"tenant_id": "t\0"},
        {"held_bytes": LARGE.size_bytes + 1},
        {"size_bytes": (1 << 64) - 1, "held_bytes": 1},
        {"phase": regional_pb2.ORDER_PHASE_UNSPECIFIED},
    ],
)
async def test_reports_that_make_no_sense_are_passed_over(
    database: Database, swarm: SwarmService, wrong: dict[str, object]
) -> None:
    await want(database, swarm, "i-1", [LARGE])
    report = order_report(held=1)
    for name, value in wrong.items():
        setattr(report, name, value)
    await swarm.accept_order_reports("regional-er", [report, order_report(held=7)])
    assert await reported(database) == [("regional-er", 7, "fetching")]


async def test_a_thousand_hosts_change_the_orders_of_their_idc_once(database: Database, swarm: SwarmService) -> None:
    await add_idc(database, "north")
    await add_host(database, "north", "n1")
    async with database.transaction() as unit:
        for number in range(1000):
            await swarm.want(unit, "idc-north", "t-acme", f"i-{number}", [SMALL, LARGE])
    assert await orders_generation(database, "north") == 2


async def test_what_any_idc_shall_hold_is_wanted_until_it_is_released(database: Database, swarm: SwarmService) -> None:
    await want(database, swarm, "i-1", [SMALL])
    assert await swarm.wanted([SMALL.digest, LARGE.digest]) == {SMALL.digest}
    await release(database, swarm, "i-1")
    assert await swarm.wanted([SMALL.digest]) == set()
    assert await swarm.wanted([]) == set()
