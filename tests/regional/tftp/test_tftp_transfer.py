"""One transfer over a network that loses, copies and reorders, in simulated time; and its rules one by one."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.tftp.sheets import Layout, lay_out
from regional.tftp.terms import Limits, Terms
from regional.tftp.transfer import Due, Transfer, wire_number

OPTIONS = {"blksize": "8"}


@dataclass
class Wire:
    """`loss`, `copies`: shares of packets; delays up to `delay` seconds, so packets overtake each other."""

    source: random.Random
    loss: float = 0.0
    copies: float = 0.0
    delay: float = 0.001
    queue: list[tuple[float, int, str, int]] = field(default_factory=list)
    order: itertools.count[int] = field(default_factory=itertools.count)

    def carry(self, now: float, to: str, number: int) -> None:
        for _ in range(1 + (self.source.random() < self.copies)):
            if self.source.random() >= self.loss:
                arrival = now + 0.0001 + self.delay * self.source.random()
                heapq.heappush(self.queue, (arrival, next(self.order), to, number))


class Client:
    """A receiver as RFC 7440 wants it, or an `eager` one that answers whatever it gets. It dallies at the end."""

    def __init__(self, terms: Terms, blocks: int, eager: bool) -> None:
        self.window, self.blocks, self.eager = terms.window_blocks, blocks, eager
        self.got, self.in_window, self.heard = (-1 if terms.answered else 0), 0, 0.0

    def take(self, block: int) -> int | None:
        """What it acknowledges."""
        if block != self.got + 1:
            if self.got < 0 or not (self.eager or block > self.got or (block == self.got and self.in_window == 0)):
                return None
            self.in_window = 0
            return self.got
        self.got = block
        self.in_window += 1
        if block == 0 or block == self.blocks or self.in_window >= self.window:
            self.in_window = 0
            return block
        return None


def send(transfer: Transfer, wire: Wire, now: float, sent: Counter[int]) -> None:
    first, through = transfer.wanted()
    for block in range(first, through + 1):
        sent[block] += 1
        wire.carry(now, "client", block)
    if first <= through:
        transfer.was_sent(through, now)


def run(
    wire: Wire, terms: Terms, blocks: int, limits: Limits, eager: bool = False
) -> tuple[Transfer, Client, Counter[int], float]:
    transfer, client = Transfer(terms, limits, 0.0, wire.source.random), Client(terms, blocks, eager)
    sent: Counter[int] = Counter()
    now = 0.0
    transfer.last = blocks
    send(transfer, wire, now, sent)
    while not transfer.done:
        until = min(transfer.deadline, client.heard + 1.0)
        if wire.queue and wire.queue[0][0] <= until:
            now, _, to, number = heapq.heappop(wire.queue)
            if to == "client":
                client.heard = now
                if (block := client.take(number)) is not None:
                    wire.carry(now, "server", block)
            elif transfer.steady and number == transfer.sent < blocks:
                sent[number + 1] += 1
                wire.carry(now, "client", number + 1)
                transfer.stepped(number + 1, now)
            elif transfer.acknowledged(wire_number(number, limits.rollover), now):
                send(transfer, wire, now, sent)
        elif client.heard + 1.0 <= transfer.deadline:
            now = client.heard = client.heard + 1.0
            if client.got >= 0:
                wire.carry(now, "server", client.got)
        else:
            now = transfer.deadline
            due = transfer.timer(now)
            if due is Due.GIVE_UP:
                break
            send(transfer, wire, now, sent)
    return transfer, client, sent, now


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.floats(0, 0.25),
    st.floats(0, 0.5),
    st.sampled_from([0.001, 0.05, 0.6]),
    st.integers(1, 16),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_every_block_arrives_over_a_bad_network(
    seed: int,
    loss: float,
    copies: float,
    delay: float,
    window: int,
    blocks: int,
    options: bool,
    rollover: int,
    eager: bool,
) -> None:
    terms = Terms(8, window, answered=OPTIONS if options else {})
    wire = Wire(random.Random(seed), loss, copies, delay)
    transfer, client, _, _ = run(wire, terms, blocks, Limits(rollover=rollover, patience_seconds=200), eager)
    assert transfer.done
    assert client.got == blocks


@pytest.mark.parametrize("window", [1, 4])
def test_copied_acknowledgements_multiply_nothing(window: int) -> None:
    """The sorcerer's apprentice."""
    wire = Wire(random.Random(1), copies=1.0, delay=0.0)
    transfer, _, sent, _ = run(wire, Terms(8, window), 200, Limits())
    assert transfer.done
    assert set(sent.values()) == {1}


