"""The members of one content's spreading: what each says it holds, who is alive, who waits for whom; pure.

Invariant: bounded. A member that is not heard of is forgotten, and with it what it held.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from dataclasses import dataclass, field

from common.spreading.exchange import Question

# A member asks at least every two and a half seconds while it lacks anything, or else is busy with a lease.
SILENT_SECONDS = 5.0
# One that has everything says so once and seeds on. Where a tracker knows the seeds, whom it does not know is gone.
SEED_SECONDS = 600.0
UNSEEN_SEED_SECONDS = 60.0
# Nothing from peers for so long although they hold what is missing: it is on its own.
DESERTED_SECONDS = 6.0
_MOST_MEMBERS = 2_000


@dataclass(slots=True)
class Member:
    """given_at: when peers last gave it something, or had nothing that it lacked."""

    held: int = 0
    seen_at: float = 0.0
    given_at: float = 0.0
    peer_bytes: int = 0
    rate: float = 0.0
    peer: str = ""
    gate: bool = False


@dataclass
class Crowd:
    everything: int
    members: dict[str, Member] = field(default_factory=dict)

    def hear(self, name: str, question: Question, now: float) -> Member | None:
        """None: there is no room for one more."""
        member = self.members.get(name)
        if member is None:
            if len(self.members) >= _MOST_MEMBERS:
                return None
            member = self.members[name] = Member(given_at=now)
        if question.peer_bytes != member.peer_bytes:
            member.peer_bytes, member.given_at = question.peer_bytes, now
        member.held, member.seen_at, member.rate, member.peer = question.held, now, question.rate, question.peer
        return member

    def forget_silent(self, now: float, seeds: Collection[str] | None, busy: Collection[str] = ()) -> None:
        """`seeds`: who a tracker knows to have everything; None: there is no tracker. `busy`: who has valid leases."""
        for name, member in list(self.members.items()):
            patience = SILENT_SECONDS
            if member.held == self.everything:
                patience = SEED_SECONDS if seeds is None or name in seeds else UNSEEN_SEED_SECONDS
            if now - member.seen_at > patience and name not in busy:
                del self.members[name]

    def elsewhere(self, name: str, now: float, seeds: Collection[str] | None) -> int:
        """What others hold and can be expected to give to this member."""
        member = self.members[name]
        union = self.everything if any(seed != name for seed in seeds or ()) else 0
        for other, one in self.members.items():
            if other != name:
                union |= one.held
        if not union & ~member.held:
            member.given_at = now
        return 0 if now - member.given_at > DESERTED_SECONDS else union

    def active(self) -> int:
        """How many still lack something."""
        return sum(1 for member in self.members.values() if member.held != self.everything)

    def held_once(self) -> int:
        """Pieces that a single member has."""
        once = twice = 0
        for member in self.members.values():
            twice |= once & member.held
            once |= member.held
        return once & ~twice

    def spreads_well(self, name: str, slack: int) -> bool:
        """Whether others got from it what it fetched: a thin uplink must not become the only road to many pieces."""
        alone = self.held_once()
        waiting = [
            (alone & member.held).bit_count() for member in self.members.values() if member.held != self.everything
        ]
        return not waiting or (alone & self.members[name].held).bit_count() <= 2 * statistics.median(waiting) + slack

    def admit(self, member: Member, gates: int | None) -> bool:
        """Whether it may be served by the source; makes it a gate if there are too few."""
        if gates is None or member.gate:
            return True
        living = sum(1 for one in self.members.values() if one.gate and one.held != self.everything)
        member.gate = living < gates
        return member.gate

    def peers_for(self, name: str, most: int) -> tuple[str, ...]:
        """Where others listen, who was heard of last first."""
        others = [member for other, member in self.members.items() if other != name and member.peer]
        others.sort(key=lambda member: -member.seen_at)
        return tuple(member.peer for member in others[:most])
