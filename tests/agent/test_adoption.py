"""Containers that others made become instances: judged, claimed, replaced, and known again after a crash."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from agent.adoption import differences, offered
from agent.adoptions import Adoptions
from agent.execution import Execution
from agent.journal import Journal
from agent.ledger import Ledger
from agent.model import (
    AdoptionWish,
    Assignment,
    ContainerSpec,
    ContainerState,
    Content,
    DesiredState,
    HealthCheck,
    Mount,
    Phase,
    PortMapping,
)
from agent.observation import Observation
from agent.planner import next_step
from agent.runtimes import LABEL_ADOPT, LABEL_HOST, Adoption, ContainerOrder, EngineRefused, Stranger
from agent.runtimes.memory import MemoryContainer, MemoryEngine, MemoryRuntimeDriver
from agent.steps import AdoptContainer, CreateContainer, FetchContents, PullImage, Step
from common.clock import SystemClock
from common.digest import Digest
from tests.agent.lab import FakeSource, Lab
from tests.agent.samples import INSTANCE, SLEEPER, assignment, noise, sample

SAMPLE = sample(noise(50_000, "adopted layer"))
MANIFEST = SAMPLE.image.manifest.digest
NEWER = sample(noise(50_000, "adopted newer layer"), tag="1.5")
NAMED = assignment(SAMPLE.image, adopt=AdoptionWish("web"))
REPLACED = assignment(SAMPLE.image, adopt=AdoptionWish("web", recreate=True))
INVITED = assignment(SAMPLE.image)
HELD = frozenset(content.digest for content in SAMPLE.image.everything)
FITS = Stranger("f" * 64, "web", ContainerState.RUNNING, frozenset({MANIFEST}), SLEEPER)
OTHER_IMAGE = dataclasses.replace(FITS, manifests=frozenset({Digest.of(b"another")}))
INVITES = dataclasses.replace(FITS, labels={LABEL_ADOPT: "acme/web"})
READY = Observation(held=HELD, images=frozenset({MANIFEST}), containers=())


def seen(*strangers: Stranger, **changes: object) -> Observation:
    return dataclasses.replace(READY, strangers=strangers, **changes)  # type: ignore[arg-type]


ADOPT = AdoptContainer(FITS.runtime_id, 1, NAMED.spec_hash)
CREATE = CreateContainer(NAMED)


@pytest.mark.parametrize(
    ("wanted", "observation", "step"),
    [
        (NAMED, seen(FITS), ADOPT),
        (NAMED, seen(FITS, held=frozenset(), images=frozenset()), ADOPT),
        (assignment(SAMPLE.image, adopt=AdoptionWish("f" * 12)), seen(FITS), ADOPT),
        (INVITED, seen(INVITES), ADOPT),
        (INVITED, seen(FITS), CreateContainer(INVITED)),
        (INVITED, seen(dataclasses.replace(FITS, labels={LABEL_ADOPT: "acme/other"})), CreateContainer(INVITED)),
        (NAMED, seen(OTHER_IMAGE), None),
        (NAMED, seen(), None),
        (NAMED, seen(adopted_once=frozenset({INSTANCE})), CREATE),
        (REPLACED, seen(OTHER_IMAGE), AdoptContainer(FITS.runtime_id, 1, "")),
        (REPLACED, seen(OTHER_IMAGE, images=frozenset()), PullImage("acme/web", MANIFEST)),
        (NAMED, dataclasses.replace(seen(FITS), containers=None), None),
        (assignment(SAMPLE.image, DesiredState.HELD, adopt=AdoptionWish("web")), seen(FITS), None),
        (assignment(SAMPLE.image, DesiredState.PAUSED, adopt=AdoptionWish("web")), seen(FITS), ADOPT),
    ],
)
def test_what_is_done_about_a_container_that_may_be_adopted(
    wanted: Assignment, observation: Observation, step: object
) -> None:
    assert next_step(wanted, observation) == step


def test_before_one_that_does_not_fit_is_adopted_its_successor_can_be_made() -> None:
    step = next_step(REPLACED, seen(OTHER_IMAGE, held=frozenset(), images=frozenset()))
    assert isinstance(step, FetchContents)


@pytest.mark.parametrize(
    ("wished", "found", "said"),
    [
        ({}, {}, ()),
        ({}, {"environment": {"MORE": "1"}, "labels": {"more": "1"}, "stop_grace_seconds": 99}, ()),
        ({"environment": {"A": "secret"}}, {"environment": {"A": "other"}}, ("environment (A)",)),
        ({"labels": {"a": "1"}}, {}, ("labels (a)",)),
        ({"memory_bytes": 5}, {"memory_bytes": 7}, ("memory_bytes (it has 7)",)),
        ({"cpus": 1.0}, {}, ("cpus (it has none)",)),
        ({}, {"privileged": True}, ("privileged (it has True)",)),
        ({"ports": (PortMapping("", 80, 80),)}, {"ports": (PortMapping("127.0.0.1", 80, 80, "tcp"),)}, ()),
        ({}, {"ports": (PortMapping("0.0.0.0", 80, 80),)}, ("ports (it has 0.0.0.0:80:80/tcp)",)),
        ({"mounts": (Mount("v", "/a/"),)}, {"mounts": (Mount("v", "/a"),)}, ()),
        ({"mounts": (Mount("v", "/a"),)}, {"mounts": (Mount("w", "/a", True),)}, ("mounts (it has w:/a:ro)",)),
        ({"health_check": HealthCheck(("true",))}, {}, ("health_check (it has none)",)),
    ],
)
def test_what_differs_is_said_without_the_values_of_variables(
    wished: Mapping[str, object], found: Mapping[str, object], said: tuple[str, ...]
) -> None:
    wanted = assignment(SAMPLE.image, container=dataclasses.replace(SLEEPER, **wished))  # type: ignore[arg-type]
    stranger = dataclasses.replace(FITS, spec=dataclasses.replace(SLEEPER, **found))  # type: ignore[arg-type]
    assert differences(wanted, stranger) == said


def test_of_several_that_invite_one_that_runs_is_taken() -> None:
    stands = dataclasses.replace(INVITES, runtime_id="0" * 64, state=ContainerState.EXITED)
    offer = offered(INVITED, seen(stands, INVITES))
    assert offer is not None
    assert offer.stranger == INVITES


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with FakeSource() as centre:
        for one in (SAMPLE, NEWER):
            centre.hold(*one.bytes_of.values())
        yield Lab(tmp_path, centre)


def offer(engine: MemoryEngine, spec: ContainerSpec = SLEEPER, **labels: str) -> str:
    """Somebody's container, running."""
    order = ContainerOrder("web", "", 0, "", MANIFEST, spec)
    engine.images.add(MANIFEST)
    engine.put(MemoryContainer("theirs", order, labels, ContainerState.RUNNING, starts=1, beyond=("CapAdd",)))
    return "theirs"


