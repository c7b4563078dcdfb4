"""Which tenants' contents a principal may see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from control_plane.tenants.access import Permission, Principal


class TenantDirectory(Protocol):
    """`tenants` answers: names to ids and back. Unknown ones are absent from the answer."""

    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]: ...

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]: ...


async def visible_tenants(principal: Principal, permission: Permission, tenants: TenantDirectory) -> set[str] | None:
    """Ids of the tenants in which `principal` has `permission`; None: every tenant."""
    if principal.platform_admin:
        return None
    names = [name for name in principal.roles if principal.may(permission, name)]
    return set((await tenants.ids_of(names)).values())
