"""The permission check that every route, RPC and command goes through; pure.

A principal is whoever a request speaks for. In a tenant it has at most one role; the platform admin has every right
everywhere. What a principal may not see does not exist for it: a missing right on somebody else's tenant is `NotFound`,
on its own tenant `Denied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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
    PLATFORM_READ = "platform:read"  # IDCs, hosts, regionals: names and health; asked without a tenant
    PLATFORM_MANAGE = "platform:manage"  # tenants, users, IDCs, join tokens


_VIEWER = frozenset({Permission.TENANT_READ, Permission.IMAGE_PULL, Permission.INSTANCE_READ})
_OPERATOR = _VIEWER | {Permission.IMAGE_PUSH, Permission.INSTANCE_WRITE}
_ADMIN = _OPERATOR | {Permission.IMAGE_DELETE, Permission.TENANT_MANAGE}
_GRANTED = {Role.VIEWER: _VIEWER, Role.OPERATOR: _OPERATOR, Role.ADMIN: _ADMIN}
# Every signed-in principal may see where there is to run things; only the platform admin changes it.
_EVERYBODY = frozenset({Permission.PLATFORM_READ})


@dataclass(frozen=True, slots=True)
class RepositoryScope:
    """What a registry token was asked for and given: `repository:<name>:<actions>` of the Docker token specification."""

    repository: str
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Principal:
    """`user_id` None is the anonymous principal. `roles` maps tenant names to the role there.

    scopes: None for ordinary credentials; a registry token is limited to its scopes on top of the roles.
    """

    user_id: str | None = None
    name: str = "anonymous"
    platform_admin: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    scopes: tuple[RepositoryScope, ...] | None = None

    @property
    def anonymous(self) -> bool:
        return self.user_id is None

    def may(self, permission: Permission, tenant: str | None = None) -> bool:
        if self.anonymous:
            return False
        if self.platform_admin or permission in _EVERYBODY:
            return True
        role = self.roles.get(tenant) if tenant is not None else None
        return role is not None and permission in _GRANTED[role]

    def require(self, permission: Permission, tenant: str | None = None) -> None:
        """Raises `Unauthenticated`, `NotFound` (a tenant that is not yours does not exist for you) or `Denied`."""
        if self.may(permission, tenant):
            return
        if self.anonymous:
            raise Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")
        if tenant is not None and tenant not in self.roles:
            raise NotFound(f"there is no tenant {tenant!r}", action="check the name with `longshore tenant list`")
        raise Denied(
            f"{self.name} may not {permission.value.replace(':', ' ')}" + (f" in {tenant}" if tenant else ""),
            action="ask an administrator for a role that includes it",
        )


ANONYMOUS = Principal()
