from __future__ import annotations

import pytest

from agent.conditions import report_of
from agent.health import verdict
from agent.model import Container, ContainerState, DesiredState, Health, Phase
from agent.observation import Observation
from agent.steps import FetchContents, PullImage
from common.digest import Digest
from tests.agent.samples import INSTANCE, assignment, sample

IMAGE = sample(b"layer").image
WISHED = assignment(IMAGE)
STEP = PullImage("acme/web", IMAGE.manifest.digest)

HELD = frozenset(one.digest for one in IMAGE.everything)


def one(state: ContainerState, **changes: object) -> Container:
    return Container("id", "name", INSTANCE, 1, WISHED.spec_hash, state, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("container", "phase", "said"),
    [
        (one(ContainerState.RUNNING, health=Health.HEALTHY), Phase.RUNNING, ""),
        (one(ContainerState.RUNNING, health=Health.UNHEALTHY, detail="refused"), Phase.RUNNING, "refused"),
        (one(ContainerState.PAUSED), Phase.PAUSED, ""),
        (one(ContainerState.CREATED), Phase.CREATING, ""),
        (one(ContainerState.EXITED, exit_code=137, detail="it used more memory"), Phase.FAILED, "code 137: it used"),
        (one(ContainerState.RESTARTING, exit_code=1, restart_count=4), Phase.FAILED, "after 4 restarts"),
        (one(ContainerState.DEAD), Phase.FAILED, "could not remove"),
    ],
)
def test_the_verdict_on_a_container(container: Container, phase: Phase, said: str) -> None:
    found = verdict(container, wanted=True)
    assert found.phase is phase
    assert said in found.detail


NOTHING = Observation(containers=())
READY = Observation(held=HELD, containers=())
FETCHING = FetchContents("tenant-1", IMAGE.everything)
NO_ENGINE = Observation(held=HELD, has_engine=False, containers=())
OLD = Container("old", "name", INSTANCE, 1, "old spec", ContainerState.RUNNING)


def seen(*containers: Container, held: frozenset[Digest] = HELD) -> Observation:
    return Observation(held=held, containers=containers)


@pytest.mark.parametrize(
    ("desired", "observation", "doing", "failure", "phase", "said"),
    [
        (DesiredState.RUNNING, NOTHING, None, "", Phase.PENDING, ""),
        (DesiredState.RUNNING, NOTHING, FETCHING, "", Phase.FETCHING, ""),
        (DesiredState.RUNNING, NOTHING, None, "no source", Phase.FAILED, "no source"),
        (DesiredState.RUNNING, READY, STEP, "", Phase.CREATING, ""),
        (DesiredState.RUNNING, READY, None, "no such image", Phase.FAILED, "no such image"),
        (DesiredState.RUNNING, Observation(held=HELD), None, "", Phase.FAILED, "does not answer"),
        (DesiredState.RUNNING, NO_ENGINE, None, "", Phase.VERIFIED, "no container engine"),
        (DesiredState.RUNNING, seen(OLD), None, "refused", Phase.FAILED, "the previous version runs"),
        (DesiredState.RUNNING, seen(one(ContainerState.CREATED)), None, "port", Phase.FAILED, "port"),
        (DesiredState.RUNNING, seen(one(ContainerState.RUNNING), held=frozenset()), FETCHING, "", Phase.RUNNING, ""),
        (DesiredState.HELD, READY, None, "", Phase.VERIFIED, ""),
        (DesiredState.STOPPED, READY, None, "", Phase.STOPPED, ""),
        (DesiredState.STOPPED, seen(one(ContainerState.EXITED)), None, "", Phase.STOPPED, ""),
        (DesiredState.REMOVED, NOTHING, None, "", Phase.REMOVED, ""),
        (DesiredState.REMOVED, Observation(), None, "", Phase.FAILED, "does not answer"),
        (DesiredState.REMOVED, seen(one(ContainerState.EXITED)), None, "", Phase.PENDING, ""),
        (DesiredState.UNKNOWN, READY, None, "", Phase.FAILED, "update the agent"),
    ],
)
def test_what_is_reported(
    desired: DesiredState, observation: Observation, doing: object, failure: str, phase: Phase, said: str
) -> None:
    report = report_of(assignment(IMAGE, desired, generation=5), observation, doing, failure)  # type: ignore[arg-type]
    assert (report.phase, report.generation) == (phase, 5)
    assert said in report.detail
