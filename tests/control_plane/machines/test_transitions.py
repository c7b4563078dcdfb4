"""Whatever happens in whatever order: an installation begins at most once on one permission."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from control_plane.machines import transitions
from control_plane.machines.tasks_model import InstallTask, Step, StepPhase, TaskOver, TaskState
from control_plane.machines.transitions import OVER, Said

STEPS = (Step("os-install", "os-install", 20), Step("complete", "complete"))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NEVER_BACK = {TaskState.APPROVED: 1, TaskState.BOOTING: 2, TaskState.INSTALLING: 3}


def a_task(state: TaskState = TaskState.PENDING) -> InstallTask:
    return InstallTask(
        id="t",
        machine_id="m",
        idc_id="i",
        idc="east",
        tenant_id="",
        tenant="",
        profile_id="p",
        profile="debian",
        version=1,
        state=state,
        created_by="admin",
        created_at=BEGIN,
        since=BEGIN,
        steps=STEPS,
    )


class Tasks(RuleBasedStateMachine):
    """`permissions` counts what people allowed; each may lead to one installation."""

    def __init__(self) -> None:
        super().__init__()
        self.task = a_task()
        self.now = BEGIN
        self.intents: list[str] = []
        self.permissions = 0
        self.ended: set[str] = set()

    def _take(self, after: InstallTask) -> None:
        before, self.task = self.task, after
        if before.intent_id == after.intent_id and after.state in NEVER_BACK and before.state in NEVER_BACK:
            assert NEVER_BACK[after.state] >= NEVER_BACK[before.state]
        if before.state in OVER and not before.presumed and after.intent_id == before.intent_id:
            assert after.state is before.state
        if transitions.armed(before) and not transitions.armed(after):
            self.ended.add(before.intent_id)

    def _new_intent(self) -> str:
        self.intents.append(f"intent-{len(self.intents)}")
        return self.intents[-1]

    @rule(retries=st.integers(0, 2))
    def approve(self, retries: int) -> None:
        try:
            after = transitions.approve(self.task, "next", "admin", STEPS, self.now, HOUR, retries)
        except TaskOver:
            assert self.task.state is not TaskState.PENDING
            return
        self.permissions += 1 + retries
        self._take(replace(after, intent_id=self._new_intent()))

    @rule()
    def retry(self) -> None:
        try:
            after = transitions.retry(self.task, "next", "admin", STEPS, self.now, HOUR)
        except TaskOver:
            assert self.task.state not in (TaskState.FAILED, TaskState.CANCELLED)
            return
        self.permissions += 1
        self._take(replace(after, intent_id=self._new_intent()))

    @rule()
    def cancel(self) -> None:
        try:
            self._take(transitions.cancel(self.task, "", self.now))
        except TaskOver:
            assert self.task.state in OVER

    @rule()
    def reject(self) -> None:
        try:
            self._take(transitions.reject(self.task, "", self.now))
        except TaskOver:
            assert self.task.state is not TaskState.PENDING

    @precondition(lambda self: self.intents)
    @rule(what=st.sampled_from(Said), data=st.data())
    def regional_says(self, what: Said, data: st.DataObject) -> None:
        intent = data.draw(st.sampled_from(self.intents))
        before = self.task
        after = transitions.said(before, intent, what, "", self.now)
        if intent != before.intent_id or intent in self.ended:
            assert after == before
        self._take(after)
        if transitions.tries_again(after):
            self._take(replace(transitions.again(after, "next", STEPS, self.now, HOUR), intent_id=self._new_intent()))

    @precondition(lambda self: self.intents)
    @rule(phase=st.sampled_from(StepPhase), percent=st.integers(-5, 200), data=st.data())
    def step_says(self, phase: StepPhase, percent: int, data: st.DataObject) -> None:
        intent = data.draw(st.sampled_from(self.intents))
        known = self.task.percent
        same = intent == self.task.intent_id
        self._take(transitions.stepped(self.task, intent, "os-install", phase, percent, "", self.now))
        assert not same or self.task.percent >= known

    @rule(minutes=st.integers(1, 240))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self._take(transitions.lapsed(self.task, self.now))

    @invariant()
    def an_intent_for_each_permission_at_most(self) -> None:
        assert len(self.intents) <= self.permissions
        assert self.task.attempt == len(self.intents)

    @invariant()
    def an_intent_that_ended_is_never_given_again(self) -> None:
        if transitions.armed(self.task):
            assert self.task.intent_id not in self.ended

    @invariant()
    def what_is_over_says_when(self) -> None:
        assert (self.task.ended_at is not None) == (self.task.state in OVER)
        assert 0 <= self.task.percent <= 100


TestTasks = Tasks.TestCase
TestTasks.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_mere_presumption_is_never_tried_again_by_itself() -> None:
    task = transitions.approve(a_task(), "i-1", "admin", STEPS, BEGIN, HOUR, 3)
    lapsed = transitions.lapsed(task, BEGIN + timedelta(hours=3))
    assert (lapsed.state, lapsed.presumed, transitions.tries_again(lapsed)) == (TaskState.FAILED, True, False)


def test_the_whole_is_weighed_by_its_steps() -> None:
    task = transitions.approve(a_task(), "i-1", "admin", STEPS, BEGIN, HOUR, 0)
    task = transitions.stepped(task, "i-1", "os-install", StepPhase.RUNNING, 50, "", BEGIN)
    assert (task.state, task.percent) == (TaskState.INSTALLING, 47)
    assert transitions.said(task, "i-1", Said.COMPLETED, "", BEGIN).percent == 100