async def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  an engine is looked at, it cannot be awaited
            await asyncio.sleep(0.005)


async def test_a_container_that_fits_is_taken_as_it_is(lab: Lab) -> None:
    theirs = offer(lab.engine)
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(NAMED)
        report = await agent.until(INSTANCE, Phase.RUNNING)
        assert report.runtime_id == theirs
        assert list(lab.engine.containers) == [theirs]
        assert lab.engine.containers[theirs].starts == 1, "it was not started again"


async def test_an_agent_that_comes_back_knows_what_it_adopted_and_what_it_did_not(lab: Lab) -> None:
    theirs = offer(lab.engine)
    lab.engine.put(MemoryContainer("foreign", ContainerOrder("db", "", 0, "", MANIFEST), {}, ContainerState.RUNNING))
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(NAMED)
        await agent.until(INSTANCE, Phase.RUNNING)
    lab.engine.kill_everything()
    async with lab.open() as agent:
        agent.reconcile()
        await eventually(lambda: lab.engine.containers[theirs].state is ContainerState.RUNNING)
        await agent.assign()
        await eventually(lambda: list(lab.engine.containers) == ["foreign"])
        await eventually(lambda: not agent.adoptions.instances)
    assert lab.engine.containers["foreign"].starts == 0


async def test_what_differs_is_reported_and_nothing_is_touched(lab: Lab) -> None:
    theirs = offer(lab.engine, dataclasses.replace(SLEEPER, memory_bytes=64 << 20))
    before = lab.engine.containers[theirs]
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(NAMED)
        report = await agent.until(INSTANCE, Phase.FAILED)
        assert "container web" in report.detail
        assert "memory_bytes (it has 67108864)" in report.detail
        assert lab.engine.containers == {theirs: before}
        await agent.assign(assignment(SAMPLE.image, adopt=AdoptionWish("nobody"), generation=2))
        await eventually(lambda: "no container nobody" in agent.told()[INSTANCE].detail)
        assert lab.engine.containers == {theirs: before}


async def test_one_that_does_not_fit_is_replaced_where_that_is_wished(lab: Lab) -> None:
    offer(lab.engine, dataclasses.replace(SLEEPER, memory_bytes=64 << 20))
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(REPLACED)
        await agent.until(INSTANCE, Phase.RUNNING)
        (container,) = lab.engine.containers.values()
        assert container.labels[LABEL_HOST]
        assert container.beyond == ("CapAdd",), "it took over what no specification names"
        newer = dataclasses.replace(REPLACED, image=NEWER.image, generation=2)
        await agent.assign(newer)
        await eventually(lambda: [one.order.manifest for one in lab.engine.running(INSTANCE)] == [MANIFEST_OF_NEWER])
        await eventually(lambda: len(lab.engine.containers) == 1)
        assert lab.engine.running(INSTANCE)[0].beyond == ("CapAdd",)


MANIFEST_OF_NEWER = NEWER.image.manifest.digest


