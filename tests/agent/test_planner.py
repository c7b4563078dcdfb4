from __future__ import annotations

import asyncio
import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.execution import Execution
from agent.journal import Journal
from agent.ledger import Ledger
from agent.model import (
    LIVE_STATES,
    Assignment,
    Assignments,
    Container,
    ContainerSpec,
    ContainerState,
    Content,
    DesiredState,
    Unreadable,
)
from agent.observation import Observation
from agent.planner import next_step, plan
from agent.runtimes import ContainerOrder, EngineRefused, labels_of
from agent.runtimes.memory import MemoryContainer, MemoryEngine, MemoryRuntimeDriver
from agent.steps import (
    CreateContainer,
    FetchContents,
    PauseContainer,
    PullAhead,
    PullImage,
    RemoveContainer,
    RenameContainer,
    RestartContainer,
    ResumeContainer,
    StartContainer,
    Step,
    StopContainer,
)
from common.clock import SystemClock
from common.digest import Digest
from tests.agent.samples import INSTANCE, assignment, assignments, sample

IMAGE = sample(b"layer").image
WISHED = assignment(IMAGE)
HELD = frozenset(content.digest for content in IMAGE.everything)
PULLED = frozenset({IMAGE.manifest.digest})
NAME = WISHED.container_name
READY = Observation(held=HELD, images=PULLED, containers=())


def container(state: ContainerState, spec: str = WISHED.spec_hash, **changes: object) -> Container:
    made = Container("id-1", NAME, INSTANCE, 1, spec, state, stop_grace_seconds=1)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


RUNNING = container(ContainerState.RUNNING)
EXITED = container(ContainerState.EXITED)
OLD_RUNNING = container(ContainerState.RUNNING, "old", runtime_id="id-old")
OLD_EXITED = container(ContainerState.EXITED, "old", runtime_id="id-old")
OLD_ASIDE = dataclasses.replace(OLD_EXITED, name=f"{NAME}.old-id-old")


def seen(*containers: Container, **changes: object) -> Observation:
    return dataclasses.replace(READY, containers=containers, **changes)  # type: ignore[arg-type]


def start(one: Container, nonce: int = 0) -> StartContainer:
    return StartContainer(one.runtime_id, one.spec_hash, nonce)


CREATED = container(ContainerState.CREATED)
HALF_MADE = container(ContainerState.CREATED, unfinished=True)
RESTARTED = dataclasses.replace(WISHED, restart_nonce=2)
STOPPED = assignment(IMAGE, DesiredState.STOPPED)
ONLY_HELD = assignment(IMAGE, DesiredState.HELD)
REMOVED = assignment(IMAGE, DesiredState.REMOVED)
PAUSED = assignment(IMAGE, DesiredState.PAUSED)
STANDING = container(ContainerState.PAUSED)
NOTHING = Observation(containers=())
REFUSED = {INSTANCE: WISHED.spec_hash}
FETCH_ALL = FetchContents("tenant-1", IMAGE.everything)
FETCH_MANIFEST = FetchContents("tenant-1", (IMAGE.manifest,))
AHEAD = PullAhead("acme/web", IMAGE.manifest.digest, (IMAGE.manifest, IMAGE.contents[0]))
PULL = PullImage("acme/web", IMAGE.manifest.digest)

