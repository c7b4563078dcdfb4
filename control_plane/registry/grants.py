"""What a repository grants beyond roles: visibility and grants, as values; pure.

A grant gives one user, one group or all members of one tenant a level on one repository, also across tenants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from control_plane.registry.scopes import DELETE, PULL, PUSH
from control_plane.tenants.access import ACTIONS, Permission

# Beside those of tokens: changing who may do what with the repository. No token is ever issued for it.
MANAGE = "manage"
ACTIONS_SHOWN = (PULL, PUSH, DELETE, MANAGE)
NEEDED = {**ACTIONS, MANAGE: Permission.TENANT_MANAGE}


class Visibility(StrEnum):
    """Who pulls besides those whom roles and grants let in: nobody, or everybody, also without login."""

    PRIVATE = "private"
    PUBLIC = "public"


class Level(StrEnum):
    """Each includes the one before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class GranteeKind(StrEnum):
    USER = "user"
    GROUP = "group"
    TENANT = "tenant"


LEVEL_ACTIONS = {
    Level.READ: frozenset({PULL}),
    Level.WRITE: frozenset({PULL, PUSH}),
    Level.ADMIN: frozenset({PULL, PUSH, DELETE, MANAGE}),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """`grantee` is the id of a user or group, or the name of a tenant."""

    kind: GranteeKind
    grantee: str
    level: Level
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A grant as people manage it. `grantee` is the id, `name` what people call it."""

    kind: GranteeKind
    grantee: str
    name: str
    level: Level
    expires_at: datetime | None
    granted_by: str
    granted_at: datetime

    def named(self, name: str) -> GrantRecord:
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """What one repository grants. One that does not exist grants nothing, like a private one without grants."""

    visibility: Visibility = Visibility.PRIVATE
    grants: tuple[Grant, ...] = ()


NO_ACCESS = RepositoryAccess()


@dataclass(frozen=True, slots=True)
class Visible:
    """Which repositories a principal may pull from, for queries over many: any one of these reasons is enough.

    everything: the platform admin's. tenants: names, by role. patterns: a robot's, each with whether it needs a grant.
    user_id, groups, tenant_ids: whose grants count; those of the user and its groups only in `only_tenant` if set.
    among: names that a token confines it to, on top of everything else. public: also what everybody may pull.
    """

    everything: bool = False
    tenants: tuple[str, ...] = ()
    user_id: str | None = None
    groups: tuple[str, ...] = ()
    tenant_ids: tuple[str, ...] = ()
    only_tenant: str | None = None
    robot_of: str | None = None
    patterns: tuple[str, ...] = ()
    among: tuple[str, ...] | None = None
    public: bool = True


EVERYTHING = Visible(everything=True)


class Order(StrEnum):
    """Of a listing of repositories; ties are broken by name."""

    NAME = "name:asc"
    NAME_DOWN = "name:desc"
    CREATED = "created_at:asc"
    CREATED_DOWN = "created_at:desc"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of the visible repositories a listing shows, and in which order. `name` is a part of the full name."""

    tenant: str | None = None
    name: str | None = None
    visibility: Visibility | None = None
    order: Order = Order.NAME
