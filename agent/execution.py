"""Carrying out one step, whatever it is; the step's own idempotence makes a repetition after a crash harmless.

Invariant: what a step did is remembered (a restart that was honoured) only after the engine said that it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Protocol

import structlog

from agent.adoptions import Adoptions
from agent.allowance import Allowance
from agent.ledger import Ledger
from agent.model import Assignment, Content, TakeOver
from agent.runtimes import Adoption, ContainerOrder, EngineAway, EngineRefused, RuntimeDriver
from agent.steps import (
    AdoptContainer,
    CreateContainer,
    FetchContents,
    PauseContainer,
    PullImage,
    RemoveContainer,
    RenameContainer,
    RestartContainer,
    ResumeContainer,
    StartContainer,
    Step,
    StopContainer,
    TakeOverInstance,
)
from common.errors import Failure

log = structlog.get_logger()

Metered = Callable[[str], AbstractContextManager[None]]
"""Entered around a step, with its kind."""

OpenArchive = Callable[[TakeOver], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""What stands on another host as one archive; it fails rather than end before its end."""


class ContentFetcher(Protocol):
    async def fetch(self, content: Content, tenant_id: str) -> None:
        """Returns when the content is verified in the cache; several at once for one digest are one. Raises what
        hinders, after every source was tried.
        """
        ...

    def held_bytes(self, content: Content, tenant_id: str) -> int:
        """Verified so far, for people to watch."""
        ...


class Execution:
    """`at_once` bounds the engine's work; the fetcher bounds its own. `ahead_at_once`: pulls of what still arrives,
    which last as long as a download.
    """

    def __init__(
        self,
        driver: Callable[[], RuntimeDriver | None],
        fetcher: ContentFetcher,
        ledger: Ledger,
        *,
        at_once: int = 4,
        ahead_at_once: int = 2,
        metered: Metered = lambda _: nullcontext(),
        adoptions: Adoptions | None = None,
        allowance: Allowance | None = None,
        archives: OpenArchive | None = None,
    ) -> None:
        self._metered = metered
        self._archives = archives
        self._adoptions = adoptions
        self._allowance = allowance or Allowance()
        self._driver = driver
        self._fetcher = fetcher
        self._ledger = ledger
        self._turn = asyncio.Semaphore(at_once)
        self._ahead_turn = asyncio.Semaphore(ahead_at_once)

    async def carry_out(self, instance_id: str, step: Step) -> None:
        with self._metered(type(step).__name__):
            await self._carry_out(instance_id, step)

    async def _carry_out(self, instance_id: str, step: Step) -> None:
        if isinstance(step, FetchContents):
            await self._fetch(step)
        elif (driver := self._driver()) is None:
            raise EngineAway("this host has no container engine", action="start the agent with a runtime")
        elif isinstance(step, TakeOverInstance):
            # It lasts as long as a download, so it takes no turn of those that work with the engine alone.
            await self._take_over(driver, step.assignment)
        else:
            async with self._turn:
                await self._with_engine(driver, instance_id, step)

    async def _fetch(self, step: FetchContents) -> None:
        """All of them, even if one fails: a small manifest that is away must not keep gigabytes from moving."""
        async with asyncio.TaskGroup() as group:
            ahead = group.create_task(self._pull_ahead(step))
            calls = (self._fetcher.fetch(content, step.tenant_id) for content in step.contents)
            results = await asyncio.gather(*calls, return_exceptions=True)
            failures = [result for result in results if isinstance(result, BaseException)]
            if failures:
                ahead.cancel()
        for failure in failures:
            raise failure

    async def _pull_ahead(self, step: FetchContents) -> None:
        """Whatever goes wrong here is met again, and reported, by the pull that follows the fetch."""
        driver, ahead = self._driver(), step.ahead
        if driver is None or ahead is None or self._ahead_turn.locked():
            return
        async with self._ahead_turn:
            try:
                for content in ahead.first:
                    await self._fetcher.fetch(content, step.tenant_id)
                log.info("engine pulls ahead", manifest=str(ahead.manifest))
                await driver.pull_ahead(ahead.repository, ahead.manifest)
            except (Failure, OSError) as error:
                log.info("engine did not pull ahead", manifest=str(ahead.manifest), error=str(error))

    async def _with_engine(self, driver: RuntimeDriver, instance_id: str, step: Step) -> None:
        match step:
            case PullImage():
                await driver.pull(step.repository, step.manifest)
            case CreateContainer():
                await driver.create(await asyncio.to_thread(self._order, step.assignment, step.successor_of))
            case AdoptContainer():
                await self._adopt(instance_id, step)
            case StartContainer():
                await driver.start(step.runtime_id)
                await self._ledger.honour(instance_id, step.restart_nonce)
            case RestartContainer():
                await driver.restart(step.runtime_id, step.grace_seconds)
                await self._ledger.honour(instance_id, step.restart_nonce)
            case _:
                await _move(driver, step)

    async def _take_over(self, driver: RuntimeDriver, assignment: Assignment) -> None:
        if self._archives is None or assignment.take_over is None:
            raise EngineRefused("this agent takes nothing over", action="choose another host")
        order = await asyncio.to_thread(self._order, assignment)
        async with self._archives(assignment.take_over) as archive:
            await driver.take_in(order, assignment.take_over.move_id, archive)
        log.info("instance copied here", instance=assignment.instance_id, move=assignment.take_over.move_id)

    def _order(self, assignment: Assignment, successor_of: str = "") -> ContainerOrder:
        return ContainerOrder(
            name=assignment.container_name,
            instance_id=assignment.instance_id,
            generation=assignment.generation,
            spec_hash=assignment.spec_hash,
            manifest=assignment.image.manifest.digest,
            spec=self._allowance.bounded(assignment, adopted=bool(successor_of)),
            successor_of=successor_of,
        )

    async def _adopt(self, instance_id: str, step: AdoptContainer) -> None:
        if self._adoptions is None:
            raise EngineRefused("this agent adopts no containers", action="remove the wish to adopt one")
        await self._adoptions.adopt(step.runtime_id, Adoption(instance_id, step.generation, step.spec_hash))
        log.info("container adopted", instance=instance_id, container=step.runtime_id)


async def _move(driver: RuntimeDriver, step: Step) -> None:
    """Steps that leave nothing to be remembered."""
    match step:
        case StopContainer():
            await driver.stop(step.runtime_id, step.grace_seconds)
        case PauseContainer():
            await driver.pause(step.runtime_id)
        case ResumeContainer():
            await driver.resume(step.runtime_id)
        case RenameContainer():
            await driver.rename(step.runtime_id, step.name)
        case RemoveContainer():
            await driver.remove(step.runtime_id)
