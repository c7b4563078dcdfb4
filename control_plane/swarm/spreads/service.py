"""Reports and forecasts of spreads. Everybody sees the links; of contents each asker sees its own tenants' only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from common.errors import Invalid
from common.limits import Link
from common.spreading.model import Bound, efficiency, minimum_seconds
from control_plane.database import Database
from control_plane.fleet.limits import store as limits_store
from control_plane.fleet.limits.model import Policies, link_rates
from control_plane.fleet.model import IdcUnknown
from control_plane.swarm.spreads import store
from control_plane.swarm.spreads.model import (
    LinkSpeed,
    Spread,
    SpreadReport,
    bound_of,
    judging,
    site_of,
    speeds_of,
    spreads_of,
)
from control_plane.swarm.visibility import TenantDirectory, visible_tenants
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest

# Peaks are looked for among so many contents of an IDC.
_HISTORY = PageRequest(1, 100)
_LARGEST = 1 << 50


@dataclass(frozen=True, slots=True)
class IdcForecast:
    idc: str
    hosts: int
    bound: Bound
    speeds: Mapping[Link, LinkSpeed]


@dataclass(frozen=True, slots=True)
class Forecast:
    """`bound`: of all IDCs together; they fetch side by side."""

    size_bytes: int
    hosts: int
    bound: Bound
    idcs: tuple[IdcForecast, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    policies: Policies
    idcs: Mapping[str, str]
    host_counts: Mapping[str, int]
    with_regional: set[str]
    history: Mapping[str, Sequence[Spread]]


class SpreadService:
    def __init__(self, database: Database, tenants: TenantDirectory) -> None:
        self._database = database
        self._tenants = tenants

    async def reports(
        self, principal: Principal, idc: str | None, digest: str | None, page: PageRequest
    ) -> Page[SpreadReport]:
        """A page of contents, newest first, each with its spreads."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        async with self._database.reading() as connection:
            groups, total = await store.groups(connection, visible, idc, digest, page)
            found = spreads_of(await store.shares(connection, groups))
        picture = await self._picture({spread.idc_id for spread in found})
        names = await self._tenants.names_of({spread.tenant_id for spread in found})
        reports = [self._report(picture, spread, names.get(spread.tenant_id, "")) for spread in found]
        return Page(reports, total, page)

    async def forecast(self, principal: Principal, size_bytes: int, idcs: Sequence[str], hosts: int | None) -> Forecast:
        """The least time in which so many bytes can reach `hosts` hosts in each of these IDCs (none named: in all that
        have hosts); without `hosts` all that there are. Raises `Invalid`, `IdcUnknown`.
        """
        principal.require(Permission.PLATFORM_READ)
        if not 0 < size_bytes <= _LARGEST:
            raise Invalid(f"{size_bytes} bytes cannot be forecast", action=f"give 1 to {_LARGEST}")
        picture = await self._picture(None)
        ids = {name: idc_id for idc_id, name in picture.idcs.items()}
        for name in idcs:
            if name not in ids:
                raise IdcUnknown(f"there is no IDC {name[:80]!r}", action="see `longshore idc list`")
        wanted = idcs or [name for name, idc_id in ids.items() if picture.host_counts.get(idc_id)]
        found, sites = [], []
        for name in wanted:
            count = hosts if hosts is not None else picture.host_counts.get(ids[name], 0)
            speeds, regional = self._speeds(picture, ids[name]), ids[name] in picture.with_regional
            sites.append(site_of(name, count, speeds, regional=regional))
            found.append(IdcForecast(name, count, bound_of(size_bytes, name, count, speeds, regional=regional), speeds))
        bound = minimum_seconds(size_bytes, None, sites)
        return Forecast(size_bytes, sum(one.hosts for one in found), bound, tuple(found))

    async def forget(self, kept: timedelta) -> int:
        async with self._database.transaction() as unit:
            return await store.forget(unit.connection, unit.clock.now() - kept)

    async def _picture(self, idc_ids: set[str] | None) -> _Picture:
        """Links are everybody's to see, so every tenant's spreads count for their peaks."""
        async with self._database.reading() as connection:
            names = await store.idcs_by_id(connection)
            history = {}
            for idc_id in sorted(names if idc_ids is None else idc_ids & names.keys()):
                groups, _ = await store.groups(connection, None, names[idc_id], None, _HISTORY)
                history[idc_id] = spreads_of(await store.shares(connection, groups))
            return _Picture(
                await limits_store.all_policies(connection),
                names,
                await store.host_counts(connection),
                await store.idcs_with_regional(connection),
                history,
            )

    def _speeds(self, picture: _Picture, idc_id: str) -> dict[Link, LinkSpeed]:
        limits = link_rates(picture.policies, idc_id, self._database.clock.now())
        return speeds_of(limits, picture.history.get(idc_id, ()))

    def _report(self, picture: _Picture, spread: Spread, tenant: str) -> SpreadReport:
        name, hosts = picture.idcs.get(spread.idc_id, ""), len(spread.shares)
        speeds, regional = judging(self._speeds(picture, spread.idc_id)), spread.idc_id in picture.with_regional
        site = site_of(name, hosts, speeds, regional=regional)
        bound, seconds = minimum_seconds(spread.size_bytes, None, [site]), spread.seconds
        reached = None if seconds is None else efficiency(spread.size_bytes, None, [site], seconds)
        return SpreadReport(spread, name, tenant, bound, reached)
