"""The engine takes in an image while its layers still come; nothing runs before all of it is verified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.model import Phase
from agent.runtimes import ContainerOrder, EngineRefused
from agent.runtimes.memory import MemoryRuntimeDriver
from common.digest import Digest
from tests.agent.lab import HOST, Lab
from tests.agent.samples import INSTANCE, assignment, noise, sample
from tests.agent.slow_source import SlowSource
from tests.pace import BUSY_SECONDS

SAMPLE = sample(noise(200_000, "layer"))
MANIFEST, CONFIG, LAYER = SAMPLE.image.manifest.digest, *(one.digest for one in SAMPLE.image.contents)


class Watched(MemoryRuntimeDriver):
    """Its pull ahead lasts until the image is complete here, as with an engine that reads from the mirror."""

    def __init__(self, lab: Lab, held: Callable[[], frozenset[Digest]], refuses: bool = False) -> None:
        super().__init__(lab.engine, HOST)
        self.pulls: list[tuple[str, str, frozenset[Digest]]] = []
        self.cancelled = 0
        self.held_at_creation: list[frozenset[Digest]] = []
        self._held = held
        self._refuses = refuses

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        self.pulls.append(("ahead", repository, self._held()))
        if self._refuses:
            raise EngineRefused("this engine wants no image that is not whole")
        try:
            while LAYER not in self._held():  # noqa: ASYNC110  a state is looked at
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await super().pull(repository, manifest)

    async def pull(self, repository: str, manifest: Digest) -> None:
        self.pulls.append(("whole", repository, self._held()))
        await super().pull(repository, manifest)

    async def create(self, order: ContainerOrder) -> str:
        self.held_at_creation.append(self._held())
        return await super().create(order)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with SlowSource(LAYER) as centre:
        centre.hold(*SAMPLE.bytes_of.values())
        yield Lab(tmp_path, centre)
        centre.let_go.set()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while not condition():  # noqa: ASYNC110  an engine is looked at, it cannot be awaited
            await asyncio.sleep(0.005)


async def test_the_engine_begins_when_manifest_and_config_are_held(lab: Lab) -> None:
    async with lab.open() as agent:
        driver = agent.driver = Watched(lab, lambda: agent.cache.held)
        agent.reconcile()
        await agent.assign(assignment(SAMPLE.image))
        await eventually(lambda: bool(driver.pulls))
        assert driver.pulls == [("ahead", "acme/web", frozenset({MANIFEST, CONFIG}))]
        assert (await agent.until(INSTANCE, Phase.FETCHING)).detail == ""
        assert not lab.engine.containers
        assert isinstance(lab.centre, SlowSource)
        lab.centre.let_go.set()
        await agent.until(INSTANCE, Phase.RUNNING)
        # What came ahead is not pulled again, and the one container was made when everything was verified.
        assert len(driver.pulls) == 1
        assert driver.held_at_creation == [frozenset({MANIFEST, CONFIG, LAYER})]
        assert len(lab.engine.containers) == 1


async def test_an_engine_that_will_not_pull_ahead_pulls_afterwards(lab: Lab) -> None:
    async with lab.open() as agent:
        driver = agent.driver = Watched(lab, lambda: agent.cache.held, refuses=True)
        agent.reconcile()
        await agent.assign(assignment(SAMPLE.image))
        await eventually(lambda: bool(driver.pulls))
        assert isinstance(lab.centre, SlowSource)
        lab.centre.let_go.set()
        await agent.until(INSTANCE, Phase.RUNNING)
        assert [kind for kind, _, _ in driver.pulls] == ["ahead", "whole"]


async def test_a_pull_ahead_ends_with_the_wish_for_the_image(lab: Lab) -> None:
    async with lab.open() as agent:
        driver = agent.driver = Watched(lab, lambda: agent.cache.held)
        agent.reconcile()
        await agent.assign(assignment(SAMPLE.image))
        await eventually(lambda: bool(driver.pulls))
        await agent.assign()
        await eventually(lambda: driver.cancelled == 1)
        assert not lab.engine.containers


async def test_after_a_kill_the_image_that_came_ahead_runs_only_when_all_is_held(lab: Lab) -> None:
    lab.engine.images.add(MANIFEST)
    async with lab.open() as agent:
        driver = agent.driver = Watched(lab, lambda: agent.cache.held)
        agent.reconcile()
        await agent.assign(assignment(SAMPLE.image))
        await agent.until(INSTANCE, Phase.FETCHING)
        assert not lab.engine.containers
        assert isinstance(lab.centre, SlowSource)
        lab.centre.let_go.set()
        await agent.until(INSTANCE, Phase.RUNNING)
        assert not driver.pulls
        assert len(driver.held_at_creation) == len(lab.engine.containers) == 1
