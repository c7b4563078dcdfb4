"""The stores of a set, and which of them is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from common.clock import Clock
from common.errors import Invalid
from control_plane.blobs import BlobStore

# So long a store that failed is asked last.
_SHUNNED_SECONDS = 10.0


class Tier(StrEnum):
    """How quick a store is, and how dear: where uploads go and what is read daily, down to what nobody reads."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"


class StoresInvalid(Invalid):
    code = "stores_invalid"


_RANK = {Tier.HOT: 0, Tier.WARM: 1, Tier.COLD: 2}


@dataclass(frozen=True, slots=True)
class Member:
    """`directory`: where the file system is asked for room; None where room is not known. `redirects`: clients may
    fetch from it by themselves.
    """

    name: str
    store: BlobStore
    tier: Tier = Tier.HOT
    location: str = ""
    directory: Path | None = None
    redirects: bool = False


class Members:
    """`stores` has at least one hot one; the first hot one is the primary."""

    def __init__(self, stores: Sequence[Member], clock: Clock) -> None:
        self.all = tuple(sorted(stores, key=lambda each: _RANK[each.tier]))
        if not self.all or self.all[0].tier is not Tier.HOT:
            raise StoresInvalid("there is no hot store", action="uploads need one")
        if len({each.name for each in self.all}) < len(self.all):
            raise StoresInvalid("two stores have one name", action="`primary` is the store of the setting `blobs`")
        self.primary = self.all[0]
        self._clock = clock
        self._failed: dict[str, tuple[float, datetime]] = {}

    @property
    def hot(self) -> tuple[Member, ...]:
        return tuple(each for each in self.all if each.tier is Tier.HOT)

    def find(self, name: str) -> Member | None:
        return next((each for each in self.all if each.name == name), None)

    def failed(self, member: Member) -> None:
        """It did not answer, or with an error of its own."""
        since = self._failed[member.name][1] if member.name in self._failed else self._clock.now()
        self._failed[member.name] = (self._clock.monotonic(), since)

    def answered(self, member: Member) -> None:
        if self._failed:
            self._failed.pop(member.name, None)

    def away_since(self, member: Member) -> datetime | None:
        """The first of the failures since it last answered."""
        return self._failed[member.name][1] if member.name in self._failed else None

    def in_order(self, first: str | None, among: Sequence[Member] | None = None) -> Sequence[Member]:
        """`first`, then hot before cold; those that failed a moment ago last."""
        stores = self.all if among is None else among
        if len(stores) == 1 or (first is None and not self._failed):
            return stores
        return sorted(stores, key=lambda each: (self._is_shunned(each), each.name != first))

    def _is_shunned(self, member: Member) -> bool:
        failed = self._failed.get(member.name)
        return failed is not None and self._clock.monotonic() - failed[0] < _SHUNNED_SECONDS
