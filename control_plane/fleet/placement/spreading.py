"""The best host for one more, under rules of spread; pure.

Hosts are the leaves of a tree with a level for each spread: at the top a branch for each domain of the first, below it
one for each of the second that is there, and so on. Each branch keeps its domains in a heap, the emptiest first, so
that one placement looks at a few of them instead of at every combination.

Invariant: what a heap says of a domain is never more than the truth: counts and loads only grow while a plan is made,
so who comes up is weighed anew and put back if it has grown. Only a ceiling that rises lets somebody back in who was
above it; then the heaps at its level and above are made anew. (2,000 among 5,000 hosts in 280 combinations: 60 ms, or
1.1 s when every combination is looked at each time.)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence

from control_plane.fleet.placement.model import Spread

# How much of the wish is there, how full it is, how many instances it has, and its id.
Load = tuple[int, float, int, str]
Key = tuple[int | float | str, ...]


class Spreads:
    """How many each domain has, and what it may have before it gets one more."""

    def __init__(self, spreads: Sequence[Spread]) -> None:
        self._spreads = spreads
        self.counts: list[Counter[str]] = [Counter() for _ in spreads]
        # Domains that count: those where something could ever be placed.
        self.known: list[set[str]] = [set() for _ in spreads]
        self.ceilings: list[int] = [0 for _ in spreads]
        self.versions: tuple[int, ...] = tuple(0 for _ in spreads)
        self._floors: list[int] = []
        self._at: list[Counter[int]] = []

    def begin(self) -> None:
        """When all domains are known and what is there is counted."""
        pairs = list(zip(self.counts, self.known, strict=True))
        self._at = [Counter(counts[each] for each in known) for counts, known in pairs]
        self._floors = [min(at, default=0) for at in self._at]
        self.ceilings = [floor + spread.max_skew - 1 for floor, spread in zip(self._floors, self._spreads, strict=True)]

    def count(self, domains: Sequence[str]) -> None:
        """One more in these."""
        for counts, domain in zip(self.counts, domains, strict=True):
            counts[domain] += 1

    def placed(self, domains: Sequence[str]) -> None:
        """`count`, after `begin`."""
        for level, domain in enumerate(domains):
            before = self.counts[level][domain]
            self.counts[level][domain] = before + 1
            if domain not in self.known[level]:
                continue
            at = self._at[level]
            at[before] -= 1
            at[before + 1] += 1
            if before == self._floors[level] and not at[before]:
                self._floors[level] += 1
                self.ceilings[level] += 1
                self.versions = tuple(one + (at_level == level) for at_level, one in enumerate(self.versions))


class Leaf:
    """Hosts of the same domains. `full`: whether a host takes no more; it then takes none later either."""

    def __init__(self, full: Callable[[str], bool]) -> None:
        self.heap: list[Load] = []
        self._full = full
        self._has_room = ""

    def best(self) -> Load | None:
        heap = self.heap
        while heap:
            host_id = heap[0][3]
            if host_id == self._has_room:
                return heap[0]
            if not self._full(host_id):
                self._has_room = host_id
                return heap[0]
            heapq.heappop(heap)
        return None

    def placed(self, load: Load) -> None:
        """On its best host, which now has this load."""
        heapq.heapreplace(self.heap, load)
        self._has_room = ""


class Branch:
    """The domains of one spread, from level `level` of the tree."""

    def __init__(self, spreads: Spreads, level: int) -> None:
        self._spreads = spreads
        self._level = level
        self.children: dict[str, Branch | Leaf] = {}
        self._heap: list[tuple[Key, str]] = []
        self._made_for: tuple[int, ...] | None = None

    def best(self) -> Key | None:
        """Counts of its domains from this level on, then the load, of the best host below; None: there is none."""
        if self._made_for != self._spreads.versions[self._level :]:
            self._make()
        heap = self._heap
        while heap:
            said, domain = heap[0]
            true = self._key(domain)
            if true == said:
                return said
            if true is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (true, domain))
        return None

    def leaf(self, domains: Sequence[str], full: Callable[[str], bool]) -> Leaf:
        """The one of these domains, made if it is not there."""
        domain, below = domains[self._level], self._level + 1
        if domain not in self.children:
            self.children[domain] = Leaf(full) if below == len(domains) else Branch(self._spreads, below)
        child = self.children[domain]
        return child if isinstance(child, Leaf) else child.leaf(domains, full)

    def _make(self) -> None:
        self._made_for = self._spreads.versions[self._level :]
        found = ((self._key(domain), domain) for domain in self.children)
        self._heap = [(key, domain) for key, domain in found if key is not None]
        heapq.heapify(self._heap)

    def _key(self, domain: str) -> Key | None:
        count = self._spreads.counts[self._level][domain]
        if count > self._spreads.ceilings[self._level]:
            return None
        below = self.children[domain].best()
        return None if below is None else (count, *below)


class Tree:
    """Every host that may get something."""

    def __init__(self, spreads: Spreads, levels: int, full: Callable[[str], bool]) -> None:
        self._spreads = spreads
        self._full = full
        self._root: Branch | Leaf = Branch(spreads, 0) if levels else Leaf(full)
        self._leaves: dict[tuple[str, ...], Leaf] = {}

    def add(self, domains: tuple[str, ...], load: Load) -> None:
        leaf = self._leaves.get(domains)
        if leaf is None:
            root = self._root
            leaf = self._leaves[domains] = root if isinstance(root, Leaf) else root.leaf(domains, self._full)
        leaf.heap.append(load)

    def begin(self) -> None:
        for leaf in self._leaves.values():
            heapq.heapify(leaf.heap)

    def best(self) -> str | None:
        """The id of the best host."""
        found = self._root.best()
        return None if found is None else str(found[-1])

    def placed(self, domains: tuple[str, ...], load: Load) -> None:
        """On the best host, which now has this load."""
        self._leaves[domains].placed(load)
        self._spreads.placed(domains)
