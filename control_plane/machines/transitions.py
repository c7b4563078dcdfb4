"""How an install task moves; pure.

Invariants, held by a table and a state machine test: a task that is over stays over, but for a failure that was only
presumed; what machines report never moves it backwards; an intent exists exactly while the task is approved or under
way, and every approval and every further try makes a new one, so that no installation begins twice on one permission;
a report of another intent than the present one moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.machines.tasks_model import InstallTask, Step, StepPhase, TaskOver, TaskState

# How long nothing may be heard of a task beyond what its regional allows it, before it is presumed failed here: the
# regional judges first, and may be cut off from us for a while.
SILENCE = timedelta(hours=1)
# Within which an approved installation must begin, unless the approval says otherwise.
WINDOW = timedelta(days=1)

OVER = frozenset({TaskState.REJECTED, TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})
UNDER_WAY = frozenset({TaskState.BOOTING, TaskState.INSTALLING})
# Those with an intent.
ARMED = UNDER_WAY | {TaskState.APPROVED}
_RANK: Mapping[TaskState, int] = {
    TaskState.PENDING: 0,
    TaskState.APPROVED: 1,
    TaskState.BOOTING: 2,
    TaskState.INSTALLING: 3,
    TaskState.COMPLETED: 4,
    TaskState.FAILED: 4,
    TaskState.CANCELLED: 4,
    TaskState.REJECTED: 4,
}


class Said(StrEnum):
    """What a machine's regional says of an intent."""

    BOOTING = "booting"
    INSTALLING = "installing"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


_REACHES = {
    Said.BOOTING: TaskState.BOOTING,
    Said.INSTALLING: TaskState.INSTALLING,
    Said.COMPLETED: TaskState.COMPLETED,
    Said.FAILED: TaskState.FAILED,
    Said.STOPPED: TaskState.CANCELLED,
}


def armed(task: InstallTask) -> bool:
    """Whether its machine may (still) act on its intent."""
    return task.state in ARMED or task.presumed


def approve(
    task: InstallTask, intent_id: str, by: str, steps: tuple[Step, ...], now: datetime, window: timedelta, retries: int
) -> InstallTask:
    """`window`: within which it must begin. Raises `TaskOver`."""
    if task.state is not TaskState.PENDING:
        raise _refused(task, "approved", "only one that waits for approval can be; see `retry` for one that failed")
    return _armed(replace(task, approved_by=by, retries=retries), intent_id, steps, now, window)


def retry(
    task: InstallTask, intent_id: str, by: str, steps: tuple[Step, ...], now: datetime, window: timedelta
) -> InstallTask:
    """Another permission to install. Raises `TaskOver`."""
    if task.state not in (TaskState.FAILED, TaskState.CANCELLED):
        raise _refused(task, "tried again", "only one that failed or was cancelled can be")
    return _armed(replace(task, approved_by=by), intent_id, steps, now, window)


def _armed(task: InstallTask, intent_id: str, steps: tuple[Step, ...], now: datetime, window: timedelta) -> InstallTask:
    return replace(
        task,
        state=TaskState.APPROVED,
        since=now,
        attempt=task.attempt + 1,
        intent_id=intent_id,
        begun=False,
        presumed=False,
        steps=steps,
        detail="",
        begin_by=now + window,
        silent_after=now + window + SILENCE,
        ended_at=None,
    )


def reject(task: InstallTask, reason: str, now: datetime) -> InstallTask:
    """Raises `TaskOver`."""
    if task.state is not TaskState.PENDING:
        raise _refused(task, "rejected", "cancel it instead")
    return _ended(task, TaskState.REJECTED, reason, now)


def cancel(task: InstallTask, reason: str, now: datetime) -> InstallTask:
    """The same if it is cancelled already. Raises `TaskOver`."""
    if task.state is TaskState.CANCELLED:
        return task
    if task.state in OVER and not task.presumed:
        raise _refused(task, "cancelled", "it is over")
    return _ended(task, TaskState.CANCELLED, reason, now)


