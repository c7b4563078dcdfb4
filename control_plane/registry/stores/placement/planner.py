"""From the copies of a blob to the steps that are due; pure.

Wanted: so many copies as the blob's class says, in different locations if there are, as near as can be to the tier that
its last reading gives it. A store that was away for a moment still counts; one that is away for longer is replaced.

Invariants (tests/control_plane/registry/stores/test_planner.py): no step is a `Drop` unless every wanted copy is
good, without the dropped ones; carrying out the steps again and again ends in a plan without steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.registry.stores.copies.model import BlobCopy, CopyState


class Reach(StrEnum):
    UP = "up"
    AWAY = "away"  # a moment ago; its copies count
    LOST = "lost"  # for longer than one waits


@dataclass(frozen=True, slots=True)
class StorePicture:
    """`rank`: 0 hot, 1 warm, 2 cold. `free_bytes` None: not known."""

    name: str
    rank: int
    location: str = ""
    reach: Reach = Reach.UP
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PlacementPolicy:
    """copies, public_copies: of a blob, and of one that a public repository links. warm_after, cold_after: since the
    last reading. settle: so long a copy stays after it came. reserve_bytes: kept free in a store.
    """

    copies: int = 2
    public_copies: int = 3
    warm_after: timedelta = timedelta(days=7)
    cold_after: timedelta = timedelta(days=90)
    settle: timedelta = timedelta(days=1)
    reserve_bytes: int = 1 << 30

    def rank_of(self, age: timedelta) -> int:
        return 2 if age >= self.cold_after else 1 if age >= self.warm_after else 0


@dataclass(frozen=True, slots=True)
class BlobPicture:
    size: int
    public: bool
    last_read_at: datetime
    copies: Sequence[BlobCopy]


@dataclass(frozen=True, slots=True)
class Copy:
    """Make one in `target`, from the first of `sources` that is good."""

    target: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verify:
    """Nobody has read this copy yet."""

    store: str


@dataclass(frozen=True, slots=True)
class Drop:
    """`kept`: the good copies that make this one superfluous."""

    store: str
    kept: tuple[str, ...]


Step = Copy | Verify | Drop


@dataclass(frozen=True, slots=True)
class Plan:
    """`short`: good copies that are missing to the number of its class, also where there are too few stores."""

    steps: tuple[Step, ...]
    review_after: datetime
    short: int


def plan(blob: BlobPicture, stores: Sequence[StorePicture], policy: PlacementPolicy, now: datetime) -> Plan:
    wanted = policy.public_copies if blob.public else policy.copies
    held = {copy.store: copy for copy in blob.copies if copy.state is CopyState.PRESENT}
    desired = _desired(blob, stores, policy, now, held, wanted)
    up = {store.name for store in stores if store.reach is Reach.UP}
    good = {name for name, copy in held.items() if copy.good}
    counted = good & {store.name for store in stores if store.reach is not Reach.LOST}
    steps: list[Step] = []
    for name in desired:
        if name in good or name not in up:
            continue
        if name in held:
            steps.append(Verify(name))
        elif sources := _sources(held, up, name):
            steps.append(Copy(name, sources))
    if not steps and desired and set(desired) <= good:
        settled = now - policy.settle
        for name in sorted(held.keys() - set(desired)):
            if name in up and held[name].copied_at <= settled:
                steps.append(Drop(name, tuple(desired)))
    return Plan(tuple(steps), _review(blob, held, policy, now), max(0, wanted - len(counted)))


def _desired(
    blob: BlobPicture,
    stores: Sequence[StorePicture],
    policy: PlacementPolicy,
    now: datetime,
    held: dict[str, BlobCopy],
    wanted: int,
) -> list[str]:
    rank = policy.rank_of(now - blob.last_read_at)
    open_to = [
        store
        for store in stores
        if (store.reach is Reach.UP or (store.reach is Reach.AWAY and store.name in held))
        and (store.name in held or _has_room(store, blob.size, policy))
    ]
    chosen: list[StorePicture] = []
    while open_to and len(chosen) < wanted:
        used = {store.location for store in chosen}
        best = min(
            open_to,
            key=lambda store: (
                store.location in used,
                abs(store.rank - rank),
                -store.rank,
                store.name not in held,
                store.name,
            ),
        )
        open_to.remove(best)
        chosen.append(best)
    return [store.name for store in chosen]


def _has_room(store: StorePicture, size: int, policy: PlacementPolicy) -> bool:
    return store.free_bytes is None or store.free_bytes >= size + policy.reserve_bytes


def _sources(held: dict[str, BlobCopy], up: set[str], target: str) -> tuple[str, ...]:
    """Good ones first; one that nobody has read is verified by the copy's own commit."""
    return tuple(sorted((held.keys() & up) - {target}, key=lambda name: (not held[name].good, name)))


def _review(blob: BlobPicture, held: dict[str, BlobCopy], policy: PlacementPolicy, now: datetime) -> datetime:
    """The next moment at which the answer may be another one by time alone; weekly at least."""
    moments = [blob.last_read_at + policy.warm_after, blob.last_read_at + policy.cold_after]
    moments += [copy.copied_at + policy.settle for copy in held.values()]
    return min((each for each in moments if each > now), default=now + timedelta(days=7))
