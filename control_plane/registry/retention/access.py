"""Who may see and change rules: the administrators of the tenant, and for the platform's the platform admin.

Invariant: the id of the tenant that every query is confined to comes from here, after the right was checked.
"""

from __future__ import annotations

from common.errors import NotFound
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.retention.model import PLATFORM
from control_plane.tenants.access import Permission, Principal

# The name of a tenant, or None for the platform.
TenantNamed = str | None


async def owner_of(tenants: TenantDirectory, principal: Principal, tenant: TenantNamed, permission: Permission) -> str:
    """The id of the owner of the rules. Raises `Unauthenticated`, `Denied`, `NotFound`."""
    if tenant is None:
        reads = permission is Permission.TENANT_READ
        principal.require(Permission.PLATFORM_READ if reads else Permission.PLATFORM_MANAGE)
        return PLATFORM
    principal.require(permission, tenant)
    found = (await tenants.ids_of([tenant])).get(tenant)
    if found is None:
        raise NotFound(f"there is no tenant {tenant[:80]!r}", action="check the name with `longshore tenant list`")
    return found
