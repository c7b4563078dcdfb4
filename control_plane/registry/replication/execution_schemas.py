"""The wire forms of executions and their tasks."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from control_plane.registry.replication.executions import Tallied
from control_plane.registry.replication.model import Cause, State, Task, Work


class ExecutionView(BaseModel):
    """`bytes_done`: what crossed the wire, repetitions too."""

    id: str
    rule_id: str
    tenant: str | None
    cause: Cause
    state: State
    created_at: datetime
    ended_at: datetime | None
    tasks: dict[State, int]
    bytes_done: int

    @classmethod
    def of(cls, tallied: Tallied) -> ExecutionView:
        execution = tallied.execution
        return cls(
            id=execution.execution_id,
            rule_id=execution.rule_id,
            tenant=execution.tenant or None,
            cause=execution.cause,
            state=execution.state,
            created_at=execution.created_at,
            ended_at=execution.ended_at,
            tasks=dict(tallied.tally.tasks),
            bytes_done=tallied.tally.bytes_done,
        )


class TaskView(BaseModel):
    """`detail`: what came of it, or why the last attempt failed."""

    id: str
    work: Work
    repository: str
    reference: str
    destination: str
    state: State
    attempts: int
    bytes_done: int
    detail: str
    created_at: datetime
    next_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, task: Task) -> TaskView:
        return cls(
            id=task.task_id,
            work=task.work,
            repository=task.repository,
            reference=task.reference,
            destination=task.destination,
            state=task.state,
            attempts=task.attempts,
            bytes_done=task.bytes_done,
            detail=task.detail,
            created_at=task.created_at,
            next_at=task.next_at,
            ended_at=task.ended_at,
        )
