"""Robots as values; pure.

Invariant: a secret is never part of a value here, only its hash, and that stays out of `repr`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from common.errors import Invalid
from common.reference import NameInvalid, check_repository_name
from control_plane.tenants.access import ACTIONS, RobotScope
from control_plane.tenants.model import SHORT_NAME, SHORT_NAME_RULE

MAX_ROBOT_SCOPES = 50


class RobotNameInvalid(Invalid):
    code = "robot_name_invalid"


class RobotScopeInvalid(Invalid):
    code = "robot_scope_invalid"


@dataclass(frozen=True, slots=True)
class RobotKey:
    id: str
    secret_hash: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Robot:
    """`keys` are those that have not ended, oldest first. `tenant` is a name."""

    id: str
    tenant: str
    name: str
    description: str
    scopes: tuple[RobotScope, ...]
    disabled: bool
    expires_at: datetime | None
    created_by: str
    created_at: datetime
    keys: tuple[RobotKey, ...] = ()

    @property
    def login(self) -> str:
        """What `docker login -u` takes. No user has such a name, and no shell finds anything special in it."""
        return f"robot/{self.tenant}/{self.name}"

    @property
    def last_used_at(self) -> datetime | None:
        return max((key.last_used_at for key in self.keys if key.last_used_at is not None), default=None)


def check_robot_name(name: str) -> str:
    """`name` itself; raises `RobotNameInvalid`."""
    if not SHORT_NAME.fullmatch(name):
        raise RobotNameInvalid(f"{name[:80]!r} cannot name a robot", action=SHORT_NAME_RULE)
    return name


def check_robot_scopes(scopes: Sequence[RobotScope]) -> tuple[RobotScope, ...]:
    """`scopes` themselves; raises `RobotScopeInvalid`. A pattern is a repository's name in which `*` may stand, but not
    in the tenant: a robot never may something in tenants that nobody thought of.
    """
    if not scopes or len(scopes) > MAX_ROBOT_SCOPES:
        raise RobotScopeInvalid(f"a robot has 1 to {MAX_ROBOT_SCOPES} scopes, not {len(scopes)}", action="merge some")
    for scope in scopes:
        # A star stands for text that fits: what is left must be a name with any such text in its place.
        tenant, name = scope.pattern.partition("/")[0], scope.pattern.replace("*", "x")
        try:
            check_repository_name(name)
        except NameInvalid:
            name = ""
        if not name or "*" in tenant or "**" in scope.pattern:
            raise RobotScopeInvalid(
                f"{scope.pattern[:80]!r} is no pattern of repositories",
                action="write tenant/name, * for any characters",
            )
        if not scope.actions or not scope.actions <= set(ACTIONS):
            raise RobotScopeInvalid(
                f"{scope.pattern} is given actions that there are not", action=f"use {', '.join(ACTIONS)}"
            )
    return tuple(scopes)
