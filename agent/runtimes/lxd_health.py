"""Health checks of LXD instances: LXD has none of its own, so the agent runs the command inside, in Docker's terms.

A check is due every `interval_seconds`; it fails with another exit code than 0 and after `timeout_seconds`; `retries`
failures in a row make the instance unhealthy, and during the start period they do not count. What is known is forgotten
when the instance starts anew, and with the agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from agent.model import Health, HealthCheck
from common.clock import Clock

# Docker's defaults.
_INTERVAL_SECONDS, _TIMEOUT_SECONDS, _RETRIES = 30.0, 30.0, 3

Spawn = Callable[[str, Coroutine[Any, Any, None]], object]
Probe = Callable[[str, HealthCheck, float], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Course:
    """Of the checks of one start of one instance. `start`: what tells this start from others."""

    start: str
    began: float
    next_due: float
    health: Health = Health.STARTING
    failures: int = 0

    def after(self, passed: bool, check: HealthCheck, now: float) -> Course:
        due = now + (check.interval_seconds or _INTERVAL_SECONDS)
        if passed:
            return replace(self, health=Health.HEALTHY, failures=0, next_due=due)
        young = self.health is Health.STARTING and now - self.began < check.start_period_seconds
        failures = 0 if young else self.failures + 1
        bad = failures >= (check.retries or _RETRIES)
        return replace(self, health=Health.UNHEALTHY if bad else self.health, failures=failures, next_due=due)


class HealthChecks:
    """`probe`: (instance id, check, deadline in seconds) -> whether it passed; raises nothing."""

    def __init__(self, clock: Clock, spawn: Spawn, probe: Probe) -> None:
        self._clock = clock
        self._spawn = spawn
        self._probe = probe
        self._courses: dict[str, Course] = {}
        self._probing: set[str] = set()

    def health_of(self, instance_id: str, start: str, check: HealthCheck) -> Health:
        """Of a running instance, as far as it is known; what is due is begun."""
        now = self._clock.monotonic()
        course = self._courses.get(instance_id)
        if course is None or course.start != start:
            course = Course(start, now, now)
            self._courses[instance_id] = course
        if now >= course.next_due and instance_id not in self._probing:
            self._probing.add(instance_id)
            self._spawn(f"health of {instance_id}", self._check(instance_id, start, check))
        return course.health

    def forget_all_but(self, instance_ids: set[str]) -> None:
        self._courses = {key: course for key, course in self._courses.items() if key in instance_ids}

    async def _check(self, instance_id: str, start: str, check: HealthCheck) -> None:
        try:
            passed = await self._probe(instance_id, check, check.timeout_seconds or _TIMEOUT_SECONDS)
        finally:
            self._probing.discard(instance_id)
        course = self._courses.get(instance_id)
        if course is not None and course.start == start:
            self._courses[instance_id] = course.after(passed, check, self._clock.monotonic())
