"""Which hosts a wish gets; pure.

Invariants (tests/control_plane/fleet/placement/test_planner.py holds them with random fleets): the same input has the
same answer, in whatever order the hosts come; nothing is placed on a host that lacks room, is closed or breaks a rule;
what fits where it is stays there; and what is newly placed never makes a domain exceed the poorest one by more than its
`max_skew`. What is there already is not moved to mend a skew: moving costs more than it gives.

Hosts are grouped by their domains and kept in one heap a group, so 1,000 placements among 10,000 hosts look at few.
"""

from __future__ import annotations

import heapq
import operator
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from control_plane.fleet.placement.fitting import closed, domain_of, lacking, misfit
from control_plane.fleet.placement.model import Explanation, Offer, Plan, Resources, Rules, Standing

MOST_EXPLAINED = 100
_Domains = tuple[str, ...]
_Load = tuple[int, float, int, str]


def plan(
    rules: Rules,
    ask: Resources,
    held: Mapping[int, str],
    offers: Iterable[Offer],
    name: str = "",
    *,
    movable: bool = True,
    weak: Collection[int] = frozenset(),
) -> Plan:
    """`held`: the host of each slot that has an instance. What they take is in the `used` of the offers. `name`: of
    what a slot is, as `Offer.taken_names` has it. A slot whose host is not among the offers, does not fit any more or
    is drained gets another one, unless it is not `movable`.
    """
    known = {offer.host_id: offer for offer in sorted(offers, key=lambda one: one.host_id)}
    if rules.count is None:
        return _everywhere(rules, ask, held, known, name)
    stay = {
        slot: host
        for slot, host in sorted(held.items())
        if not movable or (host in known and _stays(known[host], rules))
    }
    surplus = _surplus(rules, held, stay, known, weak)
    stay = {slot: host for slot, host in stay.items() if slot not in surplus}
    board = _Board(rules, ask, known, name)
    for host in stay.values():
        if host in known:
            board.count(known[host])
    moving = sorted(slot for slot in held if slot not in stay and slot not in surplus)
    fresh = _free_numbers(held, rules.count - len(stay) - len(moving))
    place: dict[int, str] = {}
    for slot in (*moving, *fresh):
        found = board.next_host()
        if found is None:
            break
        place[slot] = found.host_id
    unplaced = tuple(slot for slot in (*moving, *fresh) if slot not in place)
    return Plan(stay, place, tuple(sorted(surplus)), unplaced, board.explained() if unplaced else Explanation())


def _everywhere(rules: Rules, ask: Resources, held: Mapping[int, str], known: Mapping[str, Offer], name: str) -> Plan:
    """One on each host that fits. A drained host keeps its own: it would have to come back anyway."""
    stay = {slot: host for slot, host in sorted(held.items()) if host in known and not misfit(known[host], rules)}
    surplus = tuple(sorted(held.keys() - stay.keys()))
    there = set(stay.values())
    reasons = {
        offer.host_id: closed(offer, rules, name) or lacking(offer, ask)
        for offer in known.values()
        if offer.host_id not in there and not misfit(offer, rules)
    }
    free = [host for host, reason in reasons.items() if not reason]
    numbers = _free_numbers(held, len(free))
    missing = {known[host].label: reason for host, reason in reasons.items() if reason}
    why = _explanation(missing)
    unplaced = tuple(_free_numbers({**held, **dict.fromkeys(numbers, "")}, len(missing)))
    return Plan(stay, dict(zip(numbers, free, strict=True)), surplus, unplaced, why)


def _stays(offer: Offer, rules: Rules) -> bool:
    return offer.standing is not Standing.DRAINING and not misfit(offer, rules)


def _surplus(
    rules: Rules, held: Mapping[int, str], stay: Mapping[int, str], known: Mapping[str, Offer], weak: Collection[int]
) -> frozenset[int]:
    """Those too many: first what has to move anyway, then what is weak, then from the fullest domains, the highest
    numbers first.
    """
    count = rules.count or 0
    gone: list[int] = [slot for slot in sorted(held, reverse=True) if slot not in stay][: max(0, len(held) - count)]
    left = dict(stay)
    fullness = [Counter(_domain(known, host, spread.by) for host in left.values()) for spread in rules.spread]
    while len(held) - len(gone) > count and left:
        domains = {slot: [_domain(known, host, spread.by) for spread in rules.spread] for slot, host in left.items()}
        slot = max(
            left,
            key=lambda one: (
                one in weak,
                [counts[each] for counts, each in zip(fullness, domains[one], strict=True)],
                one,
            ),
        )
        for counts, domain in zip(fullness, domains[slot], strict=True):
            counts[domain] -= 1
        gone.append(slot)
        del left[slot]
    return frozenset(gone)


def _domain(known: Mapping[str, Offer], host: str, by: str) -> str:
    """Of a host that is not among the offers, none that any other is in."""
    return domain_of(known[host], by) if host in known else ""


