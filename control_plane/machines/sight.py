"""Who may see and change which machines, profiles and tasks; pure.

What belongs to the platform (tenant "") is the platform admin's; its profiles everybody may use who may install
anything. What one may not see does not exist for one.
"""

from __future__ import annotations

from common.errors import Denied, NotFound, Unauthenticated
from control_plane.tenants.access import Permission, Principal


def tenants_seen(principal: Principal) -> frozenset[str] | None:
    """Names of the tenants whose machines `principal` may see; None: all, the platform's too. Raises
    `Unauthenticated`.
    """
    principal.require(Permission.PLATFORM_READ)
    if principal.may(Permission.PLATFORM_MANAGE):
        return None
    return frozenset(name for name in principal.roles if principal.may(Permission.MACHINE_READ, name))


def may(principal: Principal, permission: Permission, tenant: str) -> bool:
    return principal.may(permission, tenant) if tenant else principal.may(Permission.PLATFORM_MANAGE)


def require(principal: Principal, permission: Permission, tenant: str, unknown: NotFound) -> None:
    """Raises `unknown` for what one may not see, `Denied` for what one may see but not do, `Unauthenticated`."""
    if may(principal, permission, tenant):
        return
    if principal.anonymous:
        raise Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")
    if not may(principal, Permission.MACHINE_READ, tenant):
        raise unknown
    raise refused(principal, permission, tenant)


def refused(principal: Principal, permission: Permission, tenant: str) -> Denied:
    return Denied(
        f"{principal.name} may not {permission.value.replace(':', ' ')} in {tenant or 'the platform'}",
        action="ask an administrator for a role that includes it",
    )
