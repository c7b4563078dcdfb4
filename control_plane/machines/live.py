"""What happens to machines, told while it happens, to whoever may see them.

Invariants: one subscription of a process feeds all views; a view that does not keep up is told `resync` and loses
events, and never holds up the others; rights are asked for again every minute, so that a view ends soon after the right
to it did. An event is a hint: what is shown is asked for by the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure, RateLimited
from control_plane.events import Event, EventBus
from control_plane.machines import sight
from control_plane.machines.messages import InstallChanged, MachineBooted, MachineChanged
from control_plane.tenants.access import Principal

log = structlog.get_logger()

_TOPICS = (MachineChanged.topic, MachineBooted.topic, InstallChanged.topic)
_WAITING = 500
_MOST_VIEWS = 500
_ASKED_AGAIN_SECONDS = 60.0


class TooManyViews(RateLimited):
    code = "too_many_live_views"


@dataclass(eq=False)
class View:
    """`tenants` None: everything. `missed`: something was lost since the last word."""

    tenants: frozenset[str] | None
    waiting: asyncio.Queue[Mapping[str, Any]] = field(default_factory=lambda: asyncio.Queue(_WAITING))
    missed: bool = False

    def offer(self, word: Mapping[str, Any], tenant: str) -> None:
        if self.tenants is not None and tenant not in self.tenants:
            return
        try:
            self.waiting.put_nowait(word)
        except asyncio.QueueFull:
            self.missed = True

    async def next(self) -> Mapping[str, Any]:
        """The next event, or that some were missed."""
        if self.missed and self.waiting.empty():
            self.missed = False
            return {"type": "resync"}
        return await self.waiting.get()


class Live:
    def __init__(self, bus: EventBus, clock: Clock, random: Callable[[], float]) -> None:
        self._bus = bus
        self._clock = clock
        self._random = random
        self._views: set[View] = set()

    async def run(self) -> None:
        """For the whole life of the process."""
        while True:
            try:
                async with self._bus.subscribe(*_TOPICS) as events:
                    self._lost()  # what was announced while nobody listened
                    async for event in events:
                        self._tell(event)
            except Failure as failure:
                log.warning("events of machines are not heard", error=str(failure))
            self._lost()
            await self._clock.sleep(jittered(1.0, 0.5, self._random))

    @asynccontextmanager
    async def view(self, principal: Principal) -> AsyncIterator[View]:
        """Raises `TooManyViews`, and what `sight.tenants_seen` does."""
        seen = sight.tenants_seen(principal)
        if len(self._views) >= _MOST_VIEWS:
            raise TooManyViews(
                f"{_MOST_VIEWS} views are open here", action="close some, or come back", retry_after_seconds=10.0
            )
        view = View(seen)
        self._views.add(view)
        try:
            yield view
        finally:
            self._views.discard(view)

    async def check_forever(self, view: View, again: Callable[[], Awaitable[Principal]]) -> None:
        """Raises what authentication does once the right to look is gone."""
        while True:
            await self._clock.sleep(jittered(_ASKED_AGAIN_SECONDS, 0.2, self._random))
            view.tenants = sight.tenants_seen(await again())

    def _tell(self, event: Event) -> None:
        word = {"type": "event", "topic": event.topic, **event.payload}
        for view in self._views:
            view.offer(word, str(event.payload.get("tenant", "")))

    def _lost(self) -> None:
        for view in self._views:
            view.missed = True
            if view.waiting.empty():
                view.waiting.put_nowait({"type": "resync"})
                view.missed = False
