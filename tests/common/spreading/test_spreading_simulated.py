"""How near to what the links allow leases come, with rates instead of sockets."""

from __future__ import annotations

import pytest

from common.spreading.leases import Budget, Shape
from common.spreading.model import copies_budget
from tests.common.spreading.simulation import MEBIBYTE, Peer, Simulation

SHAPE = Shape(256 * MEBIBYTE, MEBIBYTE // 4)  # as piece_length_for chooses
RATE = 12.5e6  # 100 Mbit/s


def equal(count: int, up: float = RATE) -> list[Peer]:
    return [Peer(f"host/{number}", up) for number in range(count)]


@pytest.mark.parametrize("count", [2, 8, 16])
def test_equal_hosts_come_near_the_bound_with_one_copy(count: int) -> None:
    outcome = Simulation(SHAPE, RATE, equal(count)).run()
    assert outcome.efficiency >= 0.95, outcome
    assert outcome.copies <= 1.05, outcome


def test_one_host_alone_takes_everything_from_the_source() -> None:
    outcome = Simulation(SHAPE, RATE, equal(1)).run()
    assert outcome.efficiency >= 0.98
    assert outcome.copies == pytest.approx(1.0)


def test_thin_uplinks_among_wide_ones_are_not_the_only_road() -> None:
    hosts = [Peer(f"host/{number}", RATE / 10 if number % 4 == 0 else 1.5 * RATE) for number in range(8)]
    outcome = Simulation(SHAPE, RATE, hosts).run()
    assert outcome.efficiency >= 0.95, outcome
    assert outcome.copies <= 1.05, outcome


def test_uplinks_of_all_kinds_come_near_the_bound() -> None:
    hosts = [Peer(f"host/{number}", RATE * (0.3 + 0.2 * number)) for number in range(8)]
    outcome = Simulation(SHAPE, RATE, hosts).run()
    assert outcome.efficiency >= 0.95, outcome
    assert outcome.copies <= 1.05, outcome


def test_behind_a_narrow_wan_the_wan_is_what_binds() -> None:
    outcome = Simulation(SHAPE, RATE, equal(4), wan=RATE / 2).run()
    assert outcome.efficiency >= 0.95, outcome
    assert outcome.copies <= 1.10, outcome


def test_a_fat_source_sends_more_copies_to_hosts_with_thin_uplinks() -> None:
    hosts = equal(8)
    source_up = 4 * RATE
    bound = 8 * SHAPE.length / (source_up + 8 * RATE)
    copies = copies_budget(SHAPE.length, source_up, bound, 8)
    known = Simulation(SHAPE, source_up, hosts, budget=Budget(copies=copies)).run()
    unknown = Simulation(Shape(SHAPE.length, MEBIBYTE), source_up, equal(8)).run()
    assert known.efficiency >= 0.95, known
    assert known.copies <= copies + 0.05
    assert unknown.efficiency >= 0.70, unknown


def test_when_a_quarter_dies_the_others_finish() -> None:
    simulation = Simulation(SHAPE, RATE, equal(8))
    for number, at in ((0, 5.0), (4, 9.0)):
        simulation.kill(f"host/{number}", at)
    outcome = simulation.run()
    assert outcome.seconds <= 1.3 * SHAPE.length / RATE * 1.05 + 10.0
    assert all(peer.held == simulation.everything for peer in simulation.peers.values() if peer.alive)
