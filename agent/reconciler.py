"""Observe, plan, apply one step of each instance, report; again.

It wakes when desired state changes, when a step ends, when a delay is over, and every few seconds, because engines
change by themselves. Instances progress side by side and one at a time each.

Invariants: a plan is only used for instances that no step was running for when the host was looked at, so no step is
made from a picture that another step has changed; nothing that is running is stopped because something is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass

import structlog

from agent.adoptions import Adoptions
from agent.allowance import Allowance
from agent.attempts import Attempts
from agent.conditions import report_of
from agent.copies import same_move
from agent.cut_off import CONNECTED, CutOff, held_back
from agent.desired import DesiredBook
from agent.execution import ContentFetcher, Execution, Metered, OpenArchive
from agent.health import verdict
from agent.ledger import Ledger
from agent.looking import look
from agent.model import (
    LIVE_STATES,
    Assignment,
    Assignments,
    ContentReport,
    DesiredState,
    Effort,
    InstanceReport,
    Phase,
)
from agent.observation import Observation
from agent.planner import orphans, plan
from agent.reporter import Reporter
from agent.runtimes import EngineRefused, RuntimeDriver
from agent.steps import CreateContainer, FetchContents, RemoveContainer, StartContainer, Step, TakeOverInstance
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Internal, Unavailable

log = structlog.get_logger()


@dataclass
class _Running:
    step: Step
    task: asyncio.Task[None]


class Reconciler:
    """`driver` gives None while this host runs nothing and only holds contents. `held`: what the cache verified."""

    def __init__(
        self,
        book: DesiredBook,
        driver: Callable[[], RuntimeDriver | None],
        fetcher: ContentFetcher,
        held: Callable[[], frozenset[Digest]],
        ledger: Ledger,
        reporter: Reporter,
        clock: Clock,
        random: Callable[[], float],
        *,
        poll_seconds: float = 3.0,
        progress_seconds: float = 0.5,
        metered: Metered = lambda _: nullcontext(),
        adoptions: Adoptions | None = None,
        allowance: Allowance | None = None,
        archives: OpenArchive | None = None,
        cut_off: Callable[[], CutOff] = lambda: CONNECTED,
    ) -> None:
        self._book = book
        self._driver = driver
        self._fetcher = fetcher
        self._held = held
        self._ledger = ledger
        self._reporter = reporter
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._progress_seconds = progress_seconds
        self._execution = Execution(
            driver, fetcher, ledger, metered=metered, adoptions=adoptions, allowance=allowance, archives=archives
        )
        self._adoptions = adoptions
        self._cut_off = cut_off
        self._attempts = Attempts(clock, random)
        self._running: dict[str, _Running] = {}
        self._orphans: dict[str, int] = {}
        self._generations: dict[str, int] = {}
        self._on_hold: set[str] = set()
        self._stirred: set[str] = set()  # held and let go since the host was looked at
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    def try_again(self, instance_id: str) -> None:
        """Now, and as if nothing had gone wrong with it before."""
        self._attempts.forgive(instance_id)
        self._wake.set()

    @contextlib.asynccontextmanager
    async def hold(self, instance_id: str) -> AsyncIterator[None]:
        """No step of this instance begins inside; entered when none runs any more."""
        self._on_hold.add(instance_id)
        try:
            while (running := self._running.get(instance_id)) is not None:
                await asyncio.wait([running.task])
            yield
        finally:
            self._on_hold.discard(instance_id)
            self._stirred.add(instance_id)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled; containers go on running."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_progress())
            while True:
                self._wake.clear()
                await self._round(group)
                await self._pause()

    async def _round(self, group: asyncio.TaskGroup) -> None:
        busy = self._running.keys() | self._on_hold
        self._stirred.clear()
        assignments = self._book.current
        observation = await self._observe(assignments)
        assignments = held_back(assignments, observation, self._cut_off())
        steps = plan(assignments, observation)
        self._cancel_outdated(assignments, steps)
        if observation.containers is not None:
            self._attempts.need_nothing(assignments.items.keys() - steps.keys() - self._running.keys())
        for instance_id, step in steps.items():
            stirred = instance_id in self._on_hold or instance_id in self._stirred
            free = instance_id not in busy and instance_id not in self._running and not stirred
            if free and self._attempts.is_due(instance_id, step):
                task = group.create_task(self._apply(instance_id, step, observation))
                self._running[instance_id] = _Running(step, task)
        self._report(assignments, observation, busy)
        self._tidy(assignments)

    async def _observe(self, assignments: Assignments) -> Observation:
        driver = self._driver()
        seen = await look(driver, assignments, self._adoptions)
        observation = Observation(
            held=self._held(),
            has_engine=driver is not None,
            containers=seen.containers,
            images=seen.images,
            restarts=self._ledger.restarts,
            refused=self._attempts.refused,
            engine_detail=seen.detail,
            strangers=seen.strangers,
            adopted_once=self._adoptions.instances if self._adoptions else frozenset(),
        )
        await self._learn(assignments, observation)
        return observation

    async def _learn(self, assignments: Assignments, observation: Observation) -> None:
        """Containers that run as wished: their spec is good, and an unknown history of restarts begins here."""
        for container in observation.containers or ():
            assignment = assignments.items.get(container.instance_id)
            if assignment is None or container.spec_hash != assignment.spec_hash:
                continue
            if container.state in LIVE_STATES and container.restart_count == 0:
                others = [one for one in observation.containers or () if one.instance_id == container.instance_id]
                if len(others) == 1:
                    self._attempts.settled(assignment.instance_id, assignment.spec_hash)
                if assignment.instance_id not in observation.restarts:
                    with contextlib.suppress(OSError):
                        await self._ledger.honour(assignment.instance_id, assignment.restart_nonce)

    def _cancel_outdated(self, assignments: Assignments, steps: dict[str, Step]) -> None:
        """A fetch may take hours: it gives way when something else is wanted. Other steps are short and finish."""
        for instance_id, running in self._running.items():
            assignment, wanted = assignments.items.get(instance_id), steps.get(instance_id)
            if isinstance(running.step, TakeOverInstance) and not same_move(assignment, running.step.assignment):
                running.task.cancel()
            if not isinstance(running.step, FetchContents):
                continue
            gone = assignment is None or assignment.desired_state is DesiredState.REMOVED
            other = wanted is not None and not (
                isinstance(wanted, FetchContents) and set(wanted.contents) <= set(running.step.contents)
            )
            paused = assignment is not None and assignment.effort is Effort.PAUSED
            if gone or other or paused:
                running.task.cancel()

    async def _apply(self, instance_id: str, step: Step, observation: Observation) -> None:
        what = type(step).__name__
        try:
            self._remember_refusal(instance_id, step, observation)
            await self._execution.carry_out(instance_id, step)
            self._attempts.succeeded(instance_id, step)
            log.info("step carried out", instance=instance_id, step=what)
        except (Failure, OSError) as error:
            failure = error if isinstance(error, Failure) else Unavailable(f"this host failed: {error}")
            log.warning("step failed", instance=instance_id, step=what, error=str(failure))
            self._failed(instance_id, step, failure)
        except Exception:
            # A defect that one instance brings to light must not end the work on all others.
            log.exception("step broken", instance=instance_id, step=what)
            self._failed(instance_id, step, Internal(f"a defect ended {what}", action="report it; see the agent's log"))
        finally:
            del self._running[instance_id]
            self._wake.set()

    def _remember_refusal(self, instance_id: str, step: Step, observation: Observation) -> None:
        """Before the container goes: afterwards nothing on the host would say that this spec had its chance."""
        spec = step.refused_spec if isinstance(step, RemoveContainer) else ""
        if isinstance(step, RemoveContainer) and spec and self._attempts.refused.get(instance_id) != spec:
            self._attempts.refuse(instance_id, spec, _why_not_kept(step, observation))

    def _failed(self, instance_id: str, step: Step, failure: Failure) -> None:
        if isinstance(failure, EngineRefused) and isinstance(step, CreateContainer | StartContainer | TakeOverInstance):
            spec = step.spec_hash if isinstance(step, StartContainer) else step.assignment.spec_hash
            assignment = self._book.current.items.get(instance_id)
            if assignment is not None and assignment.spec_hash == spec:
                self._attempts.refuse(instance_id, spec, str(failure))
                return
        self._attempts.failed(instance_id, failure)

    def _report(self, assignments: Assignments, observation: Observation, busy: Collection[str]) -> None:
        for instance_id, assignment in assignments.items.items():
            self._generations[instance_id] = assignment.generation
            running = self._running.get(instance_id)
            failure = self._attempts.failure(instance_id, assignment.spec_hash)
            report = report_of(assignment, observation, running.step if running else None, failure)
            # A step that was on its way when the engine was looked at may have made a container since, and the control
            # plane forgets an instance for good when it hears that nothing is left of it.
            if report.phase is not Phase.REMOVED or instance_id not in busy:
                self._reporter.report(report)
            self._report_contents(assignment)
        for instance_id, unreadable in assignments.unreadable.items():
            self._reporter.report(
                InstanceReport(instance_id, unreadable.generation, Phase.FAILED, detail=unreadable.reason)
            )
        self._report_orphans(assignments, observation)

    def _report_contents(self, assignment: Assignment) -> None:
        if assignment.desired_state is DesiredState.REMOVED:
            return
        held = self._held()
        for content in assignment.image.everything:
            verified = content.digest in held
            so_far = content.size_bytes if verified else self._fetcher.held_bytes(content, assignment.tenant_id)
            self._reporter.report(
                ContentReport(
                    digest=content.digest,
                    tenant_id=assignment.tenant_id,
                    size_bytes=content.size_bytes,
                    held_bytes=so_far,
                    verified=verified,
                    provenance=self._ledger.provenance(assignment.tenant_id, content.digest),
                )
            )

    def _report_orphans(self, assignments: Assignments, observation: Observation) -> None:
        """Instances that are not assigned any more: say when the last of them is gone."""
        if not assignments.known or observation.containers is None:
            return
        here = set(orphans(assignments, observation))
        for instance_id in [known for known in self._orphans if known not in here]:
            generation = self._orphans.pop(instance_id)
            if instance_id not in assignments.items:
                self._reporter.report(InstanceReport(instance_id, generation, Phase.REMOVED))
        for container in observation.containers:
            if container.instance_id in here:
                # The label tells of the container's making; what was assigned since is newer.
                newest = max(container.generation, self._generations.get(container.instance_id, 0))
                self._orphans[container.instance_id] = newest

    def _tidy(self, assignments: Assignments) -> None:
        if assignments.known:
            instances = assignments.items.keys() | assignments.unreadable.keys() | self._orphans.keys()
            contents = {
                (one.tenant_id, content.digest)
                for one in assignments.items.values()
                for content in one.image.everything
            }
            self._generations = {key: one for key, one in self._generations.items() if key in instances}
            self._attempts.forget_all_but(instances)
            self._ledger.forget_all_but(instances, contents)
            self._reporter.forget_all_but(instances, contents)

    async def _report_progress(self) -> None:
        """While something is fetched, people watch it move."""
        while True:
            await self._clock.sleep(self._progress_seconds)
            for instance_id, running in self._running.items():
                assignment = self._book.current.items.get(instance_id)
                if isinstance(running.step, FetchContents) and assignment is not None:
                    self._report_contents(assignment)

    async def _pause(self) -> None:
        next_due = self._attempts.seconds_to_next()
        seconds = self._poll_seconds if next_due is None else min(self._poll_seconds, next_due + 0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()


def _why_not_kept(step: RemoveContainer, observation: Observation) -> str:
    for container in observation.containers or ():
        if container.runtime_id == step.runtime_id:
            return f"the new version did not stay up: {verdict(container, wanted=True).detail}"
    return "the new version did not stay up"
