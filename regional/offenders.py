"""Whom the IDC's tracker stops naming: peers that at least two hosts say sent them false bytes; pure.

Invariants: nobody is shunned on the word of one host, however often it repeats it, nor on its own: one liar may not
drive an honest peer out of a swarm. Accusers are told apart by the identity that their certificate and token prove.
An accusation and what follows from it last `SHUN_SECONDS`, as long as a host's own ban does
(common/bittorrent/libtorrent_bans.py), in the one swarm that it is about. The book is bounded; the oldest goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SHUN_SECONDS = 600.0
ACCUSERS_NEEDED = 2
_MAXIMUM_ACCUSED = 2_000
# More accusers than this change nothing.
_MAXIMUM_ACCUSERS = 16


@dataclass(slots=True)
class _Case:
    accusers: dict[str, float] = field(default_factory=dict)
    shunned_until: float = float("-inf")


class Offenders:
    """`monotonic`: seconds. Names are bearers: `host/<id>`."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._cases: dict[tuple[bytes, str], _Case] = {}

    def accuse(self, info_hash: bytes, accuser: str, accused: str) -> bool:
        """Whether the accused is shunned in that swarm from now on and was not before."""
        if accuser == accused:
            return False
        now = self._monotonic()
        case = self._cases.pop((info_hash, accused), None) or _Case()
        self._cases[info_hash, accused] = case
        if len(self._cases) > _MAXIMUM_ACCUSED:
            del self._cases[next(iter(self._cases))]
        case.accusers = {name: at for name, at in case.accusers.items() if now - at < SHUN_SECONDS}
        if accuser in case.accusers or len(case.accusers) < _MAXIMUM_ACCUSERS:
            case.accusers[accuser] = now
        if len(case.accusers) < ACCUSERS_NEEDED:
            return False
        before, case.shunned_until = case.shunned_until, now + SHUN_SECONDS
        return before <= now

    def shuns(self, info_hash: bytes, bearer: str) -> bool:
        case = self._cases.get((info_hash, bearer))
        return case is not None and self._monotonic() < case.shunned_until

    def count(self) -> int:
        """How many are shunned now."""
        now = self._monotonic()
        return sum(1 for case in self._cases.values() if now < case.shunned_until)
