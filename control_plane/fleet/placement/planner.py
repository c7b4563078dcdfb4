"""Which hosts a wish gets; pure.

Invariants (tests/control_plane/fleet/placement/test_planner.py holds them with random fleets): the same input has the
same answer, in whatever order the hosts come; nothing is placed on a host that lacks room, is closed or breaks a rule;
what fits where it is stays there; and what is newly placed never makes a domain exceed the poorest one by more than its
`max_skew`. What is there already is not moved to mend a skew: moving costs more than it gives.

`spreading` finds the best host without looking at all of them for each placement.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from control_plane.fleet.placement.fitting import closed, domain_of, lacking, misfit
from control_plane.fleet.placement.model import NOTHING, Explanation, Offer, Plan, Resources, Rules, Standing
from control_plane.fleet.placement.spreading import Load, Spreads, Tree

MOST_EXPLAINED = 100


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
    missing = len(held) - count - len(gone)
    return frozenset([*gone, *_fullest(rules, stay, known, weak, missing)]) if missing > 0 else frozenset(gone)


def _fullest(
    rules: Rules, stay: Mapping[int, str], known: Mapping[str, Offer], weak: Collection[int], wanted: int
) -> list[int]:
    """So many of those that stay. Slots of one kind and domain are alike but for their numbers: a heap holds the best
    of each such group. Counts only fall while some are taken away, so who comes up is weighed anew and put back if it
    fell.
    """
    groups: dict[tuple[bool, tuple[str, ...]], list[int]] = defaultdict(list)
    for slot, host in sorted(stay.items()):
        groups[slot in weak, tuple([_domain(known, host, spread.by) for spread in rules.spread])].append(slot)
    counts: list[Counter[str]] = [Counter() for _ in rules.spread]
    for (_, domains), slots in groups.items():
        for of_spread, domain in zip(counts, domains, strict=True):
            of_spread[domain] += len(slots)

    def key(group: tuple[bool, tuple[str, ...]]) -> tuple[bool, list[int], int]:
        fullness = [-of_spread[domain] for of_spread, domain in zip(counts, group[1], strict=True)]
        return not group[0], fullness, -groups[group][-1]

    heap = [(key(group), group) for group in groups]
    heapq.heapify(heap)
    found: list[int] = []
    while heap and len(found) < wanted:
        said, group = heap[0]
        if said != key(group):
            heapq.heapreplace(heap, (key(group), group))
            continue
        found.append(groups[group].pop())
        for of_spread, domain in zip(counts, group[1], strict=True):
            of_spread[domain] -= 1
        if groups[group]:
            heapq.heapreplace(heap, (key(group), group))
        else:
            heapq.heappop(heap)
    return found


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


class _Board:
    """What is free while one plan is made."""

    def __init__(self, rules: Rules, ask: Resources, known: Mapping[str, Offer], name: str) -> None:
        self._rules, self._ask, self._known, self._name = rules, ask, known, name
        self._taken: Counter[str] = Counter()  # new instances by host
        self._here: Counter[str] = Counter()  # instances of this wish by host
        self._spreads = Spreads(rules.spread)
        self._tree: Tree | None = None

    def count(self, offer: Offer) -> None:
        """One of this wish is on that host. Before the first `next_host`."""
        self._here[offer.host_id] += 1
        self._spreads.count(self._domains(offer))

    def next_host(self) -> Offer | None:
        """The best host for one more, which then counts as taken. None: there is none."""
        # Most looks place nothing, and need no order of hosts.
        tree = self._tree = self._tree or self._grown()
        host_id = tree.best()
        if host_id is None:
            return None
        offer = self._known[host_id]
        self._taken[host_id] += 1
        self._here[host_id] += 1
        tree.placed(self._domains(offer), self._weighed(offer))
        return offer

    def _grown(self) -> Tree:
        tree = Tree(self._spreads, len(self._rules.spread), lambda host_id: self._full(self._known[host_id]))
        for offer in self._known.values():
            if misfit(offer, self._rules):
                continue
            domains = self._domains(offer)
            # A domain counts while one of its hosts could ever take something: else a dead data centre would let none
            # grow.
            if offer.standing is Standing.OPEN and offer.absent_since is None:
                for known, domain in zip(self._spreads.known, domains, strict=True):
                    known.add(domain)
            if not closed(offer, self._rules, self._name):
                tree.add(domains, self._weighed(offer))
        self._spreads.begin()
        tree.begin()
        return tree

    def _domains(self, offer: Offer) -> tuple[str, ...]:
        return tuple([domain_of(offer, spread.by) for spread in self._rules.spread])

    def _weighed(self, offer: Offer) -> Load:
        return self._here[offer.host_id], _load(offer, self._sum(offer)), offer.instances, offer.host_id

    def _sum(self, offer: Offer) -> Resources:
        taken = self._taken[offer.host_id]
        return self._ask.times(taken) if taken else NOTHING

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
