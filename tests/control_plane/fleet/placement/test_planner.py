"""The planner against random fleets, and the answers that people read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.fleet.placement.fitting import capacity_of, closed, domain_of, lacking, misfit
from control_plane.fleet.placement.model import (
    Capacity,
    CapacityPolicy,
    Offer,
    Operator,
    Plan,
    Requirement,
    Resources,
    Rules,
    Spread,
    Standing,
)
from control_plane.fleet.placement.planner import plan

AWAY = datetime(2026, 1, 1, tzinfo=UTC)
MEMORY = 1 << 30
KEYS = ("rack", "power")


def offer(number: int, idc: str = "east", memory: int | None = 8, used: int = 0, **more: object) -> Offer:
    """Of so many GiB."""
    return replace(
        Offer(f"h{number:03}", f"e{number}", f"idc-{idc}", idc),
        capacity=Capacity(memory_bytes=None if memory is None else memory * MEMORY),
        used=Resources(memory_bytes=used * MEMORY),
        **more,  # type: ignore[arg-type]
    )


def asked(gibibytes: int) -> Resources:
    return Resources(memory_bytes=gibibytes * MEMORY)


@st.composite
def fleets(draw: st.DrawFn) -> list[Offer]:
    def one(number: int) -> Offer:
        labels = {key: draw(st.sampled_from("ab")) for key in KEYS if draw(st.booleans())}
        return offer(
            number,
            draw(st.sampled_from(["east", "west", "north"])),
            draw(st.one_of(st.none(), st.integers(0, 12))),
            draw(st.integers(0, 6)),
            labels=labels,
            architecture=draw(st.sampled_from(["amd64", "amd64", "arm64"])),
            standing=draw(st.sampled_from([Standing.OPEN] * 4 + list(Standing))),
            absent_since=draw(st.sampled_from([None, None, None, AWAY])),
            present=frozenset(draw(st.sets(st.sampled_from(["db", "cache"])))),
        )

    return [one(number) for number in range(draw(st.integers(0, 12)))]


@st.composite
def wishes(draw: st.DrawFn) -> Rules:
    requirement = st.builds(
        Requirement,
        st.sampled_from(KEYS),
        st.sampled_from(list(Operator)),
        st.sampled_from([("a",), ("b",), ("a", "b")]),
    )
    spread = st.builds(Spread, st.sampled_from(["idc", *KEYS]), st.integers(1, 3))
    return Rules(
        count=draw(st.integers(0, 12)),
        idcs=draw(st.sampled_from([(), (), ("east", "west")])),
        labels=tuple(draw(st.lists(requirement, max_size=1))),
        spread=tuple(draw(st.lists(spread, max_size=2, unique_by=lambda one: one.by))),
        near=draw(st.sampled_from([(), (), ("db",)])),
        apart=draw(st.sampled_from([(), (), ("cache",)])),
        architectures=draw(st.sampled_from([(), ("amd64",)])),
        per_host=draw(st.integers(1, 3)),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Rules, Resources, dict[int, str], list[Offer]]:
    offers = draw(fleets())
    hosts = [one.host_id for one in offers] + ["gone"]
    held = draw(st.dictionaries(st.integers(0, 14), st.sampled_from(hosts), max_size=8))
    return draw(wishes()), asked(draw(st.integers(0, 4))), held, offers


def counts(made: Plan, spread: Spread, offers: list[Offer], *, placed: bool = True) -> Counter[str]:
    by_id = {one.host_id: one for one in offers}
    there = [*made.stay.values(), *(made.place.values() if placed else ())]
    return Counter(domain_of(by_id[host], spread.by) for host in there)


@given(situations())
@settings(max_examples=100, deadline=None)
def test_every_plan_keeps_the_rules(situation: tuple[Rules, Resources, dict[int, str], list[Offer]]) -> None:
    rules, ask, held, offers = situation
    made = plan(rules, ask, held, offers, "web")
    by_id = {one.host_id: one for one in offers}
    new = Counter(made.place.values())
    there = Counter([*made.stay.values(), *made.place.values()])
    for host, times in new.items():
        taken = Resources(memory_bytes=ask.memory_bytes * (times - 1))
        assert not misfit(by_id[host], rules)
        assert not closed(by_id[host], rules, "web")
        assert not lacking(by_id[host], ask, taken)
        assert there[host] <= max(rules.per_host, Counter(made.stay.values())[host])
    # Each slot has one fate, and all that is wanted is spoken of.
    fates = [*made.stay, *made.place, *made.surplus, *made.unplaced]
    assert len(fates) == len(set(fates))
    assert set(held) <= set(fates)
    assert len(made.stay) + len(made.place) + len(made.unplaced) == rules.count
    assert bool(made.unplaced) <= (sum(made.why.summary.values()) == len(offers))


@given(situations())
@settings(max_examples=50, deadline=None)
def test_what_fits_stays_where_it_is(situation: tuple[Rules, Resources, dict[int, str], list[Offer]]) -> None:
    rules, ask, held, offers = situation
    made = plan(rules, ask, held, offers)
    by_id = {one.host_id: one for one in offers}
    for slot, host in held.items():
        fits = host in by_id and by_id[host].standing is not Standing.DRAINING and not misfit(by_id[host], rules)
        if slot not in made.surplus:
            assert (made.stay.get(slot) == host) is fits
    assert len(made.surplus) == max(0, len(held) - (rules.count or 0))


@given(situations(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_hosts_does_not_matter(
    situation: tuple[Rules, Resources, dict[int, str], list[Offer]], chance: object
) -> None:
    rules, ask, held, offers = situation
    first = plan(rules, ask, held, offers)
    chance.shuffle(offers)  # type: ignore[attr-defined]
    assert plan(rules, ask, dict(reversed(held.items())), offers) == first


@given(situations())
@settings(max_examples=60, deadline=None)
def test_no_placement_makes_a_skew_too_large(
    situation: tuple[Rules, Resources, dict[int, str], list[Offer]],
) -> None:
    rules, ask, held, offers = situation
    made = plan(rules, ask, held, offers)
    by_id = {one.host_id: one for one in offers}
    usable = [
        one for one in offers if not misfit(one, rules) and one.standing is Standing.OPEN and one.absent_since is None
    ]
    for spread in rules.spread:
        domains = {domain_of(one, spread.by) for one in usable}
        before, after = counts(made, spread, offers, placed=False), counts(made, spread, offers)
        grown = {domain_of(by_id[host], spread.by) for host in made.place.values()}
        for domain in grown:
            assert after[domain] > before[domain]
            assert after[domain] - min(after[each] for each in domains) <= spread.max_skew


@given(situations())
@settings(max_examples=40, deadline=None)
def test_a_plan_that_was_carried_out_is_the_next_plan(
    situation: tuple[Rules, Resources, dict[int, str], list[Offer]],
) -> None:
    rules, ask, held, offers = situation
    made = plan(rules, ask, held, offers)
    new = Counter(made.place.values())
    fuller = [
        replace(one, used=one.used.plus(Resources(memory_bytes=ask.memory_bytes * new[one.host_id]))) for one in offers
    ]
    again = plan(rules, ask, {**made.stay, **made.place}, fuller)
    assert again.stay == {**made.stay, **made.place}
    assert not again.surplus


def test_emptier_hosts_come_first() -> None:
    made = plan(Rules(2), asked(1), {}, [offer(1, used=4), offer(2, used=1), offer(3, used=2)])
    assert sorted(made.place.values()) == ["h002", "h003"]


def test_hosts_of_whom_nothing_is_asked_are_taken_in_turn() -> None:
    made = plan(Rules(2), Resources(), {}, [offer(1, instances=3), offer(2, instances=1), offer(3, instances=2)])
    assert sorted(made.place.values()) == ["h002", "h003"]


def test_spreading_fills_the_poorest_data_centre_first() -> None:
    offers = [offer(1), offer(2), offer(3), offer(4, "west"), offer(5, "west")]
    made = plan(Rules(4, spread=(Spread("idc"),)), asked(1), {}, offers)
    by_id = {one.host_id: one.idc for one in offers}
    assert Counter(by_id[host] for host in made.place.values()) == {"east": 2, "west": 2}


def test_a_full_data_centre_holds_the_others_back_and_it_is_said() -> None:
    offers = [offer(1), offer(2), offer(3), offer(4, "west", memory=0)]
    made = plan(Rules(3, spread=(Spread("idc"),)), asked(1), {}, offers)
    assert (len(made.place), made.unplaced) == (1, (1, 2))
    assert made.why.hosts["west/e4"] == "too little memory is free"
    assert made.why.hosts["east/e2"] == "idc=east would have too many"
    assert (
        made.why.text
        == "2 hosts: idc=east would have too many; 1 host: it has 1 of it already; 1 host: too little memory is free"
    )


def test_a_dead_data_centre_holds_nobody_back() -> None:
    offers = [offer(1), offer(2), offer(4, "west", absent_since=AWAY)]
    assert len(plan(Rules(2, spread=(Spread("idc"),)), asked(1), {}, offers).place) == 2


def test_the_fullest_domain_shrinks_first() -> None:
    offers = [offer(1), offer(2), offer(3, "west")]
    made = plan(Rules(2, spread=(Spread("idc"),)), asked(1), {0: "h001", 1: "h003", 2: "h002"}, offers)
    assert made.surplus == (2,)
    made = plan(Rules(1, spread=(Spread("idc"),)), asked(1), {0: "h003", 1: "h002", 2: "h001"}, offers)
    assert made.surplus == (1, 2)


def test_one_on_every_host_means_those_that_fit_and_take_something() -> None:
    offers = [
        offer(1),
        offer(2, labels={"rack": "r1"}),
        offer(3, standing=Standing.CORDONED),
        offer(4, memory=0),
        offer(5, standing=Standing.DRAINING),
    ]
    rules = Rules(None, labels=(Requirement("rack", Operator.ABSENT),))
    made = plan(rules, asked(1), {0: "h002", 4: "h005"}, offers)
    assert (made.stay, made.place, made.surplus) == ({4: "h005"}, {1: "h001"}, (0,))
    assert made.why.hosts == {"east/e3": "it is cordoned", "east/e4": "too little memory is free"}
    assert len(made.unplaced) == 2


def test_thousands_are_placed_among_thousands() -> None:
    offers = [offer(number, f"idc{number % 7}", labels={"rack": str(number % 40)}) for number in range(2000)]
    rules = Rules(600, spread=(Spread("idc"), Spread("rack", 5)))
    made = plan(rules, asked(1), {}, offers)
    assert len(made.place) == 600
    assert len(set(made.place.values())) == 600


def test_capacity_is_what_is_left_of_a_host_as_often_as_it_may_be_promised() -> None:
    facts = {"cpus": 8, "memory_bytes": 16 * MEMORY}
    narrow = CapacityPolicy(reserve_cpus=1.5, cpu_overcommit=2)
    wide = CapacityPolicy(reserve_memory_bytes=MEMORY, cpu_overcommit=9)
    assert capacity_of(facts, [narrow, wide]) == Capacity(13_000, 15 * MEMORY, None)
    assert capacity_of({"cpus": 0}, []) == Capacity()
    assert capacity_of({"cpus": 2}, [CapacityPolicy(reserve_cpus=4)]) == Capacity(0)


def looked_at_one_by_one(rules: Rules, ask: Resources, offers: list[Offer]) -> list[str]:
    """Where the planner would place, by looking at every host each time."""
    fitting = [one for one in offers if not misfit(one, rules)]
    takers = [one for one in fitting if not closed(one, rules, "web")]
    chosen: Counter[str] = Counter()
    counts = [Counter[str]() for _ in rules.spread]
    known = [
        {domain_of(one, spread.by) for one in fitting if one.standing is Standing.OPEN and one.absent_since is None}
        for spread in rules.spread
    ]

    def fullness(one: Offer) -> list[int]:
        return [of[domain_of(one, spread.by)] for of, spread in zip(counts, rules.spread, strict=True)]

    def load(one: Offer) -> float:
        total = one.capacity.memory_bytes
        return (one.used.memory_bytes + chosen[one.host_id] * ask.memory_bytes) / total if total else 0.0

    def allowed(one: Offer) -> bool:
        room = chosen[one.host_id] < rules.per_host and not lacking(one, ask, ask.times(chosen[one.host_id]))
        spreads = zip(fullness(one), counts, known, rules.spread, strict=True)
        return room and all(
            own < min((of[each] for each in there), default=0) + spread.max_skew for own, of, there, spread in spreads
        )

    placed: list[str] = []
    for _ in range(rules.count or 0):
        possible = [one for one in takers if allowed(one)]
        if not possible:
            break
        best = min(
            possible, key=lambda one: (fullness(one), chosen[one.host_id], load(one), one.instances, one.host_id)
        )
        chosen[best.host_id] += 1
        for of, spread in zip(counts, rules.spread, strict=True):
            of[domain_of(best, spread.by)] += 1
        placed.append(best.host_id)
    return placed


@settings(max_examples=200, deadline=None)
@given(fleets(), wishes(), st.integers(0, 4))
def test_the_tree_finds_what_looking_at_every_host_finds(offers: list[Offer], rules: Rules, gibibytes: int) -> None:
    made = plan(rules, asked(gibibytes), {}, offers, "web")
    assert [made.place[slot] for slot in sorted(made.place)] == looked_at_one_by_one(rules, asked(gibibytes), offers)


def test_what_is_weak_goes_first_where_there_are_too_many() -> None:
    offers = [offer(number) for number in range(4)]
    held = {number: f"h{number:03}" for number in range(4)}
    assert plan(Rules(3), asked(0), held, offers).surplus == (3,)
    assert plan(Rules(2), asked(0), held, offers, weak={1}).surplus == (1, 3)
