"""What was only pulled through is told to the centre too, the newest of it, and taken back when it leaves."""

from __future__ import annotations

import asyncio

import pytest

from proto.regional.v1 import regional_pb2

from .conftest import PIECE, FakeCentre, Sample, Signer, sample, until
from .test_orders import Desk, Desks, Line, acknowledging, desks, order, order_set, welcome

__all__ = ["desks"]
LARGE = sample(5 * PIECE, seed=60)
SMALL = sample(3000, seed=61)
OTHER = sample(4000, seed=62)
HELD, WAITING = regional_pb2.ORDER_PHASE_HELD, regional_pb2.ORDER_PHASE_WAITING


def last_report(line: Line, subject: Sample) -> regional_pb2.OrderReport | None:
    found = [one for batch in line.reports() for one in batch.orders if one.digest == str(subject.digest)]
    return found[-1] if found else None


async def attached(desk: Desk, signer: Signer) -> Line:
    """A round that acknowledges everything until the process ends."""
    line = Line()

    async def acknowledge() -> None:
        await acknowledging(desk, line)

    desk.rig.lifecycle.spawn("acknowledging", acknowledge())
    await desk.session.welcomed(welcome(signer), line)
    return line


async def test_what_was_pulled_through_is_reported_until_it_leaves_also_after_a_restart(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(LARGE, "acme")
    centre.publish(SMALL)
    async with desks() as desk:
        line = await attached(desk, signer)
        for subject in (LARGE, SMALL):
            assert await desk.rig.read(subject) == subject.data
        await until(lambda: line.last_phase(LARGE) == line.last_phase(SMALL) == HELD)
        said = last_report(line, LARGE)
        assert said is not None
        assert said.tenant_id == "acme"
        assert said.held_bytes == said.size_bytes == said.from_centre_bytes == len(LARGE.data)
    async with desks() as desk:
        line = await attached(desk, signer)
        await until(lambda: line.last_phase(LARGE) == line.last_phase(SMALL) == HELD)
        said = last_report(line, LARGE)
        assert said is not None
        assert said.from_centre_bytes == len(LARGE.data)
        assert await desk.rig.shelf.make_room(len(LARGE.data) + len(SMALL.data))
        await until(lambda: line.last_phase(LARGE) == line.last_phase(SMALL) == WAITING)
        said = last_report(line, LARGE)
        assert said is not None
        assert said.held_bytes == 0


async def test_what_is_ordered_no_more_and_still_here_is_told_on(
    desks: Desks, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(SMALL)
    async with desks() as desk:
        line = await attached(desk, signer)
        await desk.session.received(order_set(1, order(signer, SMALL)))
        await desk.held(SMALL)
        await desk.session.received(order_set(2))
        await until(lambda: line.last_phase(SMALL) == HELD)
        again = await attached(desk, signer)
        await until(lambda: again.last_phase(SMALL) == HELD)
        assert await desk.rig.shelf.make_room(1)
        await until(lambda: again.last_phase(SMALL) == WAITING)


async def test_the_newest_are_told_and_the_longest_known_taken_back(
    desks: Desks, centre: FakeCentre, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regional.holdings._MOST", 1)
    for subject in (SMALL, OTHER):
        centre.publish(subject)
    async with desks() as desk:
        line = await attached(desk, signer)
        for subject in (SMALL, OTHER):
            assert await desk.rig.read(subject) == subject.data
            await until(lambda subject=subject: desk.rig.edge.holds(subject.digest))  # type: ignore[misc]
            desk.rig.shelf._entries[subject.digest].used_at += 1000 if subject is OTHER else 0
            await asyncio.to_thread(desk.rig.directory.touch, subject.digest, 2e9 if subject is OTHER else 1e9)
        await until(lambda: (line.last_phase(SMALL), line.last_phase(OTHER)) == (WAITING, HELD))
    async with desks() as desk:
        line = await attached(desk, signer)
        await until(lambda: line.last_phase(OTHER) == HELD)
        assert line.last_phase(SMALL) == 0
