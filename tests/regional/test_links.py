"""A regional's lines: limits, preheats that give way, and orders that stand still."""

from __future__ import annotations

import asyncio

import pytest

from common.clock import ManualClock
from common.spreading import masks
from common.spreading.exchange import Question
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2
from regional.leases import LeaseDesks
from regional.links import RegionalLinks
from regional.model import Effort, Phase
from tests.pace import BUSY_SECONDS
from tests.regional.conftest import PIECE, FakeCentre, Signer, sample, until
from tests.regional.test_orders import Desks, desks, order, order_set

__all__ = ["desks"]
MB = 1_000_000
KEY = sample(1, seed=14).key()
WARM, WANTED = sample(80 * PIECE, seed=11), sample(80 * PIECE, seed=12)


def limits(link: content_pb2.Link.ValueType, rate: int) -> regional_pb2.PlaneMessage:
    rules = [content_pb2.LimitRule(link=link, bytes_per_second=rate)]
    return regional_pb2.PlaneMessage(limits=content_pb2.Limits(rules=rules))


def of_effort(
    order_: regional_pb2.Order, effort: content_pb2.Effort.ValueType = content_pb2.EFFORT_LOWER
) -> regional_pb2.Order:
    order_.effort = effort
    return order_


async def test_an_ordinary_order_is_fetched_before_a_preheat(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    centre.publish(WARM, "acme")
    centre.publish(WANTED, "acme")
    rate = len(WANTED.data)  # in one second
    async with desks() as desk:
        links = desk.rig.edge.links
        desk.rig.lifecycle.spawn("links", links.run(desk.rig.seeding._session, desk.rig.seeding.torrents))
        await desk.session.received(limits(content_pb2.LINK_WAN_DOWN, rate))
        await until(lambda: links.wan.limited())
        began = asyncio.get_running_loop().time()
        await desk.session.received(order_set(1, of_effort(order(signer, WARM)), order(signer, WANTED)))
        await desk.held(WANTED)
        took = asyncio.get_running_loop().time() - began
        assert 0.85 < took < 2.5 + BUSY_SECONDS
        assert desk.rig.edge.held_bytes(WARM.digest) < 0.3 * len(WARM.data) * took
        await desk.held(WARM)


async def test_a_preheat_that_a_host_asks_for_is_none_any_more(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    async with desks() as desk:
        links = desk.rig.edge.links
        links.ordered(WARM.key(), Effort.LOWER)
        links.ordered(WARM.key("globex"), Effort.PAUSED)
        assert links.lower(WARM.digest)
        assert not links.paused(WARM.digest)
        links.asked(WARM.digest)
        assert not links.lower(WARM.digest)
        links.ordered(WANTED.key(), Effort.LOWER)
        links.ordered(WANTED.key("globex"), Effort.ORDINARY)
        assert not links.lower(WANTED.digest)
        links.ordered(WANTED.key("globex"), None)
        assert links.lower(WANTED.digest)


async def test_an_order_stands_still_outside_its_window_and_goes_on_with_what_it_had(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(WARM, "acme")
    centre.pause_at = 20 * PIECE
    async with desks() as desk:
        await desk.session.received(order_set(1, of_effort(order(signer, WARM))))
        await until(lambda: desk.rig.edge.held_bytes(WARM.digest) > 0)
        paused = of_effort(order(signer, WARM), content_pb2.EFFORT_PAUSED)
        await desk.session.received(order_set(2, paused))
        await until(lambda: desk.phase(WARM) is Phase.WAITING and not desk.rig.edge.is_fetching(WARM.digest))
        assert "stands still" in desk.detail(WARM)
    async with desks() as desk:  # the journal knows that it stands still
        await until(lambda: desk.phase(WARM) is Phase.WAITING)
        assert not desk.rig.edge.is_fetching(WARM.digest)
        centre.pause_at = None
        centre.resume.set()
        await desk.session.received(order_set(3, of_effort(order(signer, WARM))))
        await desk.held(WARM)
    assert centre.sent[WARM.digest] < len(WARM.data) + 40 * PIECE


@pytest.mark.parametrize("effort", list(Effort))
async def test_what_is_held_stays_held_whatever_the_effort(
    desks: Desks, centre: FakeCentre, signer: Signer, effort: Effort
) -> None:
    subject = sample(3000, seed=13)
    centre.publish(subject)
    words = {
        Effort.ORDINARY: content_pb2.EFFORT_UNSPECIFIED,
        Effort.LOWER: content_pb2.EFFORT_LOWER,
        Effort.PAUSED: content_pb2.EFFORT_PAUSED,
    }
    async with desks() as desk:
        await desk.session.received(order_set(1, order(signer, subject)))
        await desk.held(subject)
        await desk.session.received(order_set(2, of_effort(order(signer, subject), words[effort])))
        await asyncio.sleep(0)
        assert desk.phase(subject) is Phase.HELD


async def test_a_fat_regional_leases_more_copies_to_hosts_with_thin_uplinks(desks: Desks) -> None:
    shape = sample(64 * PIECE, seed=14).metainfo()
    everything = masks.full(shape.piece_count)

    async def copies(links: RegionalLinks) -> float:
        """What eight hosts are leased of a content that they hold already, each from its neighbours."""
        subject, leased = LeaseDesks(ManualClock(), links.lease_budget), 0
        for host in range(8):
            await subject.ask(KEY, shape, f"h{host}", Question(everything), lambda: None, frozenset)
        subject._desks[KEY].budget_until = 0.0
        for _ in range(8 * shape.piece_count):
            book = subject._desks[KEY].book
            book.budget = links.lease_budget(KEY.tenant_id, 8)
            run = book.ask("h0", Question(0), 0.0).run
            if run is None:
                break
            leased += len(run)
        return 1 + leased / shape.piece_count

    async with desks() as desk:
        links = desk.rig.edge.links
        assert await copies(links) < 1.05
        await desk.session.received(rules(regional_up=80 * MB, host_up=MB, host_down=50 * MB))
        assert links.lease_budget("acme", 8).copies == pytest.approx(8 * 80 / 88)
        assert links.lease_budget("narrow", 8).copies == 1, "its own limit is that of the regional"
        assert await copies(links) > 5
        await desk.session.received(rules(regional_up=80 * MB, host_up=50 * MB, host_down=50 * MB))
        assert await copies(links) < 1.05


def rules(**rates: int) -> regional_pb2.PlaneMessage:
    words = {name: content_pb2.Link.Value(f"LINK_{name.upper()}") for name in rates}
    said = [content_pb2.LimitRule(link=words[name], bytes_per_second=rate) for name, rate in rates.items()]
    said.append(content_pb2.LimitRule(link=content_pb2.LINK_REGIONAL_UP, bytes_per_second=MB // 10, tenant_id="narrow"))
    return regional_pb2.PlaneMessage(limits=content_pb2.Limits(rules=said))
