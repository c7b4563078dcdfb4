from __future__ import annotations

from dataclasses import replace

import pytest

from agent.cut_off import CONNECTED, CutOff, held_back
from agent.model import Assignments, Container, ContainerState, DesiredState
from agent.observation import Observation
from tests.agent.samples import assignment, sample

FENCED = replace(assignment(sample(b"web").image), stop_when_cut_off_seconds=120)
RUNS = Observation(
    containers=(Container("c1", "web", FENCED.instance_id, 1, FENCED.spec_hash, ContainerState.RUNNING),)
)
STANDS = Observation(containers=())


def wanted(observation: Observation, cut_off: CutOff, one: object = FENCED) -> DesiredState:
    assignments = Assignments(1, True, {"i": replace(one, instance_id=FENCED.instance_id)})  # type: ignore[type-var]
    assignments = replace(assignments, items={FENCED.instance_id: assignments.items["i"]})
    return held_back(assignments, observation, cut_off).items[FENCED.instance_id].desired_state


@pytest.mark.parametrize(
    ("observation", "cut_off", "state"),
    [
        (RUNS, CONNECTED, DesiredState.RUNNING),
        (RUNS, CutOff(119), DesiredState.RUNNING),
        (RUNS, CutOff(120), DesiredState.STOPPED),
        (STANDS, CutOff(119), DesiredState.RUNNING),
        (RUNS, CutOff(5, heard=False), DesiredState.RUNNING),
        (STANDS, CutOff(5, heard=False), DesiredState.STOPPED),
        (STANDS, CutOff(0, heard=False), DesiredState.STOPPED),
        (RUNS, CutOff(120, heard=False), DesiredState.STOPPED),
    ],
)
def test_what_must_not_run_twice_stops_where_nobody_reaches_it(
    observation: Observation, cut_off: CutOff, state: DesiredState
) -> None:
    assert wanted(observation, cut_off) is state


def test_everything_else_goes_on_running_however_long_nobody_is_there() -> None:
    free = replace(FENCED, stop_when_cut_off_seconds=0)
    assert wanted(RUNS, CutOff(10**9), free) is DesiredState.RUNNING
    assert wanted(STANDS, CutOff(10**9, heard=False), free) is DesiredState.RUNNING


def test_what_is_to_go_goes_also_while_nobody_is_there() -> None:
    gone = replace(FENCED, desired_state=DesiredState.REMOVED)
    assert wanted(RUNS, CutOff(500), gone) is DesiredState.REMOVED
