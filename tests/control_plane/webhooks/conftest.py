from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import pytest

from common.clock import ManualClock
from control_plane.audit.service import AuditTrail
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.database.messages import Message
from control_plane.database.relay import relay_once
from control_plane.events.memory import MemoryEventBus
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants import store as tenant_store
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.directory import TenantDirectory
from control_plane.tenants.model import Tenant, TenantSettings
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy
from control_plane.webhooks.dispatcher import DispatchLimits
from control_plane.webhooks.hooking import WebhookOptions, Webhooks, build_webhooks
from control_plane.webhooks.service import NewHook
from tests.control_plane.webhooks.receivers import Receiver, receiving

ADA = Principal("u-ada", "ada", roles={"acme": Role.ADMIN})
VERA = Principal("u-vera", "vera", roles={"acme": Role.VIEWER})
BOB = Principal("u-bob", "bob", roles={"birch": Role.ADMIN})
ROOT = Principal("u-root", "root", platform_admin=True)
SECRET = "a secret that is long enough"


@dataclass(frozen=True, slots=True)
class ImagePushed(Message):
    topic: ClassVar[str] = "registry.image_pushed"
    tenant_id: str
    repository: str
    tag: str = "latest"


@dataclass(frozen=True, slots=True)
class Inward(Message):
    """Between our own parts."""

    topic: ClassVar[str] = "fleet.assignments_changed"
    tenant_id: str = "t-acme"


@dataclass
class Site:
    """The webhooks of an installation with the tenants acme and birch, and what makes them move."""

    database: Database
    clock: ManualClock
    webhooks: Webhooks
    trail: AuditTrail

    async def announce(self, *messages: Message) -> None:
        async with self.database.transaction() as unit:
            for message in messages:
                await unit.announce(message)

    async def relay(self) -> None:
        while await relay_once(self.database, MemoryEventBus(), self.webhooks.tap):
            pass

    async def push(self, count: int = 1, tenant: str = "acme") -> None:
        await self.announce(*(ImagePushed(f"t-{tenant}", f"{tenant}/web", f"v{number}") for number in range(count)))
        await self.relay()

    async def deliver(self) -> int:
        """Everything that is due now."""
        total = 0
        while started := await self.webhooks.dispatcher.deliver_due():
            total += started
        return total

    async def hook(self, receiver: Receiver, *topics: str, by: Principal = ADA, tenant: str | None = "acme") -> NewHook:
        return await self.webhooks.service.create(by, tenant, receiver.url, topics or ("registry.*",), secret=SECRET)


OpenSite = Callable[..., Site]


@pytest.fixture
async def tenants(database: Database, clock: ManualClock) -> None:
    async with database.transaction() as unit:
        for name in ("acme", "birch"):
            await tenant_store.add_tenant(unit.connection, Tenant(f"t-{name}", name, name, clock.now()))


@pytest.fixture
async def open_site(database: Database, clock: ManualClock, tenants: None) -> AsyncIterator[OpenSite]:
    async with AsyncExitStack() as stack:

        def opened(
            other: Database | None = None, *, allow: tuple[str, ...] = ("127.0.0.0/8",), **limits: object
        ) -> Site:
            used = other or database
            outbound = Outbound(AddressPolicy.of(allow))
            stack.push_async_callback(outbound.close)
            trail = AuditTrail(used, clock)
            options = WebhookOptions(
                "https://longshore.example.com",
                timedelta(hours=24),
                DispatchLimits(timeout_seconds=1.0, poll_seconds=0.05, **limits),  # type: ignore[arg-type]
            )
            box = SealedBox(KeyRing({b"k" * 8: b"1" * 32}))
            directory = TenantDirectory(used, MemoryCache(clock), TenantSettings())
            webhooks = build_webhooks(used, clock, box, directory, outbound, trail, lambda: 0.5, options)
            return Site(used, clock, webhooks, trail)

        yield opened


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    return open_site()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened
