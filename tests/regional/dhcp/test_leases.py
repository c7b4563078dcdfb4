"""Addresses and their holders: a model that is told the same story must never disagree with the book."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from regional.dhcp.leases import OFFER_SECONDS, Lease, LeaseBook, State, Wish
from regional.dhcp.rates import Rate, RateLimit
from regional.dhcp.subnets import Pool, Reservation, Subnet, Subnets

from .packets import ip, subnet

RESERVED = ip("10.0.0.5")
OWNER = b"owner"
CLIENTS = st.sampled_from([OWNER, b"a", b"b", b"c", b"d", b"e", b"f"])
ADDRESSES = st.integers(ip("10.0.0.0"), ip("10.0.0.9"))


def small() -> Subnet:
    return Subnet(
        IPv4Network("10.0.0.0/28"),
        ip("10.0.0.1"),
        "eth0",
        [Pool(ip("10.0.0.1"), ip("10.0.0.6")), Pool(ip("10.0.0.7"), ip("10.0.0.8"), known_only=True)],
        [Reservation(mac="x", address=RESERVED)],
        [ip("10.0.0.2")],
    )


def wish(client: bytes, requested: int = 0) -> Wish:
    return Wish(client, RESERVED if client == OWNER else None, requested, known=client == OWNER)


class Book(RuleBasedStateMachine):
    """`told`: what a client believes: its address and until when."""

    def __init__(self) -> None:
        super().__init__()
        self.subnet = small()
        self.book = LeaseBook(Subnets([self.subnet]))
        self.now = 0.0
        self.told: dict[bytes, tuple[int, float]] = {}
        self.resting: dict[int, float] = {}

    @rule(client=CLIENTS, requested=ADDRESSES)
    def ask(self, client: bytes, requested: int) -> None:
        lease = self.book.offer(self.subnet, wish(client, requested), self.now)
        if lease is not None:
            self.allowed(client, lease.address)

    @rule(client=CLIENTS, address=ADDRESSES, seconds=st.integers(1, 100))
    def take(self, client: bytes, address: int, seconds: int) -> None:
        lease = self.book.grant(self.subnet, wish(client), address, seconds, self.now)
        if lease is not None:
            self.allowed(client, address)
            self.told[client] = (address, self.now + seconds)

    @rule(client=CLIENTS, address=ADDRESSES, seconds=st.integers(1, 100))
    def fail_to_store(self, client: bytes, address: int, seconds: int) -> None:
        before = self.book.at(address, self.now)
        lease = self.book.grant(self.subnet, wish(client), address, seconds, self.now)
        if lease is not None:
            self.book.undo(self.subnet, lease, before, self.now)
            if self.told.get(client, (address, 0))[0] != address:
                del self.told[client]  # it asked for another one, so it let go of that

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def find_it_in_use(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(self.told)))
        address, until = self.told.pop(client)
        if until > self.now:
            self.book.decline(self.subnet, address, self.now, 50)
            self.resting[address] = self.now + 50

    @rule(client=CLIENTS, address=ADDRESSES)
    def give_back(self, client: bytes, address: int) -> None:
        if self.book.release(self.subnet, client, address, self.now) is not None:
            assert self.told.pop(client)[0] == address

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def start_again(self) -> None:
        kept = [lease for lease in self.book.every() if lease.state is not State.OFFERED]
        self.book = LeaseBook(Subnets([self.subnet]))
        self.book.restore(kept, self.now)

    def allowed(self, client: bytes, address: int) -> None:
        assert address in self.subnet
        assert address not in self.subnet.never
        assert (address == RESERVED) <= (client == OWNER)
        assert (address >= ip("10.0.0.7")) <= (client == OWNER)
        assert self.resting.get(address, 0) <= self.now
        others = [held for each, held in self.told.items() if each != client]
        assert all(held != address or until <= self.now for held, until in others)

    @invariant()
    def nobody_shares(self) -> None:
        running = [(address, client) for client, (address, until) in self.told.items() if until > self.now]
        assert len({address for address, _ in running}) == len(running)
        for address, client in running:
            held = self.book.at(address, self.now)
            assert held is not None
            assert held.client == client

    @invariant()
    def some_are_kept_for_known_machines(self) -> None:
        used = [each for each in self.book.every() if self.subnet.is_open(each.address)]
        assert self.book._open[self.subnet] == len(used)
        if self.subnet.keep_percent:
            strangers = [each for each in used if each.client not in (OWNER, b"")]
            assert len(strangers) <= self.subnet.for_strangers == 2


class CrowdedBook(Book):
    """Of three addresses that anybody may have, one is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.subnet = replace(self.subnet, keep_percent=40)
        self.book = LeaseBook(Subnets([self.subnet]))


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestCrowdedBook = CrowdedBook.TestCase
TestCrowdedBook.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_addresses_go_round_and_come_back_to_who_had_them() -> None:
    area = small()
    book = LeaseBook(Subnets([area]))
    given = [book.grant(area, wish(c), (book.offer(area, wish(c), 0) or _none()).address, 10, 0) for c in (b"a", b"b")]
    assert [each.address for each in given if each] == [ip("10.0.0.3"), ip("10.0.0.4")]
    assert (book.offer(area, wish(b"b"), 11) or _none()).address == ip("10.0.0.4")
    assert (book.offer(area, wish(b"c"), 11) or _none()).address == ip("10.0.0.6")
    assert (book.offer(area, wish(b"d"), 11) or _none()).address == ip("10.0.0.3")
    assert book.offer(area, wish(b"e"), 11) is None
    assert (book.offer(area, wish(b"e"), 11 + OFFER_SECONDS) or _none()).address == ip("10.0.0.3")


