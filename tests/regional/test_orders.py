"""Orders: journalled, kept, withdrawn and reported."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.content_token import ContentVerifier, TokenInvalid
from common.errors import Stale
from common.patience import RoundEnded
from common.protocol_version import VERSION
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2
from regional.holdings import Holdings
from regional.journal import Journal
from regional.model import ContentKey, Phase
from regional.orders import OrderBook
from regional.reports import UnacknowledgedReports
from regional.session import Session, dialect

from .conftest import KEY_ID, PIECE, FakeCentre, Rig, Rigs, Sample, Signer, sample, until

LARGE = sample(5 * PIECE + 1000)
SMALL = sample(3000, seed=2)
OTHER = sample(2 * PIECE, seed=3)


class Line:
    """The way up of one round: keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[regional_pb2.RegionalMessage] = []
        self.broken = False

    def send(self, message: regional_pb2.RegionalMessage) -> None:
        if self.broken:
            raise RoundEnded("over")
        self.sent.append(message)

    def reports(self) -> list[regional_pb2.Reports]:
        return [message.reports for message in self.sent if message.HasField("reports")]

    def last_phase(self, subject: Sample) -> int:
        found = [
            report.phase for batch in self.reports() for report in batch.orders if report.digest == str(subject.digest)
        ]
        return found[-1] if found else 0


class Desk:
    def __init__(self, rig: Rig, book: OrderBook, session: Session, verifier: ContentVerifier) -> None:
        self.rig, self.book, self.session, self.verifier = rig, book, session, verifier

    def phase(self, subject: Sample, tenant: str = "acme") -> Phase | None:
        state = self.book.state(subject.key(tenant))
        return state.phase if state else None

    def detail(self, subject: Sample) -> str:
        state = self.book.state(subject.key())
        return state.detail if state else ""

    async def held(self, *subjects: Sample) -> None:
        await until(lambda: all(self.phase(subject) is Phase.HELD for subject in subjects))


Desks = Callable[..., Any]


@pytest.fixture
def desks(rigs: Rigs, centre: FakeCentre, tmp_path: Path) -> Desks:
    @asynccontextmanager
    async def make() -> AsyncIterator[Desk]:
        async with rigs() as rig:
            journal, clock = Journal(tmp_path), SystemClock()
            verifier = ContentVerifier(clock)
            book = OrderBook(rig.edge, rig.shelf, journal, random.Random(1).random, rig.lifecycle.spawn)
            holdings = Holdings(rig.edge, rig.shelf, rig.metainfos, book)
            session = Session(
                book, rig.edge, rig.centre, verifier, rig.statements, journal, clock, centre.url, holdings
            )
            await session.start()
            await book.start()
            await holdings.start()
            rig.lifecycle.spawn("reports", session.report_forever())
            yield Desk(rig, book, session, verifier)

    return make


def order(signer: Signer, subject: Sample, tenant: str = "acme", token: str = "") -> regional_pb2.Order:
    content = content_pb2.Content(
        digest=str(subject.digest),
        size_bytes=len(subject.data),
        media_type="application/x",
        token=token or signer.token(subject.key(tenant), bearer="regional/r1"),
    )
    return regional_pb2.Order(tenant_id=tenant, content=content)


def order_set(generation: int, *orders: regional_pb2.Order) -> regional_pb2.PlaneMessage:
    return regional_pb2.PlaneMessage(set=regional_pb2.OrderSet(results_in=generation, orders=orders))


def welcome(signer: Signer, content_url: str = "") -> regional_pb2.PlaneMessage:
    keys = [content_pb2.VerifyingKey(key_id=KEY_ID, public_key_pem=signer.public[KEY_ID])]
    said = regional_pb2.Welcome(
        session_id="s",
        heartbeat_seconds=10,
        regional_id="r1",
        idc="east",
        content_url=content_url,
        verifying_keys=keys,
        smallest_swarm_bytes=1 << 20,
    )
    return regional_pb2.PlaneMessage(welcome=said)


