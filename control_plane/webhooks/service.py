"""Use cases around webhooks: make, change, look, ping, deliver again.

Invariant: a hook is its tenant's administrators', or (without a tenant) the platform admin's; for everybody else it
does not exist. A secret is shown once, when it is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from common.clock import Clock
from common.errors import Conflict
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.sealing import SealedBox
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.tenants.directory import TenantDirectory
from control_plane.web.outbound import Outbound
from control_plane.web.paging import Page, PageRequest
from control_plane.webhooks import store
from control_plane.webhooks.fanout import Fanout
from control_plane.webhooks.model import (
    Attempt,
    Delivery,
    DeliveryState,
    DeliveryUnknown,
    Hook,
    SecretWeak,
    WebhooksFull,
    WebhookUnknown,
    check_topics,
)

MAX_HOOKS = 50
_SHORTEST_SECRET, _LONGEST_SECRET = 16, 256
_SECRET_PREFIX = "whsec_"  # noqa: S105  what a secret begins with


class DeliveryUnderway(Conflict):
    """It waits already; there is nothing to send again."""

    code = "webhook_delivery_underway"


@dataclass(frozen=True, slots=True)
class OwnedHook:
    """`tenant` is the name of the owner, None: the platform."""

    hook: Hook
    tenant: str | None


@dataclass(frozen=True, slots=True)
class NewHook:
    owned: OwnedHook
    secret: str = field(repr=False)


class WebhookService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        box: SealedBox,
        tenants: TenantDirectory,
        outbound: Outbound,
        trail: AuditTrail,
        fanout: Fanout,
        lifetime: timedelta,
    ) -> None:
        self._database = database
        self._clock = clock
        self._box = box
        self._tenants = tenants
        self._outbound = outbound
        self._trail = trail
        self._fanout = fanout
        self._lifetime = lifetime

    async def create(
        self,
        principal: Principal,
        tenant: str | None,
        url: str,
        topics: Sequence[str],
        *,
        description: str = "",
        secret: str | None = None,
    ) -> NewHook:
        """Raises `Denied`, `NotFound` (tenant), `TopicInvalid`, `UrlInvalid`, `AddressRefused`, `SecretWeak`,
        `WebhooksFull`.
        """
        _require(principal, tenant)
        tenant_id = await self._tenants.id_of(tenant) if tenant is not None else None
        self._outbound.check(url)
        text = _checked_secret(secret) if secret is not None else _new_secret()
        hook_id = new_id(self._clock)
        hook = Hook(
            id=hook_id,
            tenant_id=tenant_id,
            url=url,
            topics=check_topics(topics),
            description=description,
            active=True,
            sealed_secret=self._sealed(hook_id, text),
            created_at=self._clock.now(),
            created_by=principal.name,
        )
        async with self._database.transaction() as unit:
            if await store.count_hooks(unit.connection, tenant_id) >= MAX_HOOKS:
                raise WebhooksFull(f"there are {MAX_HOOKS} webhooks already", action="delete one that is not needed")
            await store.add_hook(unit.connection, hook)
            self._tell(unit, principal, "webhooks.created", OwnedHook(hook, tenant))
        return NewHook(OwnedHook(hook, tenant), text)

    async def list(self, principal: Principal, tenant: str | None, page: PageRequest) -> Page[OwnedHook]:
        """Of one tenant, or of the platform for None. Raises `Denied`, `NotFound` (tenant)."""
        _require(principal, tenant)
        tenant_id = await self._tenants.id_of(tenant) if tenant is not None else None
        async with self._database.reading() as connection:
            found = await store.page_of_hooks(connection, tenant_id, page)
        return Page([OwnedHook(hook, tenant) for hook in found.items], found.total_count, page)

    async def get(self, principal: Principal, hook_id: str) -> OwnedHook:
        """Raises `WebhookUnknown`, `Denied`."""
        async with self._database.reading() as connection:
            hook = await store.find_hook(connection, hook_id)
        return await self._owned(principal, hook, hook_id)

    async def change(
        self,
        principal: Principal,
        hook_id: str,
        *,
        url: str | None = None,
        topics: Sequence[str] | None = None,
        description: str | None = None,
        active: bool | None = None,
    ) -> OwnedHook:
        """None leaves as it is. Making it active, or giving it another address, forgets its failures.

        Raises what `create` does, and `WebhookUnknown`.
        """
        if url is not None:
            self._outbound.check(url)
        checked = check_topics(topics) if topics is not None else None
        owned = await self.get(principal, hook_id)
        async with self._database.transaction() as unit:
            hook = await self._locked(unit, hook_id)
            changed = replace(
                hook,
                url=hook.url if url is None else url,
                topics=hook.topics if checked is None else checked,
                description=hook.description if description is None else description,
                active=hook.active if active is None else active,
            )
            if active or url is not None:
                changed = replace(changed, failures=0, failing_since=None, open_until=None, disabled_reason="")
            await store.replace_hook(unit.connection, changed)
            self._tell(unit, principal, "webhooks.changed", OwnedHook(changed, owned.tenant))
        return OwnedHook(changed, owned.tenant)

    async def rotate(self, principal: Principal, hook_id: str, secret: str | None = None) -> NewHook:
        """Another secret, from the next attempt on. Raises `WebhookUnknown`, `Denied`, `SecretWeak`."""
        text = _checked_secret(secret) if secret is not None else _new_secret()
        owned = await self.get(principal, hook_id)
        async with self._database.transaction() as unit:
            changed = replace(await self._locked(unit, hook_id), sealed_secret=self._sealed(hook_id, text))
            await store.replace_hook(unit.connection, changed)
            self._tell(unit, principal, "webhooks.rotated", OwnedHook(changed, owned.tenant))
        return NewHook(OwnedHook(changed, owned.tenant), text)

    async def delete(self, principal: Principal, hook_id: str) -> None:
        """With its deliveries. Raises `WebhookUnknown`, `Denied`."""
        owned = await self.get(principal, hook_id)
        async with self._database.transaction() as unit:
            await store.delete_hook(unit.connection, hook_id)
            self._tell(unit, principal, "webhooks.deleted", owned)

    async def ping(self, principal: Principal, hook_id: str) -> Delivery:
        """Send a test event, whatever topics the hook wants. Raises `WebhookUnknown`, `Denied`."""
        owned = await self.get(principal, hook_id)
        made = self._fanout.ping(owned.hook)
        async with self._database.transaction() as unit:
            await self._locked(unit, hook_id)
            await store.add_deliveries(unit.connection, [made])
        return made

    async def deliveries(
        self, principal: Principal, hook_id: str, state: DeliveryState | None, page: PageRequest
    ) -> Page[Delivery]:
        """The newest first. Raises `WebhookUnknown`, `Denied`."""
        await self.get(principal, hook_id)
        async with self._database.reading() as connection:
            return await store.page_of_deliveries(connection, hook_id, state, page)

    async def delivery(
        self, principal: Principal, hook_id: str, delivery_id: str
    ) -> tuple[Delivery, Sequence[Attempt]]:
        """Raises `WebhookUnknown`, `DeliveryUnknown`, `Denied`."""
        await self.get(principal, hook_id)
        async with self._database.reading() as connection:
            found = await store.find_delivery(connection, hook_id, delivery_id)
            tried = await store.attempts_of(connection, delivery_id)
        if found is None:
            raise DeliveryUnknown(f"there is no delivery {delivery_id[:80]!r}", action="list the deliveries")
        return found, tried

    async def redeliver(self, principal: Principal, hook_id: str, delivery_id: str) -> Delivery:
        """Send what was delivered or given up once more, with the same event id.

        Raises `WebhookUnknown`, `DeliveryUnknown`, `DeliveryUnderway`, `Denied`.
        """
        found, _ = await self.delivery(principal, hook_id, delivery_id)
        if found.state is DeliveryState.WAITING:
            raise DeliveryUnderway(f"delivery {delivery_id} waits already", action="look at its attempts")
        now = self._clock.now()
        async with self._database.transaction() as unit:
            await store.send_again(unit.connection, delivery_id, now, now + self._lifetime)
        again, _ = await self.delivery(principal, hook_id, delivery_id)
        return again

    async def tidy(self, keep: timedelta) -> tuple[int, int]:
        """For a periodic job: give up what is over, forget what ended long ago; returns how many of each."""
        now = self._clock.now()
        async with self._database.transaction() as unit:
            given_up = await store.expire(unit.connection, now)
            return given_up, await store.forget_ended(unit.connection, now - keep)

    async def _owned(self, principal: Principal, hook: Hook | None, hook_id: str) -> OwnedHook:
        tenant = None
        if hook is not None and hook.tenant_id is not None:
            tenant = (await self._tenants.names_of([hook.tenant_id])).get(hook.tenant_id)
            if tenant is None or not principal.may(Permission.TENANT_READ, tenant):
                hook = None
        elif hook is not None and not principal.may(Permission.PLATFORM_MANAGE):
            hook = None
        if hook is None:
            principal.require(Permission.PLATFORM_READ)  # a login first: nobody may ask which ids there are
            raise WebhookUnknown(f"there is no webhook {hook_id[:80]!r}", action="list the webhooks")
        _require(principal, tenant)
        return OwnedHook(hook, tenant)

    async def _locked(self, unit: UnitOfWork, hook_id: str) -> Hook:
        hook = await store.find_hook(unit.connection, hook_id, lock=True)
        if hook is None:
            raise WebhookUnknown(f"there is no webhook {hook_id[:80]!r}", action="list the webhooks")
        return hook

    def _sealed(self, hook_id: str, secret: str) -> bytes:
        return self._box.seal(secret.encode(), f"webhooks/{hook_id}")

    def _tell(self, unit: UnitOfWork, principal: Principal, operation: str, owned: OwnedHook) -> None:
        hook = owned.hook
        # Not the whole address: a query may hold a secret.
        details = {"url": hook.url.partition("?")[0], "topics": list(hook.topics), "active": hook.active}
        self._trail.record(
            unit, act_of(principal, operation, tenant=owned.tenant or "", subject=hook.id, details=details)
        )


def _require(principal: Principal, tenant: str | None) -> None:
    if tenant is None:
        principal.require(Permission.PLATFORM_MANAGE)
    else:
        principal.require(Permission.TENANT_MANAGE, tenant)


def _new_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(32)


def _checked_secret(secret: str) -> str:
    if not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET or not secret.isascii() or not secret.isprintable():
        raise SecretWeak(
            f"a secret has {_SHORTEST_SECRET} to {_LONGEST_SECRET} printable ASCII characters",
            action="leave it out and one is made",
        )
    return secret