def test_one_relay_port_cannot_take_everything() -> None:
    area = subnet(circuit_limit=2)
    book = LeaseBook(Subnets([area]))
    offers = [book.offer(area, Wish(bytes((n,)), circuit=b"port"), 0) for n in range(3)]
    assert [each is not None for each in offers] == [True, True, False]
    assert book.offer(area, Wish(b"z", circuit=b"other"), 0) is not None
    assert book.release(area, b"\0", 0, 0) is None
    assert book.offer(area, Wish(b"\x02", circuit=b"port"), OFFER_SECONDS + 1) is not None


def test_whoever_invents_clients_leaves_addresses_for_machines_that_are_known() -> None:
    area = subnet(pools=[Pool(ip("10.77.0.10"), ip("10.77.0.109"))], keep_percent=10)
    book = LeaseBook(Subnets([area]))
    strangers = [Wish(number.to_bytes(6, "big")) for number in range(10_000)]
    offered = [book.offer(area, each, 0) for each in strangers]
    assert sum(each is not None for each in offered) == 90  # one of a hundred is reserved, and nine are kept
    assert book.grant(area, strangers[5000], ip("10.77.0.109"), 100, 0) is None  # nor without asking first
    assert book.grant(area, strangers[0], (offered[0] or _none()).address, 100, 0) is not None
    known = [book.offer(area, Wish(bytes((number,)), known=True), 0) for number in range(10)]
    assert sum(each is not None for each in known) == 9
    assert (book.offer(area, strangers[0], 50) or _none()).state is State.LEASED


def test_a_flood_of_invented_clients_leaves_nothing_behind() -> None:
    area = small()
    book = LeaseBook(Subnets([area]))
    for number in range(2000):
        book.offer(area, Wish(number.to_bytes(6, "big")), number * 40.0)
    assert len(book._last) <= 16
    assert len(book._expiries) <= 1100
    limit = RateLimit(Rate(1, 2))
    passed = [limit.allows(b"one", 0) for _ in range(4)]
    assert passed == [True, True, False, False]
    assert limit.allows(b"one", 1.5)
    assert limit.allows(b"two", 1.5)


def _none() -> Lease:
    raise AssertionError("no address was offered")