async def test_what_is_ordered_is_held_and_reported(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    centre.publish(LARGE, "acme")
    centre.publish(SMALL)
    async with desks() as desk:
        line = Line()
        await desk.session.welcomed(welcome(signer), line)
        await desk.session.received(order_set(3, order(signer, LARGE), order(signer, SMALL)))
        await desk.held(LARGE, SMALL)
        acknowledge = asyncio.ensure_future(acknowledging(desk, line))
        await until(lambda: line.last_phase(LARGE) == line.last_phase(SMALL) == regional_pb2.ORDER_PHASE_HELD)
        acknowledge.cancel()
        final = [report for batch in line.reports() for report in batch.orders if report.digest == str(LARGE.digest)][
            -1
        ]
        assert final.held_bytes == final.from_centre_bytes == final.size_bytes == len(LARGE.data)
        assert desk.book.generation == 3


async def acknowledging(desk: Desk, line: Line) -> None:
    """The plane: acknowledge every batch once."""
    acknowledged: list[int] = []
    while True:
        await until(lambda: len(line.reports()) > len(acknowledged))
        sequence = line.reports()[len(acknowledged)].sequence
        acknowledged.append(sequence)
        await desk.session.received(regional_pb2.PlaneMessage(reports_ack=regional_pb2.ReportsAck(sequence=sequence)))


async def test_orders_and_keys_survive_a_restart_without_the_centre(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(LARGE, "acme")
    async with desks() as desk:
        await desk.session.welcomed(welcome(signer), Line())
        await desk.session.received(order_set(7, order(signer, LARGE)))
        await desk.held(LARGE)
    async with desks() as desk:
        desk.rig.centre.base_url = "http://127.0.0.1:1"
        await desk.held(LARGE)
        assert desk.book.generation == 7
        assert desk.verifier.verify(signer.token(LARGE.key())).tenant_id == "acme"
        with pytest.raises(TokenInvalid):
            desk.verifier.verify(Signer().token(LARGE.key()))


async def test_changes_apply_to_the_generation_they_name_or_not_at_all(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(OTHER, "acme")
    centre.publish(SMALL)
    async with desks() as desk:
        await desk.session.received(order_set(1, order(signer, SMALL)))
        gap = regional_pb2.OrderChanges(applies_to=5, results_in=6, changed=[order(signer, OTHER)])
        with pytest.raises(Stale):
            await desk.session.received(regional_pb2.PlaneMessage(changes=gap))
        assert desk.phase(OTHER) is None
        removed = regional_pb2.OrderKey(tenant_id="acme", digest=str(SMALL.digest))
        change = regional_pb2.OrderChanges(
            applies_to=1, results_in=2, changed=[order(signer, OTHER)], removed=[removed]
        )
        await desk.session.received(regional_pb2.PlaneMessage(changes=change))
        await desk.held(OTHER)
        assert desk.phase(SMALL) is None
    async with desks() as desk:
        assert (desk.book.generation, desk.book.keys()) == (2, [OTHER.key()])


async def test_two_tenants_ordering_the_same_content_cost_one_crossing(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(LARGE, "acme", "globex")
    async with desks() as desk:
        await desk.session.received(order_set(1, order(signer, LARGE, "acme"), order(signer, LARGE, "globex")))
        await until(lambda: {desk.phase(LARGE, tenant) for tenant in ("acme", "globex")} == {Phase.HELD})
        states = [desk.book.state(LARGE.key(tenant)) for tenant in ("acme", "globex")]
        assert sum(state.from_centre_bytes for state in states if state) == len(LARGE.data)
        assert all(desk.rig.seeding.seeds(LARGE.key(tenant)) for tenant in ("acme", "globex"))
    assert centre.sent[LARGE.digest] == len(LARGE.data)


async def test_a_withdrawn_content_may_leave_and_an_ordered_one_may_not(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(LARGE, "acme")
    centre.publish(OTHER, "acme")
    async with desks() as desk:
        await desk.session.received(order_set(1, order(signer, LARGE), order(signer, OTHER)))
        await desk.held(LARGE, OTHER)
        assert not await desk.rig.shelf.make_room(1)
        await desk.session.received(order_set(2, order(signer, OTHER)))
        assert await desk.rig.shelf.make_room(1)
        assert desk.rig.shelf.held() == [OTHER.digest]


async def test_a_failing_order_says_why_and_is_tried_again(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    centre.publish(SMALL)
    centre.corrupt = lambda get: 5 if get < 2 else None
    async with desks() as desk:
        line = Line()
        await desk.session.welcomed(welcome(signer), line)
        await desk.session.received(order_set(1, order(signer, SMALL)))
        await until(lambda: desk.phase(SMALL) is Phase.FAILED)
        assert "not sha256" in desk.detail(SMALL)
        await desk.held(SMALL)
        assert desk.detail(SMALL) == ""
    assert len(centre.gets) == 2


async def test_an_order_waits_while_the_centre_is_busy(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    centre.publish(LARGE, "acme")
    centre.metainfo_busy = 503, "1"
    async with desks() as desk:
        await desk.session.received(order_set(1, order(signer, LARGE)))
        await until(lambda: "busy" in desk.detail(LARGE))
        assert desk.phase(LARGE) is Phase.WAITING
        centre.metainfo_busy = None
        await desk.held(LARGE)


async def test_a_renewed_token_is_used_at_once(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    centre.publish(SMALL)
    spent = signer.token(SMALL.key(), seconds=1800)
    centre.refuse.add(spent)
    async with desks() as desk:
        await desk.session.received(order_set(1, order(signer, SMALL, token=spent)))
        await until(lambda: desk.phase(SMALL) is Phase.FAILED)
        await desk.session.received(order_set(1, order(signer, SMALL)))
        await desk.held(SMALL)


async def test_an_order_that_makes_no_sense_does_not_harm_the_others(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(SMALL)
    broken = regional_pb2.Order(tenant_id="acme", content=content_pb2.Content(digest="sha256:../../etc/passwd"))
    nameless = regional_pb2.Order(tenant_id="", content=content_pb2.Content(digest=str(SMALL.digest)))
    async with desks() as desk:
        await desk.session.received(order_set(1, broken, nameless, order(signer, SMALL)))
        await desk.held(SMALL)
        assert desk.book.keys() == [SMALL.key()]


async def test_a_new_round_repeats_what_was_not_acknowledged(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    centre.publish(SMALL)
    async with desks() as desk:
        first = Line()
        await desk.session.welcomed(welcome(signer), first)
        await desk.session.received(order_set(1, order(signer, SMALL)))
        await until(lambda: bool(first.reports()))
        first.broken = True
        await desk.session.ended()
        await desk.held(SMALL)
        second = Line()
        await desk.session.welcomed(welcome(signer), second)
        await until(lambda: second.last_phase(SMALL) == regional_pb2.ORDER_PHASE_HELD)


async def test_a_welcome_may_name_another_place_for_contents(desks: Desks, centre: FakeCentre, signer: Signer) -> None:
    async with desks() as desk:
        await desk.session.welcomed(welcome(signer, "http://contents.example"), Line())
        assert desk.rig.centre.base_url == "http://contents.example"
        await desk.session.welcomed(welcome(signer), Line())
        assert desk.rig.centre.base_url == centre.url


async def test_hello_and_heartbeat_tell_the_present_generation(desks: Desks, signer: Signer) -> None:
    async with desks() as desk:
        words = dialect(desk.book, "p1", "1.0", "https://h:1", "http://h:2", "h:3")
        assert words.hello().hello.generation == 0
        await desk.session.received(order_set(4))
        assert words.heartbeat(9).heartbeat == regional_pb2.Heartbeat(sequence=9, generation=4)
        assert words.hello().hello == regional_pb2.Hello(
            process_id="p1",
            version="1.0",
            content_url="https://h:1",
            swarm_url="http://h:2",
            peer_address="h:3",
            generation=4,
            protocol_version=VERSION,
            image_tokens=True,
        )
        assert words.heartbeat_seconds(welcome(signer)) == 10
        assert words.heartbeat_seconds(order_set(1)) is None
        assert words.probe_nonce(regional_pb2.PlaneMessage(probe=regional_pb2.Probe(nonce="n"))) == "n"


def test_a_damaged_journal_is_set_aside(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.load_orders() is None
    (tmp_path / "orders.pb").write_bytes(b"\xff\xff\xff")
    assert journal.load_orders() is None
    assert (tmp_path / "orders.damaged").exists()
    assert not (tmp_path / "orders.pb").exists()


KEYS = [ContentKey(SMALL.digest, tenant) for tenant in ("a", "b", "c")]


def test_any_number_of_changes_is_one_report() -> None:
    reports = UnacknowledgedReports()
    for _ in range(5):
        reports.mark(KEYS[0])
    sequence, batch = reports.next_batch()
    assert batch == (KEYS[0],)
    assert not reports.due
    reports.mark(KEYS[0])
    reports.mark(KEYS[1])
    assert not reports.due, "one batch at a time is in flight"
    reports.acknowledged(sequence + 1)
    assert not reports.due, "an echo acknowledges nothing"
    reports.acknowledged(sequence)
    assert reports.next_batch()[1] == (KEYS[0], KEYS[1])


def test_a_new_round_begins_with_the_whole_picture() -> None:
    reports = UnacknowledgedReports()
    reports.mark(KEYS[0])
    reports.next_batch()
    reports.begin_round(KEYS)
    assert reports.due
    assert reports.next_batch()[1] == tuple(KEYS)