CASES: list[tuple[str, Assignment, Observation, Step | None]] = [
    ("nothing is here", WISHED, NOTHING, dataclasses.replace(FETCH_ALL, ahead=AHEAD)),
    ("a host without an engine only fetches", WISHED, Observation(has_engine=False, containers=()), FETCH_ALL),
    ("nothing runs before all is verified", WISHED, Observation(containers=(), images=PULLED), FETCH_ALL),
    ("one is missing", WISHED, seen(held=HELD - PULLED), FETCH_MANIFEST),
    ("content is fetched while the engine is away", WISHED, Observation(), FETCH_ALL),
    ("the engine is away", WISHED, dataclasses.replace(READY, containers=None), None),
    ("there is no engine", WISHED, seen(has_engine=False), None),
    ("the image is to be pulled", WISHED, seen(images=frozenset()), PULL),
    ("everything is ready", WISHED, READY, CreateContainer(WISHED)),
    ("it was created", WISHED, seen(CREATED), start(RUNNING)),
    ("it exited", WISHED, seen(EXITED), start(EXITED)),
    ("it starts before its lost content is fetched", WISHED, seen(EXITED, held=frozenset()), start(EXITED)),
    ("it runs", WISHED, seen(RUNNING), None),
    ("lost content is fetched beside it", WISHED, seen(RUNNING, held=HELD - PULLED), FETCH_MANIFEST),
    ("the engine restarts it", WISHED, seen(container(ContainerState.RESTARTING)), None),
    ("the engine could not remove it", WISHED, seen(container(ContainerState.DEAD)), RemoveContainer("id-1")),
    ("what was never made to the end is made again", WISHED, seen(HALF_MADE), RemoveContainer("id-1")),
    ("a refused spec waits", WISHED, seen(EXITED, refused=REFUSED), None),
    ("a restart is asked for", RESTARTED, seen(RUNNING, restarts={INSTANCE: 1}), RestartContainer("id-1", 1, 2)),
    ("a restart was honoured", RESTARTED, seen(RUNNING, restarts={INSTANCE: 2}), None),
    ("restarts before our time are no business of ours", RESTARTED, seen(RUNNING), None),
    ("a start honours a restart", RESTARTED, seen(EXITED, restarts={INSTANCE: 1}), start(EXITED, 2)),
    (
        "two of them run",
        WISHED,
        seen(RUNNING, dataclasses.replace(RUNNING, runtime_id="id-2")),
        StopContainer("id-2", 1),
    ),
    ("the old one runs until the image is there", WISHED, seen(OLD_RUNNING, images=frozenset()), PULL),
    ("then it stops", WISHED, seen(OLD_RUNNING), StopContainer("id-old", 1)),
    ("then it is put aside", WISHED, seen(OLD_EXITED), RenameContainer("id-old", f"{NAME}.old-id-old")),
    ("then the new one is created", WISHED, seen(OLD_ASIDE), CreateContainer(WISHED)),
    ("then it starts", WISHED, seen(OLD_ASIDE, CREATED), start(RUNNING)),
    ("half made, it is no refusal", WISHED, seen(OLD_ASIDE, HALF_MADE), RemoveContainer("id-1")),
    ("then the old one goes", WISHED, seen(OLD_ASIDE, RUNNING), RemoveContainer("id-old")),
    ("the new one did not stay up", WISHED, seen(OLD_ASIDE, EXITED), RemoveContainer("id-1", WISHED.spec_hash)),
    (
        "the new one restarts again and again",
        WISHED,
        seen(OLD_ASIDE, dataclasses.replace(RUNNING, restart_count=1)),
        StopContainer("id-1", 1),
    ),
    (
        "the new one was refused",
        WISHED,
        seen(OLD_ASIDE, CREATED, refused=REFUSED),
        RemoveContainer("id-1", WISHED.spec_hash),
    ),
    ("the old one comes back", WISHED, seen(OLD_ASIDE, refused=REFUSED), start(OLD_ASIDE)),
    ("and stays", WISHED, seen(OLD_RUNNING, refused=REFUSED), None),
    ("stop what runs", STOPPED, seen(RUNNING), StopContainer("id-1", 1)),
    ("stopped, half way through a change", STOPPED, seen(OLD_ASIDE, EXITED), RemoveContainer("id-old")),
    ("stopped stays", STOPPED, seen(EXITED), None),
    ("stopped keeps an old one", STOPPED, seen(OLD_EXITED), None),
    ("stopped holds its content", STOPPED, NOTHING, FETCH_ALL),
    ("held runs nothing", ONLY_HELD, seen(RUNNING), StopContainer("id-1", 1)),
    ("held keeps no container", ONLY_HELD, seen(EXITED), RemoveContainer("id-1")),
    ("held fetches", ONLY_HELD, NOTHING, FETCH_ALL),
    ("held is held", ONLY_HELD, READY, None),
    ("removed stops first", REMOVED, seen(RUNNING), StopContainer("id-1", 1)),
    ("removed removes", REMOVED, seen(EXITED), RemoveContainer("id-1")),
    ("removed fetches nothing", REMOVED, NOTHING, None),
    ("paused is created first", PAUSED, READY, CreateContainer(PAUSED)),
    ("paused starts before it stands still", PAUSED, seen(CREATED), start(RUNNING)),
    ("then it stands still", PAUSED, seen(RUNNING), PauseContainer("id-1")),
    ("paused stays", PAUSED, seen(STANDING), None),
    ("what stands still goes on", WISHED, seen(STANDING), ResumeContainer("id-1")),
    ("what stands still is stopped", STOPPED, seen(STANDING), StopContainer("id-1", 1)),
    ("a word of the future", assignment(IMAGE, DesiredState.UNKNOWN), seen(RUNNING, OLD_RUNNING), None),
]


