"""The permission check that every route, RPC and command goes through; pure.

A principal is whoever a request speaks for. In a tenant it has at most one role; the platform admin has every right
everywhere. What a principal may not see does not exist for it: a missing right on somebody else's tenant is `NotFound`,
on its own tenant `Denied`. A credential can only take rights away from its owner: an API key may be limited to a tenant
and a role, a registry token is limited to its scopes. A robot has no role: it may what its patterns say of
repositories, and nothing else. What single repositories grant beyond roles is the registry's to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from common.errors import Denied, NotFound, Unauthenticated


class Role(StrEnum):
    """In a tenant, each includes the one before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Permission(StrEnum):
    """What can be asked for. The first word is the thing, the second what is done to it."""

    TENANT_READ = "tenant:read"
    TENANT_MANAGE = "tenant:manage"  # members, keys, settings of a tenant
    IMAGE_PULL = "image:pull"
    IMAGE_PUSH = "image:push"
    IMAGE_DELETE = "image:delete"
    INSTANCE_READ = "instance:read"
    INSTANCE_WRITE = "instance:write"
    INSTANCE_EXEC = "instance:exec"  # run commands inside, and type at consoles
    MACHINE_READ = "machine:read"  # of machines that are assigned to the tenant
    MACHINE_WRITE = "machine:write"  # describe them, write profiles, ask for installations
    MACHINE_APPROVE = "machine:approve"  # let an installation begin, which wipes a disk
    PLATFORM_READ = "platform:read"  # IDCs, hosts, regionals: names and health; asked without a tenant
    PLATFORM_MANAGE = "platform:manage"  # tenants, users, IDCs, join tokens


_VIEWER = frozenset({Permission.TENANT_READ, Permission.IMAGE_PULL, Permission.INSTANCE_READ, Permission.MACHINE_READ})
_OPERATOR = _VIEWER | {
    Permission.IMAGE_PUSH,
    Permission.INSTANCE_WRITE,
    Permission.INSTANCE_EXEC,
    Permission.MACHINE_WRITE,
}
_ADMIN = _OPERATOR | {Permission.IMAGE_DELETE, Permission.TENANT_MANAGE, Permission.MACHINE_APPROVE}
_GRANTED = {Role.VIEWER: _VIEWER, Role.OPERATOR: _OPERATOR, Role.ADMIN: _ADMIN}
RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}
# The actions of the Docker token specification ("Token Scope Documentation") and what each of them needs.
ACTIONS = {"pull": Permission.IMAGE_PULL, "push": Permission.IMAGE_PUSH, "delete": Permission.IMAGE_DELETE}
# Every signed-in principal may see where there is to run things; only the platform admin changes it.
_EVERYBODY = frozenset({Permission.PLATFORM_READ})


@dataclass(frozen=True, slots=True)
class RepositoryScope:
    """`repository:<name>:<actions>` of the Docker token specification: what a token was asked for, or was given."""

    repository: str
    actions: frozenset[str]

    @property
    def tenant(self) -> str:
        return self.repository.partition("/")[0]

    def includes(self, permission: Permission) -> bool:
        return "*" in self.actions or any(ACTIONS.get(action) is permission for action in self.actions)


@dataclass(frozen=True, slots=True)
class RobotScope:
    """What a robot may do with the repositories whose name fits `pattern`, in which `*` stands for any characters."""

    pattern: str
    actions: frozenset[str]

    def fits(self, repository: str) -> bool:
        return fnmatchcase(repository, self.pattern)


@dataclass(frozen=True, slots=True)
class Principal:
    """`user_id` None is the anonymous principal; a robot has its own id. `roles` maps tenant names to the role there.

    scopes: None for ordinary credentials; a registry token is limited to its scopes on top of the roles.
    limited: it speaks with less than its owner's rights, so it may not make credentials for its owner.
    groups: ids of the groups that it belongs to.
    tenant: the only tenant that it acts for: the robot's, or the one that the API key is limited to.
    at_most: the role that the API key is limited to.
    robot: None for people; what the robot may do.
    key_id: the API key or robot key that speaks, if one does.
    """

    user_id: str | None = None
    name: str = "anonymous"
    platform_admin: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    scopes: tuple[RepositoryScope, ...] | None = None
    limited: bool = False
    groups: frozenset[str] = frozenset()
    tenant: str | None = None
    at_most: Role | None = None
    robot: tuple[RobotScope, ...] | None = None
    key_id: str | None = field(default=None, compare=False)

    @property
    def anonymous(self) -> bool:
        return self.user_id is None

    def role_in(self, tenant: str) -> Role | None:
        return Role.ADMIN if self.platform_admin else self.roles.get(tenant)

    def may(self, permission: Permission, tenant: str | None = None) -> bool:
        """Scopes count by tenant here; for one repository ask `may_on`."""
        if self.scopes is not None and not any(
            scope.tenant == tenant and scope.includes(permission) for scope in self.scopes
        ):
            return False
        return self.holds(permission, tenant)

    def holds(self, permission: Permission, tenant: str | None = None) -> bool:
        """What the role says, whatever the scopes."""
        if self.user_id is None or self.robot is not None:
            return False
        if self.platform_admin or permission in _EVERYBODY:
            return True
        role = self.roles.get(tenant) if tenant is not None else None
        return role is not None and permission in _GRANTED[role]

    def in_scope(self, permission: Permission, repository: str) -> bool:
        """What the scopes say, whatever the role."""
        return self.scopes is None or any(
            scope.repository == repository and scope.includes(permission) for scope in self.scopes
        )

    def may_on(self, permission: Permission, repository: str) -> bool:
        """Whether the role allows it in the repository's tenant, and the scopes (if there are any) on `repository`."""
        return self.in_scope(permission, repository) and self.holds(permission, repository.partition("/")[0])

    def require_whole(self) -> None:
        """For what makes or changes credentials. Raises `Unauthenticated` or `Denied`."""
        if self.anonymous:
            raise _login_needed()
        if self.limited or self.scopes is not None:
            raise Denied(
                f"the credential that speaks for {self.name} is limited and may not manage credentials",
                action="log in with a password",
            )

    def require(self, permission: Permission, tenant: str | None = None) -> None:
        """Raises `Unauthenticated`, `NotFound` (a tenant that is not yours does not exist for you) or `Denied`."""
        if self.may(permission, tenant):
            return
        if self.anonymous:
            raise _login_needed()
        if tenant is not None and self.role_in(tenant) is None:
            raise NotFound(f"there is no tenant {tenant!r}", action="check the name with `longshore tenant list`")
        raise Denied(
            f"{self.name} may not {permission.value.replace(':', ' ')}" + (f" in {tenant}" if tenant else ""),
            action="ask an administrator for a role that includes it",
        )


def _login_needed() -> Unauthenticated:
    return Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")


def permissions_of(role: Role) -> frozenset[Permission]:
    return _GRANTED[role]


def lesser(one: Role, other: Role) -> Role:
    return one if RANK[one] <= RANK[other] else other


ANONYMOUS = Principal()
