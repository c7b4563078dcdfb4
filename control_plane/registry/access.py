"""What a principal may do with a repository, given what is known of both; pure. `rights` finds out and asks here.

Three reasons, any of which is enough: the role in the tenant (the first component of the name) or a robot's scopes
there; public visibility; a grant. A grant never gives a credential more than its limits: what a member gets through its
tenant's grant is at most what its role there permits, an API key that is limited to another tenant gets nothing, and a
robot only what its patterns name.
"""

from __future__ import annotations

from datetime import datetime

from control_plane.registry.failures import RepositoryUnknown
from control_plane.registry.grants import LEVEL_ACTIONS, NEEDED, Grant, GranteeKind, RepositoryAccess, Visibility
from control_plane.registry.scopes import PULL
from control_plane.tenants.access import Principal, permissions_of


def role_permits(principal: Principal, repository: str, action: str) -> bool:
    """What role or robot scopes say in the repository's own tenant, whatever token the principal came with."""
    tenant = repository.partition("/")[0]
    if principal.robot is not None:
        return tenant == principal.tenant and robot_names(principal, repository, action)
    return principal.holds(NEEDED[action], tenant)


def robot_names(principal: Principal, repository: str, action: str) -> bool:
    return any(action in scope.actions and scope.fits(repository) for scope in principal.robot or ())


def access_permits(principal: Principal, repository: str, action: str, access: RepositoryAccess, now: datetime) -> bool:
    """What visibility and grants say, whatever token the principal came with."""
    if access.visibility is Visibility.PUBLIC and action == PULL:
        return True
    if principal.anonymous:
        return False
    return any(
        action in LEVEL_ACTIONS[grant.level]
        and (grant.expires_at is None or now < grant.expires_at)
        and _reaches(grant, principal, repository, action)
        for grant in access.grants
    )


def _reaches(grant: Grant, principal: Principal, repository: str, action: str) -> bool:
    if grant.kind is GranteeKind.TENANT:
        if principal.robot is not None:
            return principal.tenant == grant.grantee and robot_names(principal, repository, action)
        return principal.holds(NEEDED[action], grant.grantee)
    if principal.robot is not None:
        return False
    if principal.tenant not in (None, repository.partition("/")[0]):
        return False
    if principal.at_most is not None and NEEDED[action] not in permissions_of(principal.at_most):
        return False
    if grant.kind is GranteeKind.USER:
        return grant.grantee == principal.user_id
    return grant.grantee in principal.groups


def unknown_repository(repository: str) -> RepositoryUnknown:
    return RepositoryUnknown(
        f"there is no repository {repository}", action="check the name; a repository is made by the first push to it"
    )