@pytest.mark.parametrize(
    ("wanted", "observation", "step"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_next_step(wanted: Assignment, observation: Observation, step: Step | None) -> None:
    assert next_step(wanted, observation) == step


def test_what_is_not_assigned_is_removed() -> None:
    assert plan(assignments(), seen(EXITED)) == {INSTANCE: RemoveContainer("id-1")}


def test_before_a_full_set_was_ever_received_nothing_is_removed() -> None:
    assert plan(Assignments(), seen(EXITED, RUNNING)) == {}


def test_an_unreadable_assignment_keeps_its_container() -> None:
    unreadable = Assignments(1, True, {}, {INSTANCE: Unreadable(1, "newer than this agent")})
    assert plan(unreadable, seen(RUNNING)) == {}


def test_instances_that_need_nothing_are_absent() -> None:
    assert plan(assignments(WISHED), seen(RUNNING)) == {}


# From anywhere, the plan leads to what is wanted ------------------------------------------------------------------

HOST = "host-1"
SPECS = (WISHED.spec_hash, "older", "oldest")
STATES = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.EXITED, ContainerState.PAUSED)


class AllFetched:
    def __init__(self) -> None:
        self.held: set[Digest] = set()

    async def fetch(self, content: Content, tenant_id: str) -> None:
        self.held.add(content.digest)

    def held_bytes(self, content: Content, tenant_id: str) -> int:
        return 0


class World:
    """A memory engine with any past, and the loop that a reconciler is, without its waiting."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.fetcher = AllFetched()
        self.driver = MemoryRuntimeDriver(self.engine, HOST)
        self.ledger = _ForgetfulLedger()
        self.execution = Execution(lambda: self.driver, self.fetcher, self.ledger)
        self.refused: dict[str, str] = {}

    def add(self, host: str, spec: str, state: ContainerState, name: str) -> None:
        order = ContainerOrder(name, INSTANCE, 1, spec, IMAGE.manifest.digest, ContainerSpec())
        key = f"memory{next(self.engine.numbers):058d}"
        self.engine.containers[key] = MemoryContainer(key, order, dict(labels_of(order, host)), state)

    async def observe(self) -> Observation:
        return Observation(
            held=frozenset(self.fetcher.held),
            containers=tuple(await self.driver.containers()),
            images=frozenset(self.engine.images),
            restarts=self.ledger.restarts,
            refused=self.refused,
        )

    async def settle(self, wanted: Assignments, rounds: int = 40) -> int:
        most_running = 0
        for _ in range(rounds):
            steps = plan(wanted, await self.observe())
            if not steps:
                return most_running
            for instance_id, step in steps.items():
                await self.apply(instance_id, step)
            most_running = max(most_running, len(self.engine.running(INSTANCE)))
        raise AssertionError(f"no rest after {rounds} rounds; next: {steps}")

    async def apply(self, instance_id: str, step: Step) -> None:
        if isinstance(step, RemoveContainer) and step.refused_spec:
            self.refused[instance_id] = step.refused_spec
        try:
            await self.execution.carry_out(instance_id, step)
        except EngineRefused:
            assert isinstance(step, StartContainer)
            self.refused[instance_id] = step.spec_hash


class _ForgetfulLedger(Ledger):
    def __init__(self) -> None:
        super().__init__(Journal(Path("never-written")), SystemClock())

    async def flush(self) -> None:
        return


pasts = st.lists(st.tuples(st.sampled_from(SPECS), st.sampled_from(STATES)), max_size=4)
others = st.lists(st.sampled_from(STATES), max_size=3)
wishes = st.sampled_from([one for one in DesiredState if one is not DesiredState.UNKNOWN])
RUNS = (DesiredState.RUNNING, DesiredState.PAUSED)


@settings(max_examples=300, deadline=None)
@given(past=pasts, foreign=others, wish=wishes, absent=st.booleans(), trouble=st.sampled_from(["", "refuse", "crash"]))
def test_from_any_past_the_plan_reaches_what_is_wanted_and_touches_nothing_foreign(
    past: list[tuple[str, ContainerState]],
    foreign: list[ContainerState],
    wish: DesiredState,
    absent: bool,
    trouble: str,
) -> None:
    async def scenario() -> None:
        world = World()
        for number, (spec, state) in enumerate(past):
            world.add(HOST, spec, state, NAME if number == 0 else f"{NAME}.left-{number}")
        for number, state in enumerate(foreign):
            world.add("another-host", WISHED.spec_hash, state, f"foreign-{number}")
        if trouble:
            getattr(world.engine, trouble).add(WISHED.spec_hash)
        before = {key: one for key, one in world.engine.containers.items() if one.order.name.startswith("foreign")}
        initially = sum(spec_state[1] is ContainerState.RUNNING for spec_state in past)
        foreign_running = sum(state is ContainerState.RUNNING for state in foreign)
        wanted = assignments() if absent else assignments(assignment(IMAGE, wish))
        if trouble and wish in RUNS and not absent:
            await settle_in_trouble(world, wanted)
        else:
            for _ in range(2):  # a stopped successor beside its predecessor counts as failed until its delay is over
                most = await world.settle(wanted)
                assert most <= max(1, initially) + foreign_running
                world.refused.clear()
        ours = list(await world.driver.containers())
        as_wished = ContainerState.PAUSED if wish is DesiredState.PAUSED else ContainerState.RUNNING
        running = [one for one in ours if one.state is as_wished]
        after = {key: one for key, one in world.engine.containers.items() if one.order.name.startswith("foreign")}
        assert after == before
        if absent or wish in (DesiredState.HELD, DesiredState.REMOVED):
            assert ours == []
        elif wish is DesiredState.STOPPED:
            assert [one for one in ours if one.state in LIVE_STATES] == []
            assert len(ours) <= 1
        elif not trouble:
            assert [one.spec_hash for one in ours] == [WISHED.spec_hash]
            assert [one.name for one in running] == [ours[0].name]
        else:
            survivors = [spec for spec, _ in past if spec != WISHED.spec_hash]
            assert len(running) == 1 or not survivors or running_wished_from_the_past(past)

    asyncio.run(scenario())


def running_wished_from_the_past(past: list[tuple[str, ContainerState]]) -> bool:
    return any(spec == WISHED.spec_hash for spec, _ in past)


async def settle_in_trouble(world: World, wanted: Assignments) -> None:
    """A spec that never stays up has no end of retries; what counts is where it rests while it is refused."""
    for _ in range(40):
        observation = await world.observe()
        steps = plan(wanted, observation)
        if not steps:
            return
        for instance_id, step in steps.items():
            crashed = isinstance(step, StartContainer) and step.spec_hash in world.engine.crash
            await world.apply(instance_id, step)
            if crashed and len(await world.driver.containers()) == 1:
                return  # alone and crashing: the reconciler's delay is all that stands between its starts


@pytest.mark.parametrize("crash_after", range(8))
async def test_a_crash_after_any_step_of_a_change_ends_with_one_running_container(crash_after: int) -> None:
    """The agent is killed after each step in turn, and once the engine with it; what it knew is gone."""
    for engine_too in (False, True):
        world = World()
        world.add(HOST, "older", ContainerState.RUNNING, NAME)
        world.fetcher.held.update(HELD)
        for _ in range(crash_after):
            for instance_id, step in plan(assignments(WISHED), await world.observe()).items():
                await world.apply(instance_id, step)
        world.refused.clear()
        world.ledger = _ForgetfulLedger()
        if engine_too:
            world.engine.kill_everything()
        for _ in range(3):  # a refusal that the crash faked is over after its delay
            await world.settle(assignments(WISHED))
            world.refused.clear()
        (only,) = await world.driver.containers()
        assert (only.spec_hash, only.state, only.name) == (WISHED.spec_hash, ContainerState.RUNNING, NAME)


def test_the_name_of_a_container_differs_for_instances_made_in_the_same_minute() -> None:
    twins = [dataclasses.replace(WISHED, instance_id=f"0190aaaa-0000-7000-8000-00000000000{n}") for n in range(3)]
    for one, other in itertools.combinations(twins, 2):
        assert one.container_name != other.container_name


def test_only_what_makes_a_container_different_changes_its_spec_hash() -> None:
    base = WISHED.spec_hash
    container = WISHED.container
    same = [
        dataclasses.replace(WISHED, generation=9, restart_nonce=4, desired_state=DesiredState.STOPPED),
        dataclasses.replace(WISHED, container=dataclasses.replace(container, stop_grace_seconds=77)),
    ]
    assert {one.spec_hash for one in same} == {base}
    other_image = dataclasses.replace(WISHED, image=sample(b"other").image)
    other_environment = dataclasses.replace(WISHED, container=dataclasses.replace(container, environment={"A": "1"}))
    assert len({base, other_image.spec_hash, other_environment.spec_hash}) == 3