def _free_numbers(taken: Mapping[int, str], count: int) -> list[int]:
    """The lowest numbers that no slot has."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        if number not in taken:
            found.append(number)
        number += 1
    return found


@dataclass
class _Group:
    """Hosts of the same domains, the best at the top of the heap."""

    domains: _Domains
    heap: list[_Load] = field(default_factory=list)


class _Board:
    """What is free while one plan is made."""

    def __init__(self, rules: Rules, ask: Resources, known: Mapping[str, Offer], name: str) -> None:
        self._rules, self._ask, self._known, self._name = rules, ask, known, name
        self._taken: Counter[str] = Counter()  # new instances by host
        self._here: Counter[str] = Counter()  # instances of this wish by host
        self._counts: list[Counter[str]] = [Counter() for _ in rules.spread]
        self._domains: list[set[str]] = [set() for _ in rules.spread]
        self._groups: dict[_Domains, _Group] = {}
        for offer in known.values():
            if not misfit(offer, rules):
                self._enter(offer)
        for group in self._groups.values():
            heapq.heapify(group.heap)

    def _enter(self, offer: Offer) -> None:
        domains = tuple(domain_of(offer, spread.by) for spread in self._rules.spread)
        # A domain counts while one of its hosts could ever take something: else a dead data centre would let none grow.
        if offer.standing is Standing.OPEN and offer.absent_since is None:
            for known, domain in zip(self._domains, domains, strict=True):
                known.add(domain)
        if not closed(offer, self._rules, self._name):
            self._groups.setdefault(domains, _Group(domains)).heap.append(self._weighed(offer))

    def count(self, offer: Offer) -> None:
        """One of this wish is on that host."""
        self._here[offer.host_id] += 1
        for counts, spread in zip(self._counts, self._rules.spread, strict=True):
            counts[domain_of(offer, spread.by)] += 1

    def next_host(self) -> Offer | None:
        """The best host for one more, which then counts as taken. None: there is none."""
        # What each spread lets a domain have before it gets one more.
        ceilings = [
            spread.max_skew - 1 + min((counts[each] for each in known), default=0)
            for counts, known, spread in zip(self._counts, self._domains, self._rules.spread, strict=True)
        ]
        best: tuple[tuple[int, ...], _Load, _Group] | None = None
        for group in self._groups.values():
            fullness = tuple([counts[each] for counts, each in zip(self._counts, group.domains, strict=True)])
            above = any(map(operator.gt, fullness, ceilings))
            if above or (best is not None and fullness > best[0]):
                continue
            top = self._top(group)
            if top is not None and (best is None or (fullness, top) < best[:2]):
                best = fullness, top, group
        if best is None:
            return None
        offer = self._known[best[1][3]]
        self._taken[offer.host_id] += 1
        self.count(offer)
        return offer

    def _top(self, group: _Group) -> _Load | None:
        """The best host of the group that has room. Who has none now has none later in this plan, and what a host is
        weighed by only grows, so an entry that is out of date is put back where it belongs when it comes up.
        """
        heap = group.heap
        while heap:
            offer = self._known[heap[0][3]]
            fresh = self._weighed(offer)
            if self._full(offer):
                heapq.heappop(heap)
            elif fresh != heap[0]:
                heapq.heapreplace(heap, fresh)
            else:
                return fresh
        return None

    def _weighed(self, offer: Offer) -> _Load:
        return self._here[offer.host_id], _load(offer, self._sum(offer)), offer.instances, offer.host_id

    def _sum(self, offer: Offer) -> Resources:
        return self._ask.times(self._taken[offer.host_id])

    def _full(self, offer: Offer) -> bool:
        return self._here[offer.host_id] >= self._rules.per_host or bool(lacking(offer, self._ask, self._sum(offer)))

    def explained(self) -> Explanation:
        return _explanation({offer.label: self._reason(offer) for offer in self._known.values()})

    def _reason(self, offer: Offer) -> str:
        reason = misfit(offer, self._rules) or closed(offer, self._rules, self._name)
        if not reason and self._here[offer.host_id] >= self._rules.per_host:
            reason = f"it has {self._here[offer.host_id]} of it already"
        reason = reason or lacking(offer, self._ask, self._sum(offer))
        domains = ", ".join(f"{one.by}={domain_of(offer, one.by)}" for one in self._rules.spread)
        return reason or f"{domains} would have too many"


def _explanation(reasons: Mapping[str, str]) -> Explanation:
    first = dict(sorted(reasons.items())[:MOST_EXPLAINED])
    return Explanation(dict(Counter(reasons.values())), first)


def _load(offer: Offer, taken: Resources) -> float:
    """How full the host is, in its fullest part: emptier hosts first."""
    parts = (
        (offer.used.millicpus + taken.millicpus, offer.capacity.millicpus),
        (offer.used.memory_bytes + taken.memory_bytes, offer.capacity.memory_bytes),
    )
    return max((used / total for used, total in parts if total), default=0.0)
