"""Who is leased what, and the properties that hold whatever hosts do or fail to do."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.spreading import masks
from common.spreading.exchange import Question
from common.spreading.leases import Budget, LeaseBook, Shape
from common.spreading.records import decode_book, encode_book

MEBIBYTE = 1 << 20
SHAPE = Shape(40 * MEBIBYTE - 5, MEBIBYTE)
EVERYTHING = masks.full(40)


def book(budget: Budget | None = None) -> LeaseBook:
    return LeaseBook(SHAPE, budget or Budget())


def asked(subject: LeaseBook, holder: str, now: float = 0.0, **question: object) -> range | None:
    held = question.pop("held", 0)
    return subject.ask(holder, Question(held, **question), now).run  # type: ignore[arg-type]


def test_two_hosts_never_get_the_same_piece() -> None:
    subject = book()
    first, second = asked(subject, "host/1"), asked(subject, "host/2")
    assert first is not None
    assert second is not None
    assert not set(first) & set(second)


def test_what_a_living_host_holds_is_not_leased_to_others() -> None:
    subject = book(Budget(strict=True))
    subject.ask("host/1", Question(EVERYTHING & ~1), 0.0, available=0)
    assert asked(subject, "host/2") == range(1)
    assert asked(subject, "host/2", fetching=(range(1),)) is None


def test_only_what_the_source_has_is_leased() -> None:
    subject = book()
    assert subject.ask("host/1", Question(0), 0.0, available=0).run is None
    assert subject.ask("host/1", Question(0), 0.0, available=0b1000).run == range(3, 4)


def test_the_lease_of_a_dead_host_is_leased_again_and_so_is_what_it_held() -> None:
    subject = book(Budget(strict=True))
    lost = asked(subject, "host/1", held=0b11)
    assert lost is not None
    leased, now = 0, 0.0
    while leased & 0b11 != 0b11:
        run = asked(subject, "host/2", now, held=leased, peer_bytes=1)
        if run is not None:
            leased |= masks.of_range(run)
        now += 0.25
    assert 4 < now < 18, "while it may live it is waited for, and not much longer"


def test_a_lease_that_failed_is_free_with_the_next_question() -> None:
    subject = book()
    run = asked(subject, "host/1")
    assert asked(subject, "host/1", 0.1) == run


def test_a_lease_that_is_being_fetched_is_prolonged_and_kept() -> None:
    subject = book()
    run = asked(subject, "host/1", source_rate=1e6)
    assert run is not None
    for tenths in range(1, 60):
        other = asked(subject, "host/2", tenths / 10, held=EVERYTHING & ~masks.of_range(run) & ~(1 << 39))
        assert other is None or not set(other) & set(run)
        again = subject.ask("host/1", Question(0, (run,), source_rate=1e6), tenths / 10, available=0)
        assert again.run is None


def test_a_source_that_restarted_learns_what_is_under_way() -> None:
    subject = book()
    subject.ask("host/1", Question(0, (range(5),)), 0.0, available=0)
    run = asked(subject, "host/2")
    assert run is not None
    assert run.start == 5


def test_what_a_reader_waits_for_comes_first() -> None:
    run = asked(book(), "host/1", soon=(33, 7))
    assert run is not None
    assert run.start == 33


def test_without_gates_to_spare_others_get_nothing_from_the_source() -> None:
    subject = book(Budget(strict=True, gates=2))
    runs = [asked(subject, f"host/{number}") for number in range(4)]
    assert [run is not None for run in runs] == [True, True, False, False]
    assert asked(subject, "host/3", 11.0) is not None, "the gates died"


def test_a_seed_that_the_tracker_does_not_know_any_more_is_not_waited_for() -> None:
    subject = book(Budget(strict=True))
    subject.ask("host/1", Question(EVERYTHING), 0.0, seeds={"host/1"})
    assert subject.ask("host/2", Question(0), 1.0, seeds={"host/1"}).run is None
    assert subject.ask("host/2", Question(0), 70.0, seeds=set()).run is not None


def test_a_host_whom_its_peers_give_nothing_is_served() -> None:
    subject = book(Budget(strict=True))
    subject.ask("host/1", Question(EVERYTHING), 0.0)
    assert asked(subject, "host/2", 0.0) is None
    assert asked(subject, "host/2", 3.0, peer_bytes=10) is None
    assert asked(subject, "host/2", 8.0, peer_bytes=10) is None
    assert asked(subject, "host/2", 9.5, peer_bytes=10) is not None


def test_a_known_budget_of_copies_is_used_and_kept() -> None:
    subject = book(Budget(copies=1.5))
    subject.ask("host/1", Question(EVERYTHING), 0.0)
    extra, held = 0, 0
    while (run := asked(subject, "host/2", 0.0, held=held)) is not None:
        held |= masks.of_range(run)
        extra += len(run)
    assert 18 <= extra <= 20


class Spreading(RuleBasedStateMachine):
    """Hosts that fetch, fail, die and come back in any order, at a source that gets its pieces one by one."""

    @initialize(
        budget=st.sampled_from([Budget(), Budget(strict=True), Budget(strict=True, gates=2), Budget(copies=2.0)])
    )
    def begin(self, budget: Budget) -> None:
        self.budget = budget
        self.subject = book(budget)
        self.now = 0.0
        self.available = 0
        self.held: dict[str, int] = {}
        self.fetching: dict[str, range] = {}

    @rule(number=st.integers(0, 4))
    def asks(self, number: int) -> None:
        name = f"host/{number}"
        held, busy = self.held.setdefault(name, 0), self.fetching.get(name)
        question = Question(held, (busy,) if busy else (), source_rate=2e6)
        grant = self.subject.ask(name, question, self.now, available=self.available)
        if grant.run is None:
            return
        mask = masks.of_range(grant.run)
        assert mask & ~self.available == 0
        assert mask & held == 0
        if busy is None:
            self.fetching[name] = grant.run

    @rule(number=st.integers(0, 4))
    def receives(self, number: int) -> None:
        name = f"host/{number}"
        if (run := self.fetching.pop(name, None)) is not None:
            self.held[name] |= masks.of_range(run)

    @rule(number=st.integers(0, 4))
    def fails(self, number: int) -> None:
        self.fetching.pop(f"host/{number}", None)

    @rule(number=st.integers(0, 4), other=st.integers(0, 4))
    def gives(self, number: int, other: int) -> None:
        if f"host/{number}" in self.held and f"host/{other}" in self.held:
            self.held[f"host/{other}"] |= self.held[f"host/{number}"] & 0x5555555555

    @rule(number=st.integers(0, 4))
    def dies(self, number: int) -> None:
        self.held.pop(f"host/{number}", None)
        self.fetching.pop(f"host/{number}", None)

    @rule(pieces=st.integers(1, 20))
    def arrive(self, pieces: int) -> None:
        self.available = masks.full(min(self.available.bit_length() + pieces, 40))

    @rule(tenths=st.integers(1, 150))
    def time_passes(self, tenths: int) -> None:
        self.now += tenths / 10

    @rule()
    def restarts(self) -> None:
        self.subject = decode_book(encode_book(self.subject), self.budget)

    @invariant()
    def valid_leases_never_overlap(self) -> None:
        seen = 0
        for lease in self.subject.leases:
            if lease.until > self.now:
                assert not lease.mask & seen
                seen |= lease.mask

    @invariant()
    def extra_copies_stay_within_the_budget(self) -> None:
        if self.budget.copies is not None:
            assert self.subject.extra_bytes <= (self.budget.copies - 1) * SHAPE.length
        if self.budget.strict:
            assert self.subject.extra_bytes == 0

    def teardown(self) -> None:
        """Whatever happened, whoever comes now gets everything, though all others are silent."""
        held = 0
        for _ in range(400):
            self.now += 0.5
            grant = self.subject.ask("host/last", Question(held), self.now)
            if grant.run is not None:
                held |= masks.of_range(grant.run)
            if held == EVERYTHING:
                return
        raise AssertionError(f"{EVERYTHING & ~held:x} was never leased")


TestSpreading = Spreading.TestCase
TestSpreading.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_copies_that_the_links_allow_are_given_and_the_tail_is_never_taken_away() -> None:
    shape = Shape(200 * MEBIBYTE, MEBIBYTE)
    for budget, expected in (
        (Budget(), 3),
        (Budget(copies=1.0), 3),
        (Budget(copies=1.5), 100),
        (Budget(copies=1.5, strict=True), 0),
    ):
        subject, again = LeaseBook(shape, budget), 0
        subject.ask("host/1", Question(masks.full(200)), 0.0)
        while (run := asked(subject, "host/2")) is not None:
            again += len(run)
        assert again == expected, budget
