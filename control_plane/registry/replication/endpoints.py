"""Use cases around endpoints.

Where an endpoint is does not change: else who may change it could have its password sent to a registry of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from common.clock import Clock
from common.errors import Failure
from common.identifiers import new_id
from control_plane.database import Database, UnitOfWork
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.replication import access, endpoint_store, rule_store
from control_plane.registry.replication.connections import Connections
from control_plane.registry.replication.failures import (
    EndpointInUse,
    EndpointUnknown,
    NameTaken,
    RuleInvalid,
    TooMany,
)
from control_plane.registry.replication.model import PLATFORM, OtherRegistry
from control_plane.sealing import SealedBox
from control_plane.tenants.access import Principal
from control_plane.web.outbound import Outbound, trusting
from control_plane.web.paging import Page, PageRequest

MAX_ENDPOINTS = 100


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """`tenant` None: the platform's. `url` is `[https://]host[:port]`."""

    tenant: str | None
    name: str
    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_pem: str = ""
    auth_hosts: Sequence[str] = ()


class EndpointService:
    def __init__(
        self,
        database: Database,
        tenants: TenantDirectory,
        box: SealedBox,
        outbound: Outbound,
        connections: Connections,
        clock: Clock,
    ) -> None:
        self._database = database
        self._tenants = tenants
        self._box = box
        self._outbound = outbound
        self._connections = connections
        self._clock = clock

    async def create(self, principal: Principal, plan: EndpointPlan) -> OtherRegistry:
        """Raises `Denied`, `NotFound`, `UrlInvalid`, `AddressRefused`, `RuleInvalid`, `NameTaken`, `TooMany`."""
        owner = await access.owner_id(self._tenants, principal, plan.tenant)
        url = self._checked_url(plan.url)
        for host in plan.auth_hosts:
            self._outbound.check(f"https://{host}/")
        trusting(plan.ca_pem)
        endpoint = OtherRegistry(
            endpoint_id=new_id(self._clock),
            tenant_id=owner,
            tenant=plan.tenant or PLATFORM,
            name=plan.name,
            url=url,
            username=plan.username,
            ca_pem=plan.ca_pem,
            auth_hosts=tuple(host.lower() for host in plan.auth_hosts),
            created_at=self._clock.now(),
        )
        endpoint = self._sealed(endpoint, plan.username, plan.password)
        async with self._database.transaction() as unit:
            if await endpoint_store.count(unit.connection, owner) >= MAX_ENDPOINTS:
                raise TooMany(f"there are {MAX_ENDPOINTS} endpoints already", action="remove one that is not needed")
            if not await endpoint_store.add(unit.connection, endpoint):
                raise NameTaken(f"there is an endpoint {plan.name} already", action="choose another name")
        return endpoint

    async def get(self, principal: Principal, endpoint_id: str) -> OtherRegistry:
        """Raises `EndpointUnknown`, `Denied`."""
        async with self._database.reading() as connection:
            return _permitted(principal, await endpoint_store.find(connection, endpoint_id), endpoint_id)

    async def list(self, principal: Principal, tenant: str | None, page: PageRequest) -> Page[OtherRegistry]:
        owners = access.visible(principal, tenant)
        async with self._database.reading() as connection:
            found, total = await endpoint_store.page(connection, owners, page.offset, page.limit)
        return Page(found, total, page)

    async def set_credentials(
        self, principal: Principal, endpoint_id: str, username: str, password: str
    ) -> OtherRegistry:
        """Both empty: none. Raises `EndpointUnknown`, `Denied`, `RuleInvalid`."""
        async with self._database.transaction() as unit:
            found = await endpoint_store.find(unit.connection, endpoint_id, hold=True)
            changed = self._sealed(_permitted(principal, found, endpoint_id), username, password)
            await endpoint_store.set_credentials(unit.connection, endpoint_id, username, changed.sealed)
        return changed

    async def check(self, principal: Principal, endpoint_id: str) -> OtherRegistry:
        """Ask it whether it lets us in, and remember what it said. Raises `EndpointUnknown`, `Denied`."""
        endpoint = await self.get(principal, endpoint_id)
        trouble = ""
        try:
            await self._connections.client(endpoint).ping()
        except Failure as failure:
            trouble = str(failure)[:1000].replace("\x00", "?")
        async with self._database.transaction() as unit:
            await endpoint_store.note_check(unit.connection, endpoint_id, self._clock.now(), trouble)
        return replace(endpoint, checked_at=self._clock.now(), trouble=trouble)

    async def remove(self, principal: Principal, endpoint_id: str) -> None:
        """Raises `EndpointUnknown`, `Denied`, `EndpointInUse`."""
        async with self._database.transaction() as unit:
            found = await endpoint_store.find(unit.connection, endpoint_id, hold=True)
            _permitted(principal, found, endpoint_id)
            rules = await rule_store.names_at(unit.connection, endpoint_id)
            if rules:
                raise EndpointInUse(f"rules name it: {', '.join(rules)}", action="remove them first")
            await endpoint_store.remove(unit.connection, endpoint_id)

    async def tenant_goes(self, unit: UnitOfWork, tenant_id: str) -> str | None:
        """For `tenants`, which asks before it deletes one: endpoints and rules go along and do not keep it."""
        await endpoint_store.remove_of_tenant(unit.connection, tenant_id)
        return None

    def _checked_url(self, text: str) -> str:
        whole = text.strip().rstrip("/")
        parts = self._outbound.check(whole if "://" in whole else f"https://{whole}")
        if parts.path or parts.query or parts.fragment or not urlsplit(parts.geturl()).hostname:
            raise RuleInvalid("an endpoint is a registry, not a part of one", action="give https://host[:port]")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    def _sealed(self, endpoint: OtherRegistry, username: str, password: str) -> OtherRegistry:
        if password and not username:
            raise RuleInvalid("there is a password without a user name", action="give both")
        sealed = self._box.seal(password.encode(), endpoint.seal_identity) if username else None
        return replace(endpoint, username=username, sealed=sealed)


def _permitted(principal: Principal, found: OtherRegistry | None, endpoint_id: str) -> OtherRegistry:
    unknown = EndpointUnknown(
        f"there is no endpoint {endpoint_id[:80]}", action="see `longshore replication endpoint list`"
    )
    access.check(principal, None if found is None else found.tenant, unknown)
    if found is None:
        raise unknown
    return found
