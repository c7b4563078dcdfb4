"""New executions and their tasks; pure but for the clock that names them."""

from __future__ import annotations

from datetime import datetime

from common.clock import Clock
from common.identifiers import new_id
from control_plane.registry.replication.model import Cause, Execution, Rule, State, Task, Work


def new_execution(clock: Clock, rule: Rule, cause: Cause) -> Execution:
    return Execution(new_id(clock), rule.rule_id, rule.tenant_id, rule.tenant, cause, State.PENDING, clock.now())


def new_task(
    clock: Clock,
    execution: Execution | str,
    rule: Rule,
    work: Work,
    repository: str = "",
    reference: str = "",
    *,
    due: datetime | None = None,
) -> Task:
    """Raises `RuleInvalid` if the repository has no name at the destination."""
    now = clock.now()
    return Task(
        task_id=new_id(clock),
        execution_id=execution if isinstance(execution, str) else execution.execution_id,
        rule_id=rule.rule_id,
        endpoint_id=rule.endpoint_id,
        work=work,
        repository=repository,
        reference=reference,
        destination=rule.naming.of(repository) if repository else "",
        state=State.PENDING,
        attempts=0,
        bytes_done=0,
        detail="",
        created_at=now,
        next_at=due or now,
    )
