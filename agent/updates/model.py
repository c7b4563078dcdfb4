"""What is to run, what is being tried and what is trusted: the supervisor's decisions; pure.

Invariants: an order is acted on once, in the order of their numbers, so one that is replayed changes nothing; there is
always a version to fall back to; whoever reads a `State` after a crash knows which version to start, without looking at
anything else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

# A version that dies so often before it is well is not the host's bad luck.
MOST_STARTS = 3
BUILT_IN = ""
"""Instead of a digest: the version that was installed on the host with the supervisor."""


@dataclass(frozen=True, slots=True)
class Order:
    """`number` grows over the whole fleet; `digest` (hexadecimal) of the manifest. Seconds: how long it must stay
    attached to be trusted, and within which time it must have become so.
    """

    number: int
    digest: str
    version: str = ""
    healthy_seconds: float = 30.0
    patience_seconds: float = 300.0

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trial:
    """`starts`: how often it was started, counted before each start."""

    order: Order
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that this host tried and went back from."""

    order: Order
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """`trusted`, `former`: digests. `last_order`: the newest that was acted on, whatever came of it."""

    trusted: str = BUILT_IN
    former: str = BUILT_IN
    last_order: int = 0
    trial: Trial | None = None
    refusal: Refusal | None = None

    @property
    def to_run(self) -> str:
        return self.trial.order.digest if self.trial is not None else self.trusted

    @property
    def kept(self) -> frozenset[str]:
        """Versions that must stay on disk."""
        return frozenset({self.trusted, self.former, self.to_run}) - {BUILT_IN}

    def document(self) -> dict[str, Any]:
        return asdict(self)


def taken_up(state: State, wanted: Order | None, installed: bool) -> State:
    """Between two processes: a newer order begins its trial, or is fulfilled already."""
    if wanted is None or wanted.number <= state.last_order:
        return state
    if wanted.digest == state.trusted:
        return replace(state, last_order=wanted.number, trial=None, refusal=None)
    if not installed:
        return state
    return replace(state, last_order=wanted.number, trial=Trial(wanted), refusal=None)


def started(state: State) -> State:
    """Written before the process begins. A trial that had its starts is over."""
    trial = state.trial
    if trial is None:
        return state
    if trial.starts >= MOST_STARTS:
        return refused(state, f"it ended {trial.starts} times before it was well")
    return replace(state, trial=replace(trial, starts=trial.starts + 1))


def trusted(state: State, healthy: Order) -> State:
    """The process that is tried says that it is well."""
    trial = state.trial
    if trial is None or trial.order != healthy:
        return state
    return replace(state, former=state.trusted, trusted=trial.order.digest, trial=None)


def refused(state: State, reason: str) -> State:
    if state.trial is None:
        return state
    return replace(state, trial=None, refusal=Refusal(state.trial.order, reason))


def state_of(document: Any) -> State:
    """What `State.document` made; the beginning, if it is anything else."""
    try:
        trial, refusal = document["trial"], document["refusal"]
        return State(
            trusted=_digest(document["trusted"]),
            former=_digest(document["former"]),
            last_order=int(document["last_order"]),
            trial=Trial(order_of(trial["order"]), int(trial["starts"])) if trial else None,
            refusal=Refusal(order_of(refusal["order"]), str(refusal["reason"])) if refusal else None,
        )
    except (KeyError, TypeError, ValueError):
        return State()


def order_of(document: Any) -> Order:
    """Raises `KeyError`, `TypeError` or `ValueError` for anything but what `Order.document` made."""
    return Order(
        number=int(document["number"]),
        digest=_digest(document["digest"]),
        version=str(document["version"]),
        healthy_seconds=float(document["healthy_seconds"]),
        patience_seconds=float(document["patience_seconds"]),
    )


def _digest(value: Any) -> str:
    """It becomes the name of a directory."""
    text = str(value)
    if text != BUILT_IN and not (text.isalnum() and text.isascii() and 32 <= len(text) <= 128):
        raise ValueError(f"{text[:80]!r} is no digest")
    return text
