"""Who may see and change replication: the administrators of the tenant, and for the platform's the platform admin.
For everybody else it does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import NotFound
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.replication.model import PLATFORM
from control_plane.tenants.access import Permission, Principal


async def owner_id(tenants: TenantDirectory, principal: Principal, tenant: str | None) -> str:
    """The id of the tenant, `PLATFORM` for None. Raises `Unauthenticated`, `Denied`, `NotFound`."""
    if tenant is None:
        principal.require(Permission.PLATFORM_MANAGE)
        return PLATFORM
    principal.require(Permission.TENANT_MANAGE, tenant)
    found = (await tenants.ids_of([tenant])).get(tenant)
    if found is None:
        raise NotFound(f"there is no tenant {tenant[:80]!r}", action="check the name with `longshore tenant list`")
    return found


def check(principal: Principal, tenant: str | None, unknown: NotFound) -> None:
    """`tenant` is the owner's name, None if there is no such thing. Raises `unknown` for what the principal may not
    know of, `Unauthenticated` for whoever has not logged in.
    """
    principal.require(Permission.PLATFORM_READ)
    if tenant is None:
        raise unknown
    if tenant == PLATFORM:
        if not principal.may(Permission.PLATFORM_MANAGE):
            raise unknown
    elif not principal.may(Permission.TENANT_MANAGE, tenant):
        if principal.role_in(tenant) is None:
            raise unknown
        principal.require(Permission.TENANT_MANAGE, tenant)


def visible(principal: Principal, tenant: str | None) -> Sequence[str] | None:
    """Names of the owners whose things are listed; None: everybody's. Raises `Denied`, `NotFound`."""
    if tenant is not None:
        principal.require(Permission.TENANT_MANAGE, tenant)
        return [tenant]
    principal.require(Permission.PLATFORM_READ)
    if principal.may(Permission.PLATFORM_MANAGE):
        return None
    return sorted(name for name in principal.roles if principal.may(Permission.TENANT_MANAGE, name))
