"""Patience with each instance: when its next step may be tried, what went wrong, and which spec is refused for now.

Invariant: an instance that fails waits longer each time, with jitter, and holds up no other; a spec that the engine
refused, or that would not stay up, is not tried again before its own, longer delay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field

from agent.steps import StartContainer, Step
from common.backoff import Backoff
from common.clock import Clock
from common.errors import Failure, Unavailable

_CAP_SECONDS = 60.0
# A refused spec costs its predecessor a stop and a start each time it is tried, so it is tried rarely.
_REFUSAL_CAP_SECONDS = 600.0
_REFUSAL_FLOOR_SECONDS = 5.0
# A container that ran this long had a good start: the next one is not held against it.
_STABLE_SECONDS = 120.0


@dataclass
class _Tries:
    backoff: Backoff
    starts: Backoff
    failure: str = ""
    not_before: float = 0.0
    start_not_before: float = 0.0
    started_at: float = float("-inf")


@dataclass
class _Refusal:
    spec_hash: str
    backoff: Backoff
    until: float = 0.0
    reason: str = ""


@dataclass
class Attempts:
    clock: Clock
    random: Callable[[], float]
    _tries: dict[str, _Tries] = field(default_factory=dict)
    _refusals: dict[str, _Refusal] = field(default_factory=dict)

    def is_due(self, instance_id: str, step: Step) -> bool:
        tries = self._tries.get(instance_id)
        if tries is None:
            return True
        now = self.clock.monotonic()
        held_back = isinstance(step, StartContainer) and now < tries.start_not_before
        return now >= tries.not_before and not held_back

    def failed(self, instance_id: str, failure: Failure) -> None:
        tries = self._of(instance_id)
        delay = tries.backoff.next_delay()
        if isinstance(failure, Unavailable):
            delay = max(delay, min(failure.retry_after_seconds, _CAP_SECONDS) * self.random())
        tries.not_before = self.clock.monotonic() + delay
        tries.failure = str(failure)

    def succeeded(self, instance_id: str, step: Step) -> None:
        tries = self._of(instance_id)
        tries.backoff.reset()
        tries.failure, tries.not_before = "", 0.0
        if isinstance(step, StartContainer):
            now = self.clock.monotonic()
            if now - tries.started_at > _STABLE_SECONDS:
                tries.starts.reset()
            tries.started_at, tries.start_not_before = now, now + tries.starts.next_delay()

    def need_nothing(self, instances: Set[str]) -> None:
        """Nothing is left to do for these, so what failed is over: somebody else may have brought what was missing."""
        for instance_id in instances & self._tries.keys():
            self._tries[instance_id].failure = ""

    def refuse(self, instance_id: str, spec_hash: str, reason: str) -> None:
        refusal = self._refusals.get(instance_id)
        if refusal is None or refusal.spec_hash != spec_hash:
            backoff = Backoff(self.random, 10.0, _REFUSAL_CAP_SECONDS, _REFUSAL_FLOOR_SECONDS)
            refusal = self._refusals[instance_id] = _Refusal(spec_hash, backoff)
        refusal.until = self.clock.monotonic() + refusal.backoff.next_delay()
        refusal.reason = reason

    def settled(self, instance_id: str, spec_hash: str) -> None:
        """A container of that spec runs with no predecessor left, so whatever was wrong with it is over."""
        refusal = self._refusals.get(instance_id)
        if refusal is not None and refusal.spec_hash == spec_hash:
            del self._refusals[instance_id]

    def forgive(self, instance_id: str) -> None:
        """Somebody asked for another try now: what went wrong before does not count."""
        self._tries.pop(instance_id, None)
        self._refusals.pop(instance_id, None)

    @property
    def refused(self) -> Mapping[str, str]:
        """Spec hashes that must not be tried now, by instance."""
        now = self.clock.monotonic()
        return {key: refusal.spec_hash for key, refusal in self._refusals.items() if now < refusal.until}

    def failure(self, instance_id: str, spec_hash: str) -> str:
        refusal = self._refusals.get(instance_id)
        if refusal is not None and refusal.spec_hash == spec_hash:
            return refusal.reason
        tries = self._tries.get(instance_id)
        return tries.failure if tries else ""

    def seconds_to_next(self) -> float | None:
        """Until something that waits may be tried; None if nothing waits."""
        now = self.clock.monotonic()
        moments = [tries.not_before for tries in self._tries.values()]
        moments += [tries.start_not_before for tries in self._tries.values()]
        moments += [refusal.until for refusal in self._refusals.values()]
        waiting = [moment - now for moment in moments if moment > now]
        return min(waiting) if waiting else None

    def forget_all_but(self, instances: Collection[str]) -> None:
        self._tries = {key: tries for key, tries in self._tries.items() if key in instances}
        self._refusals = {key: refusal for key, refusal in self._refusals.items() if key in instances}

    def _of(self, instance_id: str) -> _Tries:
        if instance_id not in self._tries:
            # A crowd of hosts that failed together (the regional went away) must not return together: full jitter.
            self._tries[instance_id] = _Tries(
                Backoff(self.random, initial_seconds=1.0, cap_seconds=_CAP_SECONDS),
                Backoff(self.random, initial_seconds=1.0, cap_seconds=_CAP_SECONDS),
            )
        return self._tries[instance_id]
