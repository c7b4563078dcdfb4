"""The agent's part in its own replacement: unpack what is held, ask the supervisor by ending, and once started anew say
whether all is well.

Invariants: nothing happens before every content of the version is verified in the cache; an order that is not newer
than the last one acted on changes nothing; the agent ends in good order, and what it runs goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from agent.model import Assignment, Assignments, InstanceReport, Phase
from agent.reporter import Report
from agent.updates.layout import Layout
from agent.updates.model import BUILT_IN, Order, State
from agent.updates.unpacking import install
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure

log = structlog.get_logger()

POLL_SECONDS = 1.0


class Contents(Protocol):
    """The cache, as far as it is needed."""

    @property
    def held(self) -> frozenset[Digest]: ...

    def find(self, digest: Digest) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Who this process is to its supervisor; `artifact` BUILT_IN: it runs what was installed on the host."""

    supervised: bool
    artifact: str


def standing(layout: Layout) -> Standing:
    """At the start of the process."""
    if layout.supervisor() != os.getppid():
        return Standing(False, BUILT_IN)
    return Standing(True, layout.read_state().to_run)


class Updater:
    """`attached`: whether the control plane is there. `end`: end this process in good order."""

    def __init__(
        self,
        layout: Layout,
        standing: Standing,
        assignments: Callable[[], Assignments],
        contents: Contents,
        attached: Callable[[], bool],
        clock: Clock,
        end: Callable[[], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._layout = layout
        self._standing = standing
        self._assignments = assignments
        self._contents = contents
        self._attached = attached
        self._clock = clock
        self._end = end
        self._poll_seconds = poll_seconds
        self._state = State()
        self._well_since: float | None = None
        self._unusable: dict[int, str] = {}

    async def run(self) -> None:
        """Until this process is asked to end."""
        while True:
            try:
                self._state = await asyncio.to_thread(self._layout.read_state)
                await self._say_well()
                if await self._prepared():
                    self._end()
                    return
            except OSError as error:
                log.warning("agent version not changed", error=str(error))
            await self._clock.sleep(self._poll_seconds)

    async def _say_well(self) -> None:
        """While being tried: attached without a gap for as long as was asked."""
        trial = self._state.trial
        if not self._standing.supervised or trial is None or trial.order.digest != self._standing.artifact:
            return
        now = self._clock.monotonic()
        if not self._attached():
            self._well_since = None
        elif self._well_since is None:
            self._well_since = now
        elif now - self._well_since >= trial.order.healthy_seconds:
            await asyncio.to_thread(self._layout.write_healthy, trial.order)

    async def _prepared(self) -> bool:
        """Whether a newer version lies ready and is written down as wanted."""
        wish = newest(self._assignments())
        if wish is None or not self._standing.supervised or self._state.trial is not None:
            return False
        order = order_for(wish)
        if order.number <= self._state.last_order or order.number in self._unusable:
            return False
        if not all(content.digest in self._contents.held for content in wish.image.everything):
            return False
        if order.digest != self._state.trusted:
            try:
                await asyncio.to_thread(self._install, wish, order)
            except Failure as failure:
                self._unusable[order.number] = str(failure)
                log.error("agent version unusable", order=order.number, version=order.version, error=str(failure))
                return False
        await asyncio.to_thread(self._layout.write_wanted, order)
        if order.digest == self._state.trusted:
            return False  # the supervisor only notes the number
        log.info("agent ends for another version", order=order.number, version=order.version, digest=order.digest)
        return True

    def _install(self, wish: Assignment, order: Order) -> None:
        self._layout.forget_all_but(self._state.kept)
        # The config, first of the contents, says nothing that is needed here.
        layers = [self._contents.find(content.digest) for content in wish.image.contents[1:]]
        install(self._layout, order.digest, [path for path in layers if path is not None])

    def amend(self, report: Report) -> Report:
        """What the reconciler reports of a held version, with how far its replacement is."""
        if not isinstance(report, InstanceReport) or report.phase is not Phase.VERIFIED:
            return report
        assignment = self._assignments().items.get(report.instance_id)
        if assignment is None or assignment.agent_update is None:
            return report
        phase, detail = self._verdict(order_for(assignment))
        return replace(report, phase=phase, detail=detail)

    def _verdict(self, order: Order) -> tuple[Phase, str]:
        state = self._state
        if not self._standing.supervised:
            return Phase.FAILED, "this agent has no supervisor; start it with `longshore-agent supervise`"
        if order.number in self._unusable:
            return Phase.FAILED, self._unusable[order.number]
        if state.refusal is not None and state.refusal.order.number == order.number:
            return Phase.FAILED, f"the former version runs again: {state.refusal.reason}"
        if order.number < state.last_order:
            return Phase.FAILED, f"order {order.number} is older than order {state.last_order}, which was heeded"
        if order.number > state.last_order:
            return Phase.VERIFIED, ""
        if state.trial is not None:
            return Phase.CREATING, "it is being tried"
        if state.trusted == order.digest == self._standing.artifact:
            return Phase.RUNNING, ""
        return Phase.FAILED, "another version runs under this order; the control plane's orders contradict each other"


def newest(assignments: Assignments) -> Assignment | None:
    wishes = [one for one in assignments.items.values() if one.agent_update is not None]
    return max(wishes, key=lambda one: order_for(one).number, default=None)


def order_for(assignment: Assignment) -> Order:
    """Of an assignment that is one."""
    wish = assignment.agent_update
    if wish is None:
        raise ValueError(f"{assignment.instance_id} is no order of a version")
    digest = assignment.image.manifest.digest.hex
    return Order(wish.order, digest, wish.version, wish.healthy_seconds, wish.patience_seconds)