async def test_a_replacement_that_does_not_stay_up_leaves_the_adopted_one_running(lab: Lab) -> None:
    theirs = offer(lab.engine, dataclasses.replace(SLEEPER, memory_bytes=64 << 20))
    lab.engine.crash.add(REPLACED.spec_hash)
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(REPLACED)
        await agent.until(INSTANCE, Phase.FAILED)
        await eventually(lambda: lab.engine.containers[theirs].state is ContainerState.RUNNING)


async def test_one_that_was_adopted_and_is_gone_is_made_anew(lab: Lab) -> None:
    theirs = offer(lab.engine)
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(NAMED)
        await agent.until(INSTANCE, Phase.RUNNING)
        lab.engine.forget(theirs)
        await eventually(lambda: len(lab.engine.running(INSTANCE)) == 1)


async def test_paused_stands_still_until_it_is_wanted_running(lab: Lab) -> None:
    wanted = assignment(SAMPLE.image, DesiredState.PAUSED)
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted)
        await agent.until(INSTANCE, Phase.PAUSED)
        (container,) = lab.engine.containers.values()
        assert container.state is ContainerState.PAUSED
        await agent.assign(assignment(SAMPLE.image, generation=2))
        await agent.until(INSTANCE, Phase.RUNNING)
        await agent.assign(dataclasses.replace(wanted, generation=3))
        await agent.until(INSTANCE, Phase.PAUSED)
        assert list(lab.engine.containers) == [container.runtime_id]


async def test_one_container_becomes_one_instance(lab: Lab) -> None:
    theirs = offer(lab.engine)
    other = dataclasses.replace(NAMED, instance_id=INSTANCE.replace("dead", "cafe"), name="second")
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(NAMED)
        await agent.until(INSTANCE, Phase.RUNNING)
        await agent.assign(NAMED, other)
        report = await agent.until(other.instance_id, Phase.FAILED)
        assert "no container web of nobody" in report.detail
        with pytest.raises(EngineRefused):
            await agent.adoptions.adopt(theirs, Adoption(other.instance_id, 1, ""))
        assert agent.told()[INSTANCE].phase is Phase.RUNNING


async def test_what_is_adopted_while_the_engine_is_looked_at_is_not_forgotten(tmp_path: Path) -> None:
    driver = MemoryRuntimeDriver(MemoryEngine(), "host-1")
    adoptions = await Adoptions.opened(Journal(tmp_path), lambda: driver)
    claimed = adoptions.claim()
    await adoptions.adopt("new", Adoption(INSTANCE, 1, "spec"))
    await adoptions.tidy(claimed, (), [INSTANCE])
    assert adoptions.claim() == {"new"}
    again = await Adoptions.opened(Journal(tmp_path), lambda: driver)
    assert again.claim() == {"new"}
    await again.tidy({"new"}, (), [])
    assert again.claim() == frozenset()
    assert again.instances == frozenset()


@pytest.mark.parametrize("crash_after", range(9))
async def test_a_crash_after_any_step_of_an_adoption_ends_with_one_container_and_all_of_its_settings(
    crash_after: int, tmp_path: Path
) -> None:
    """What the agent knew is gone but for its journal; once the engine's containers stand still too."""
    for engine_too in (False, True):
        engine = MemoryEngine()
        offer(engine, dataclasses.replace(SLEEPER, memory_bytes=64 << 20))
        foreign = MemoryContainer("db", ContainerOrder("db", "", 0, "", MANIFEST), {}, ContainerState.EXITED)
        engine.put(foreign)
        journal = Journal(tmp_path / str(engine_too))
        for killed in (True, False):
            driver = MemoryRuntimeDriver(engine, "host-1")
            adoptions = await Adoptions.opened(journal, lambda driver=driver: driver)  # type: ignore[misc]
            for _ in range(crash_after if killed else 30):
                if (step := next_step(REPLACED, await look(driver, adoptions))) is None:
                    break
                await carry_out(driver, adoptions, journal, step)
                assert len(engine.running(INSTANCE)) <= 1
            if killed and engine_too:
                engine.kill_everything()
        (only,) = (one for one in engine.containers.values() if one is not foreign)
        assert (only.order.spec_hash, only.state) == (REPLACED.spec_hash, ContainerState.RUNNING)
        assert only.beyond == ("CapAdd",)


async def look(driver: MemoryRuntimeDriver, adoptions: Adoptions) -> Observation:
    claimed = adoptions.claim()
    containers = tuple(await driver.containers())
    await adoptions.tidy(claimed, containers, [INSTANCE])
    return dataclasses.replace(
        READY,
        containers=containers,
        strangers=tuple(await driver.strangers(["web"])),
        adopted_once=adoptions.instances,
    )


async def carry_out(driver: MemoryRuntimeDriver, adoptions: Adoptions, journal: Journal, step: Step) -> None:
    execution = Execution(lambda: driver, NoFetcher(), Ledger(journal, SystemClock()), adoptions=adoptions)
    await execution.carry_out(INSTANCE, step)


class NoFetcher:
    async def fetch(self, content: Content, tenant_id: str) -> None:
        raise AssertionError("everything is held")

    def held_bytes(self, content: Content, tenant_id: str) -> int:
        return 0
