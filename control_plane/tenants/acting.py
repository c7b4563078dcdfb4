"""Principals as the operators of the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from control_plane.audit.model import ANONYMOUS, SYSTEM, Act, Operator, OperatorKind, Outcome
from control_plane.tenants.access import Principal
from control_plane.tenants.model import User
from control_plane.web.origin import current_scope


def operator_of(principal: Principal | None) -> Operator:
    """None: whoever the current request speaks for, and the system where there is no request."""
    if principal is None:
        principal = asking(current_scope())
        if principal is None:
            return SYSTEM
    if principal.user_id is None:
        return ANONYMOUS
    kind = OperatorKind.USER if principal.robot is None else OperatorKind.ROBOT
    return Operator(kind, principal.user_id, principal.name)


def act_of(
    principal: Principal | None,
    operation: str,
    *,
    tenant: str = "",
    repository: str = "",
    digest: str = "",
    tag: str = "",
    subject: str = "",
    details: Mapping[str, Any] | None = None,
) -> Act:
    """What `principal` did, with the key that spoke for it."""
    told = dict(details or {})
    if principal is not None and principal.key_id is not None:
        told["key_id"] = principal.key_id
    return Act(operation, operator_of(principal), tenant, repository, digest, tag, subject, details=told)


def login_act(
    user: User | None,
    operation: str,
    outcome: Outcome,
    error: str = "",
    details: Mapping[str, Any] | None = None,
) -> Act:
    """Of somebody who is not let in yet. What was typed as a name is recorded only where it names a user: it can be
    anything, even a password.
    """
    if user is None:
        return Act(operation, ANONYMOUS, outcome=outcome, error=error)
    told = dict(details or {})
    return Act(operation, operator_of_user(user), subject=user.name, outcome=outcome, error=error, details=told)


def operator_of_user(user: User) -> Operator:
    return Operator(OperatorKind.USER, user.id, user.name)


def asking(scope: Scope | None) -> Principal | None:
    """Whom a request speaks for, once it was authenticated."""
    return scope.get("longshore.principal") if scope is not None else None
