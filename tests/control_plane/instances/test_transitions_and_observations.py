from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.digest import Digest
from control_plane.instances.model import (
    DesiredState,
    Health,
    ImageContent,
    Instance,
    InstanceImage,
    InstanceSpec,
    Phase,
    PortMapping,
    Status,
)
from control_plane.instances.observations import Effect, Observation, effect_of, status_after
from control_plane.instances.transitions import (
    InstanceBeingRemoved,
    InstanceDiffers,
    asked_again,
    paused,
    removed,
    restarted,
    resumed,
    started,
    stopped,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
IMAGE = InstanceImage("acme/web:1", "acme/web", "1", ImageContent(Digest.of(b"m"), 1, "m"), ())


def instance(state: DesiredState = DesiredState.RUNNING, generation: int = 1) -> Instance:
    return Instance("i", "t", "acme", "h", "e", "web", IMAGE, InstanceSpec(), state, generation, 0, NOW, NOW)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (DesiredState.RUNNING, started, DesiredState.RUNNING),
        (DesiredState.STOPPED, started, DesiredState.RUNNING),
        (DesiredState.HELD, started, DesiredState.RUNNING),
        (DesiredState.RUNNING, stopped, DesiredState.STOPPED),
        (DesiredState.STOPPED, stopped, DesiredState.STOPPED),
        (DesiredState.HELD, stopped, DesiredState.HELD),
        (DesiredState.STOPPED, restarted, DesiredState.RUNNING),
        (DesiredState.HELD, restarted, DesiredState.RUNNING),
        (DesiredState.RUNNING, paused, DesiredState.PAUSED),
        (DesiredState.STOPPED, paused, DesiredState.PAUSED),
        (DesiredState.PAUSED, resumed, DesiredState.RUNNING),
        (DesiredState.STOPPED, resumed, DesiredState.STOPPED),
        (DesiredState.PAUSED, started, DesiredState.RUNNING),
        (DesiredState.PAUSED, stopped, DesiredState.STOPPED),
        (DesiredState.RUNNING, removed, DesiredState.REMOVED),
        (DesiredState.HELD, removed, DesiredState.REMOVED),
        (DesiredState.REMOVED, removed, DesiredState.REMOVED),
    ],
)
def test_each_verb_leads_where_it_says(before: DesiredState, change, after: DesiredState) -> None:
    changed = change(instance(before), LATER)
    assert changed.desired_state is after
    assert changed.generation == (1 if before is after else 2)
    assert changed.restart_nonce == 0


def test_each_restart_of_a_running_instance_is_one_more() -> None:
    again = restarted(restarted(instance(), LATER), LATER)
    assert (again.restart_nonce, again.generation, again.desired_state) == (2, 3, DesiredState.RUNNING)


def test_a_paused_instance_that_is_restarted_runs() -> None:
    again = restarted(instance(DesiredState.PAUSED), LATER)
    assert (again.restart_nonce, again.generation, again.desired_state) == (1, 2, DesiredState.RUNNING)


@pytest.mark.parametrize("change", [started, stopped, restarted, paused])
def test_what_is_being_removed_takes_no_other_wish(change) -> None:
    with pytest.raises(InstanceBeingRemoved):
        change(instance(DesiredState.REMOVED), LATER)


def test_asking_for_the_same_again_changes_nothing() -> None:
    assert asked_again(instance(), IMAGE, InstanceSpec(), DesiredState.RUNNING, LATER) == instance()


def test_a_held_instance_can_be_asked_to_run() -> None:
    changed = asked_again(instance(DesiredState.HELD), IMAGE, InstanceSpec(), DesiredState.RUNNING, LATER)
    assert (changed.desired_state, changed.generation) == (DesiredState.RUNNING, 2)


@pytest.mark.parametrize(
    ("image", "spec", "field"),
    [
        (replace(IMAGE, reference="acme/web:2"), InstanceSpec(), "image"),
        (replace(IMAGE, manifest=ImageContent(Digest.of(b"moved"), 1, "m")), InstanceSpec(), "digest"),
        (IMAGE, InstanceSpec(cpus=1), "cpus"),
        (IMAGE, InstanceSpec(ports=(PortMapping(80),)), "ports"),
        (IMAGE, InstanceSpec(environment={"A": "1"}), "environment"),
    ],
)
def test_another_specification_is_a_conflict_that_names_the_field(
    image: InstanceImage, spec: InstanceSpec, field: str
) -> None:
    with pytest.raises(InstanceDiffers) as conflict:
        asked_again(instance(), image, spec, DesiredState.RUNNING, LATER)
    assert conflict.value.facts["field"] == field


observations = st.builds(
    Observation,
    st.just("i"),
    st.integers(0, 12),
    st.sampled_from(Phase),
    st.sampled_from(Health),
    st.sampled_from(["", "no room"]),
)
verbs = st.sampled_from([started, stopped, restarted, removed])


@given(st.lists(st.one_of(observations, verbs), max_size=40))
def test_generations_only_grow_and_no_older_report_overwrites(steps: list[object]) -> None:
    wanted, known = instance(), Status()
    for step in steps:
        generation, observed = wanted.generation, known.observed_generation
        if isinstance(step, Observation):
            effect = effect_of(step, wanted.wish, known)
            if effect is Effect.GONE:
                assert wanted.desired_state is DesiredState.REMOVED
                assert (step.generation, step.phase) == (wanted.generation, Phase.REMOVED)
                return
            if effect is Effect.CHANGED:
                known = status_after(step, NOW)
            else:
                unbelieved = not max(observed, 1) <= step.generation <= generation
                assert unbelieved or status_after(step, NOW) == known
        else:
            try:
                wanted = step(wanted, LATER)  # type: ignore[operator]
            except InstanceBeingRemoved:
                assert wanted.desired_state is DesiredState.REMOVED
        assert generation <= wanted.generation <= generation + 1
        assert observed <= known.observed_generation <= wanted.generation


def test_a_removal_that_an_older_generation_speaks_of_is_not_the_end() -> None:
    wanted = instance(DesiredState.REMOVED, generation=3)
    report = Observation("i", 2, Phase.REMOVED, Health.NONE)
    assert effect_of(report, wanted.wish, Status()) is Effect.CHANGED


def test_a_generation_that_was_never_given_out_is_not_believed() -> None:
    assert effect_of(Observation("i", 2, Phase.RUNNING, Health.NONE), instance().wish, Status()) is Effect.NOTHING
