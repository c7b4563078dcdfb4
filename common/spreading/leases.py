"""Who fetches which pieces of one content from its source: leases that members take when they have room for work. Pure.

A member that asks says what it holds. It gets a run of pieces that nobody has and nobody is fetching, so small that its
rate decides how much it gets in all; everything else it gets from the others. What a dead member alone held, and what
its leases covered, is leased again.

Invariants: two valid leases never cover the same piece; what no living member holds is leased to whoever asks, so
everything reaches somebody while anybody is alive; bytes leased beyond the first copy stay within `Budget`, but for
leases that expired, holders that died, and members whom their peers give nothing.

A question costs 0.01 ms with eight members and 0.24 ms with a thousand (1024 pieces, measured).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from common.spreading import masks
from common.spreading.crowd import SEED_SECONDS, Crowd, Member
from common.spreading.exchange import Grant, Question
from common.spreading.masks import first_run

# At most a second of work, so that nobody's slow line holds pieces back, and enough to be worth a request.
_LEASE_SECONDS = 1.0
_LARGEST_LEASE_BYTES = 8 << 20
_FIRST_LEASE_BYTES = 1 << 20
# What a member may have alone beyond twice the median, before others are given work first. In the simulation, two of
# eight uplinks ten times thinner than the rest: 0.98 of the bound, and 0.80 with 5 MiB.
_SLACK_BYTES = 1 << 20
_SHORTEST_SECONDS = 2.0
_UNKNOWN_SECONDS = 5.0
_LONGEST_SECONDS = 60.0
_AGAIN_SECONDS = 0.5
_GATE_AGAIN_SECONDS = 2.0
# Extra copies while rates are unknown: a tail's worth at the end (3 % made 1.056 copies with headers for 16 hosts, and
# the simulation no faster), and more each time the source idles for long while members get less than half of the best
# rate.
_TAIL_COPIES = 0.015
_IDLE_SECONDS = 2.0
_STARVING_SHARE = 0.5
_RAISE_COPIES = 0.25


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a content: bytes, and bytes of a piece."""

    length: int
    piece_length: int

    @property
    def piece_count(self) -> int:
        return -(-self.length // self.piece_length)

    def size(self, pieces: int) -> int:
        """Bytes of that many pieces, at most: the last one may be shorter."""
        return min(pieces * self.piece_length, self.length)


@dataclass(frozen=True, slots=True)
class Budget:
    """copies: how many the source may send at once (`model.lease_copies`); None: not known, so one. Beyond them goes
    what proves harmless.

    strict: nothing beyond one copy on a guess, because the bytes cross a WAN. gates: only so many members are served;
    None: all.
    """

    copies: float | None = None
    strict: bool = False
    gates: int | None = None


@dataclass(slots=True)
class Lease:
    """moved_at: when a piece of it last arrived."""

    holder: str
    mask: int
    until: float
    moved_at: float


@dataclass
class LeaseBook:
    """`now`: seconds of one clock, whichever; a book that several processes share needs wall time."""

    shape: Shape
    budget: Budget
    crowd: Crowd = field(init=False)
    leases: list[Lease] = field(default_factory=list)
    extra_bytes: int = 0
    extra_copies: float = 0.0
    best_rate: float = 0.0
    idle_since: float | None = None

    def __post_init__(self) -> None:
        self.crowd = Crowd(masks.full(self.shape.piece_count))

    def ask(
        self,
        holder: str,
        question: Question,
        now: float,
        *,
        available: int | None = None,
        seeds: Collection[str] | None = None,
    ) -> Grant:
        """`available`: pieces that the source has itself; None: all. `seeds`: who a tracker knows to have everything;
        None: there is no tracker.
        """
        self.crowd.forget_silent(now, seeds, {lease.holder for lease in self.leases if lease.until > now})
        member = self.crowd.hear(holder, question, now)
        if member is None:
            return Grant(None, _GATE_AGAIN_SECONDS)
        self.best_rate = max(self.best_rate, question.rate)
        self._settle(holder, question, now)
        missing = self.crowd.everything & ~question.held
        if not missing:
            return Grant(None, SEED_SECONDS / 2)
        served = self.crowd.admit(member, self.budget.gates)
        offered = missing & ~self._leased() & (missing if available is None else available)
        fresh = offered & ~self.crowd.elsewhere(holder, now, seeds)
        run = self._choose(holder, question, offered, fresh) if served else None
        if run is None:
            self._note_idle(member, now)
            return Grant(None, _AGAIN_SECONDS if served else _GATE_AGAIN_SECONDS)
        self.idle_since = None
        seconds = self._seconds(len(run), question.source_rate)
        self.leases.append(Lease(holder, masks.of_range(run), now + seconds, now))
        return Grant(run, seconds)

    def _settle(self, holder: str, question: Question, now: float) -> None:
        """Drop what is over, shorten what arrived, prolong what is being fetched."""
        fetching = 0
        for run in question.fetching:
            fetching |= masks.of_range(run)
        for lease in self.leases:
            if lease.holder == holder:
                rest = lease.mask & ~question.held
                if rest != lease.mask:
                    lease.mask, lease.moved_at = rest, now
                if not rest & fetching:
                    lease.mask = 0  # it names all that it fetches in each question: this one failed or was not heard
                elif lease.until > now:
                    seconds = self._seconds(rest.bit_count(), question.source_rate)
                    lease.until = min(now + seconds, lease.moved_at + max(_UNKNOWN_SECONDS, 4 * seconds))
        self.leases = [
            lease for lease in self.leases if lease.mask and lease.until > now and lease.holder in self.crowd.members
        ]
        # A source that restarted learns what is under way.
        unknown = fetching & ~question.held & ~self._leased()
        if unknown:
            seconds = self._seconds(unknown.bit_count(), question.source_rate)
            self.leases.append(Lease(holder, unknown, now + seconds, now))

    def _choose(self, holder: str, question: Question, offered: int, fresh: int) -> range | None:
        if not fresh:
            return self._extra(question, offered) if offered else None
        if not self.crowd.spreads_well(holder, max(_SLACK_BYTES // self.shape.piece_length, 2)):
            return None
        return self._run(fresh, question, fresh.bit_count())

    def _extra(self, question: Question, offered: int) -> range | None:
        """A further copy of what the fewest hold, if the source may send one."""
        run = self._run(offered & self.crowd.held_once() or offered, question, offered.bit_count())
        if run is None or self.extra_bytes + self.shape.size(len(run)) > self._extra_allowed():
            return None
        self.extra_bytes += self.shape.size(len(run))
        return run

    def _extra_allowed(self) -> float:
        if self.budget.strict:
            return 0.0
        # What is said of the links is what they may carry, not what they do: hosts may starve all the same.
        known = (self.budget.copies or 1.0) - 1.0
        return max(known, _TAIL_COPIES + self.extra_copies) * self.shape.length

    def _note_idle(self, member: Member, now: float) -> None:
        """Raise the copies when the source has idled for long while this member starves."""
        if self.leases or member.rate >= _STARVING_SHARE * self.best_rate:
            if self.leases:
                self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        elif now - self.idle_since >= _IDLE_SECONDS:
            self.idle_since = now
            raised = max(_RAISE_COPIES, 2 * self.extra_copies)
            self.extra_copies = min(raised, max(len(self.crowd.members) - 1.0, 0.0))

    def _run(self, mask: int, question: Question, remaining: int) -> range | None:
        most = self._share(remaining)
        known = question.source_rate * _LEASE_SECONDS or _FIRST_LEASE_BYTES
        most = min(most, max(int(known) // self.shape.piece_length, 1))
        urgent = next((piece for piece in question.soon if mask >> piece & 1), 0)
        return first_run(mask, most, urgent) or first_run(mask, most)

    def _share(self, remaining: int) -> int:
        """Pieces: a quarter of each member's part of what remains, so that the last leases end together."""
        share = remaining // (4 * max(self.crowd.active(), 1))
        return max(min(share, _LARGEST_LEASE_BYTES // self.shape.piece_length), 1)

    def _seconds(self, pieces: int, source_rate: float) -> float:
        if source_rate <= 0:
            return _UNKNOWN_SECONDS
        return min(max(1.0 + 3 * self.shape.size(pieces) / source_rate, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    def _leased(self) -> int:
        leased = 0
        for lease in self.leases:
            leased |= lease.mask
        return leased
