"""What is shown of preheats: where they stand, and how much is where already and came from whom."""

from __future__ import annotations

from control_plane.database import Database
from control_plane.preheats import rules, store, views
from control_plane.preheats.model import HostProgress, Preheat, PreheatUnknown, PreheatView
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest


class PreheatReading:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, principal: Principal, page: PageRequest, *, ended: bool = False) -> Page[PreheatView]:
        """Without progress; newest first, those that are over only if asked for."""
        principal.require(Permission.PLATFORM_READ)
        tenants = None if principal.platform_admin else [name for name in principal.roles if _may(principal, name)]
        async with self._database.reading() as connection:
            found = await store.page(connection, tenants, ended, page)
        return Page([self._view(preheat) for preheat in found.items], found.total_count, page)

    async def get(self, principal: Principal, preheat_id: str) -> PreheatView:
        """Raises `PreheatUnknown`, also for another tenant's."""
        preheat = await self._visible(principal, preheat_id)
        async with self._database.reading() as connection:
            progress = await views.idc_progress(connection, preheat)
        view = self._view(preheat)
        return PreheatView(view.preheat, view.state, view.next_change_at, tuple(progress))

    async def hosts(self, principal: Principal, preheat_id: str, page: PageRequest) -> Page[HostProgress]:
        """By IDC and name. Raises as `get`."""
        preheat = await self._visible(principal, preheat_id)
        async with self._database.reading() as connection:
            return await views.host_progress(connection, preheat, page)

    async def _visible(self, principal: Principal, preheat_id: str) -> Preheat:
        async with self._database.reading() as connection:
            preheat = await store.find(connection, preheat_id)
        if preheat is None:
            principal.require(Permission.PLATFORM_READ)
            raise unknown(preheat_id)
        require_visible(principal, preheat.tenant, preheat_id)
        return preheat

    def _view(self, preheat: Preheat) -> PreheatView:
        now = self._database.clock.now()
        return PreheatView(preheat, rules.standing(preheat, now), rules.next_change(preheat, now))


def require_visible(principal: Principal, tenant: str, preheat_id: str) -> None:
    """Another tenant's preheat is unknown, not forbidden."""
    if not _may(principal, tenant):
        principal.require(Permission.PLATFORM_READ)
        raise unknown(preheat_id)


def unknown(preheat_id: str) -> PreheatUnknown:
    return PreheatUnknown(f"there is no preheat {preheat_id[:80]!r}", action="see `longshore preheat list`")


def _may(principal: Principal, tenant: str) -> bool:
    return principal.may(Permission.INSTANCE_READ, tenant)