@pytest.mark.parametrize("rollover", [0, 1])
def test_blocks_roll_over(rollover: int) -> None:
    wire = Wire(random.Random(2), delay=0.0)
    _, client, sent, _ = run(wire, Terms(8, 64, answered=OPTIONS), 140_000, Limits(rollover=rollover))
    assert client.got == 140_000
    assert max(sent.values()) == 1


def test_the_wire_numbers_of_both_rollovers() -> None:
    assert [wire_number(block, 0) for block in (0, 1, 65535, 65536, 65537)] == [0, 1, 65535, 0, 1]
    assert [wire_number(block, 1) for block in (0, 1, 65535, 65536, 65537)] == [0, 1, 65535, 1, 2]


def _begun(terms: Terms, blocks: int, limits: Limits | None = None) -> Transfer:
    transfer = Transfer(terms, limits or Limits(), 0.0, lambda: 0.5)
    transfer.last = blocks
    transfer.was_sent(transfer.wanted()[1], 0.0)
    return transfer


def test_old_and_future_acknowledgements_change_nothing() -> None:
    transfer = _begun(Terms(8, 4), 100)
    assert transfer.wanted() == (5, 4)
    for number in (0, 5, 9, 65535):
        assert not transfer.acknowledged(number, 0.1)
    assert transfer.wanted() == (5, 4)


def test_a_window_acknowledged_in_part_goes_on_after_that() -> None:
    transfer = _begun(Terms(8, 4), 100)
    assert transfer.acknowledged(2, 0.1)
    assert transfer.wanted() == (3, 6)


def test_nothing_but_the_options_leaves_before_they_are_acknowledged() -> None:
    transfer = _begun(Terms(8, 4, answered=OPTIONS), 100)
    assert (transfer.sent, transfer.wanted()) == (0, (1, 0))
    assert not transfer.acknowledged(1, 0.1)
    assert transfer.acknowledged(0, 0.1)
    assert transfer.wanted() == (1, 4)


def test_silence_is_answered_ever_more_slowly_and_then_given_up() -> None:
    transfer = _begun(Terms(8, answered=OPTIONS), 100)
    now, tries = 0.0, []
    while True:
        now = transfer.deadline
        if transfer.timer(now) is Due.GIVE_UP:
            break
        tries.append(now)
        transfer.was_sent(transfer.wanted()[1], now)
    waits = [round(after - before) for before, after in itertools.pairwise([0.0, *tries, now])]
    assert waits == [1, 2, 4, 8, 8, 8]
    assert 30 <= now <= 40


def test_a_client_that_only_creeps_is_given_up_in_the_end() -> None:
    transfer = _begun(Terms(8), 1000, Limits(longest_seconds=100))
    now, block = 0.0, 0
    while transfer.timer(now) is not Due.GIVE_UP:
        now += 0.9
        block += 1
        transfer.acknowledged(block, now)
        transfer.was_sent(transfer.wanted()[1], now)
    assert 100 <= now < 102


def test_a_lost_packet_costs_little_once_the_way_is_known() -> None:
    transfer = _begun(Terms(8), 100)
    transfer.acknowledged(1, 0.001)
    transfer.was_sent(2, 0.001)
    assert transfer.timer(0.25) is Due.SEND_AGAIN
    fixed = _begun(Terms(8, timeout_seconds=3.0, fixed_timeout=True, answered={"timeout": "3"}), 100)
    fixed.acknowledged(0, 0.001)
    fixed.was_sent(1, 0.001)
    assert fixed.timer(2.9) is Due.NOTHING


@given(st.binary(max_size=5000), st.sampled_from([8, 512, 1468]), st.sampled_from([0, 1]))
def test_sheets_are_the_file_in_packets(content: bytes, block_bytes: int, rollover: int) -> None:
    layout = Layout(block_bytes, rollover)
    sheet = lay_out(content[: layout.raw_bytes - 1], 0, layout, final=True)
    packets = [bytes(sheet.stretch(block, block)) for block in range(sheet.first, sheet.last + 1)]
    assert b"".join(packet[4:] for packet in packets) == content[: layout.raw_bytes - 1]
    assert [int.from_bytes(packet[2:4], "big") for packet in packets] == list(range(1, sheet.last + 1))
    assert {len(packet) for packet in packets[:-1]} <= {4 + block_bytes}
    assert len(packets[-1]) < 4 + block_bytes
    assert len(sheet.packets) <= 65_507
