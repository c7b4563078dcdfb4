"""What a principal may do with a repository; pure.

Two conditions, both needed: the role in the tenant (the first component of the name) permits it, and, if the principal
came with a registry token, the token was made for it.

What is not yours does not exist: reading in a foreign tenant is `RepositoryUnknown`, for a tenant that exists as for
one that does not; writing there is `Denied`, for both as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from common.errors import Denied, Unauthenticated
from control_plane.registry.failures import RepositoryUnknown, ScopeInsufficient
from control_plane.registry.scopes import CATALOG, PULL
from control_plane.tenants.access import ACTIONS, Permission, Principal, RepositoryScope


def may(principal: Principal, repository: str, action: str) -> bool:
    return principal.may_on(ACTIONS[action], repository)


def role_permits(principal: Principal, repository: str, action: str) -> bool:
    """What the role alone says, whatever token the principal came with."""
    return replace(principal, scopes=None).may_on(ACTIONS[action], repository)


def require(principal: Principal, repository: str, *actions: str) -> None:
    """Raises `Unauthenticated` (nobody), `ScopeInsufficient` (another token would do), `RepositoryUnknown` (reading
    what is not yours) or `Denied`.
    """
    for action in actions:
        if may(principal, repository, action):
            continue
        if principal.anonymous:
            raise Unauthenticated("this needs a login", action="log in, for example with `docker login`")
        if role_permits(principal, repository, action):
            raise ScopeInsufficient(
                f"the token is not for {action} on {repository}", action="ask for a token with this scope"
            )
        if action == PULL:
            raise unknown_repository(repository)
        raise Denied(
            f"{principal.name} may not {action} to {repository}",
            action="ask an administrator of the tenant for a role that includes it",
        )


def grant(principal: Principal, asked: Iterable[RepositoryScope]) -> tuple[RepositoryScope, ...]:
    """The part of what was asked that the principal may have; what is left without actions is dropped."""
    granted = []
    for scope in asked:
        if scope == CATALOG:
            granted.append(scope)
            continue
        actions = frozenset(action for action in scope.actions if may(principal, scope.repository, action))
        if actions:
            granted.append(RepositoryScope(scope.repository, actions))
    return tuple(granted)


def visible_tenants(principal: Principal) -> tuple[str, ...] | None:
    """The tenants whose repositories the principal may list; None means all."""
    if principal.platform_admin:
        return None
    whole = replace(principal, scopes=None)
    return tuple(sorted(name for name in principal.roles if whole.may(Permission.IMAGE_PULL, name)))


def visible_repositories(principal: Principal) -> tuple[str, ...] | None:
    """What a token confines a listing to; None means that it does not."""
    if principal.scopes is None or CATALOG in principal.scopes:
        return None
    return tuple(sorted(scope.repository for scope in principal.scopes if PULL in scope.actions))


def unknown_repository(repository: str) -> RepositoryUnknown:
    return RepositoryUnknown(
        f"there is no repository {repository}", action="check the name; a repository is made by the first push to it"
    )