def said(task: InstallTask, intent_id: str, what: Said, detail: str, now: datetime) -> InstallTask:
    """What a report makes of it; the same if it says nothing new, or speaks of an older try."""
    if intent_id != task.intent_id or not armed(task):
        return task
    state = _REACHES[what]
    task = replace(task, begun=True)
    if task.presumed:
        # It was given up here, and lives: whatever it says now is the truth.
        task = replace(task, presumed=False, ended_at=None, state=TaskState.APPROVED)
    if _RANK[state] <= _RANK[task.state]:
        return task
    if state is TaskState.COMPLETED:
        steps = tuple(replace(step, phase=StepPhase.DONE, percent=100) for step in task.steps)
        return _ended(replace(task, steps=steps), state, detail, now)
    if state in OVER:
        return _ended(task, state, detail, now)
    after = replace(task, state=state, since=now, detail=detail)
    return replace(after, silent_after=now + timedelta(seconds=task.longest_seconds) + SILENCE)


def stepped(
    task: InstallTask, intent_id: str, step_id: str, phase: StepPhase, percent: int, detail: str, now: datetime
) -> InstallTask:
    """What a word of one step makes of it. Steps move forwards only; the first word of any means that it installs. A
    step that failed fails nothing by itself: its regional says what becomes of the whole.
    """
    if intent_id != task.intent_id or not armed(task) or step_id not in {step.id for step in task.steps}:
        return task
    task = said(task, intent_id, Said.INSTALLING, task.detail, now)
    steps = tuple(
        _moved(step, phase, min(100, max(0, percent)), detail, now) if step.id == step_id else step
        for step in task.steps
    )
    return replace(task, steps=steps)


_STEP_RANK = {StepPhase.WAITING: 0, StepPhase.RUNNING: 1, StepPhase.DONE: 2, StepPhase.FAILED: 2}


def _moved(step: Step, phase: StepPhase, percent: int, detail: str, now: datetime) -> Step:
    if _STEP_RANK[phase] < _STEP_RANK[step.phase] or _STEP_RANK[step.phase] == 2:
        return step
    over = _STEP_RANK[phase] == 2
    return replace(
        step,
        phase=phase,
        percent=100 if phase is StepPhase.DONE else max(step.percent, percent),
        detail=detail or step.detail,
        started_at=step.started_at or now,
        ended_at=now if over else None,
    )


def lapsed(task: InstallTask, now: datetime) -> InstallTask:
    """What time makes of it: nothing was heard for longer than its regional would have allowed."""
    if task.state not in ARMED or task.silent_after is None or now < task.silent_after:
        return task
    what = "never began" if task.state is TaskState.APPROVED else f"was {task.state.value} when it was last heard of"
    after = _ended(task, TaskState.FAILED, f"presumed: it {what}, and its regional said nothing since", now)
    return replace(after, presumed=True)


def tries_again(task: InstallTask) -> bool:
    """Whether its approval allows another try by itself. Never after a mere presumption: it may still be installing."""
    return task.state is TaskState.FAILED and not task.presumed and 0 < task.attempt <= task.retries


def again(task: InstallTask, intent_id: str, steps: tuple[Step, ...], now: datetime, window: timedelta) -> InstallTask:
    """The next of the tries that its approval allows. Raises `TaskOver`."""
    if not tries_again(task):
        raise _refused(task, "tried again", "its approval allows no further try")
    return _armed(task, intent_id, steps, now, window)


def _ended(task: InstallTask, state: TaskState, detail: str, now: datetime) -> InstallTask:
    return replace(task, state=state, since=now, detail=detail, presumed=False, ended_at=now, silent_after=None)


def _refused(task: InstallTask, verb: str, action: str) -> TaskOver:
    return TaskOver(f"the task is {task.state.value} and cannot be {verb}", action=action, state=task.state.value)
