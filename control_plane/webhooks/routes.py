"""HTTP for webhooks and their deliveries; for administrators of a tenant, and the platform admin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import SecretStr

from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery
from control_plane.webhooks.dispatcher import Dispatcher
from control_plane.webhooks.model import DeliveryState
from control_plane.webhooks.schemas import (
    DeliveryDetailView,
    DeliveryView,
    NewWebhookView,
    SecretBody,
    WebhookBody,
    WebhookChange,
    WebhookView,
)
from control_plane.webhooks.service import WebhookService


class WebhookRoutes:
    def __init__(self, webhooks: WebhookService, dispatcher: Dispatcher) -> None:
        self._webhooks = webhooks
        self._dispatcher = dispatcher

    def add_to(self, router: APIRouter) -> None:
        root, one = "/api/v1/webhooks", "/api/v1/webhooks/{webhook_id}"
        delivery = f"{one}/deliveries/{{delivery_id}}"
        for path, endpoint, method, status in (
            (root, self.list, "GET", 200),
            (root, self.create, "POST", 201),
            (one, self.get, "GET", 200),
            (one, self.change, "PATCH", 200),
            (one, self.delete, "DELETE", 204),
            (f"{one}/secret", self.rotate, "PUT", 200),
            (f"{one}/ping", self.ping, "POST", 202),
            (f"{one}/deliveries", self.deliveries, "GET", 200),
            (delivery, self.delivery, "GET", 200),
            (f"{delivery}/redeliver", self.redeliver, "POST", 202),
        ):
            router.add_api_route(path, endpoint, methods=[method], tags=["webhooks"], status_code=status)

    async def list(
        self,
        principal: CurrentPrincipal,
        page: PageQuery,
        tenant: Annotated[str | None, Query(max_length=64, description="absent: those of the platform")] = None,
    ) -> Listing[WebhookView]:
        """The webhooks of a tenant, or of the platform."""
        return Listing[WebhookView].of(await self._webhooks.list(principal, tenant, page), WebhookView.of)

    async def create(self, principal: CurrentPrincipal, body: WebhookBody) -> Envelope[NewWebhookView]:
        """Have events sent to an address, signed. The secret is shown now and never again."""
        made = await self._webhooks.create(
            principal,
            body.tenant,
            body.url,
            body.topics,
            description=body.description,
            secret=_plain(body.secret),
        )
        return Envelope(data=NewWebhookView.made(made))

    async def get(self, principal: CurrentPrincipal, webhook_id: str) -> Envelope[WebhookView]:
        """One webhook and how it fares."""
        return Envelope(data=WebhookView.of(await self._webhooks.get(principal, webhook_id)))

    async def change(self, principal: CurrentPrincipal, webhook_id: str, body: WebhookChange) -> Envelope[WebhookView]:
        """Change its address, topics or description; stop it, or make it active again."""
        changed = await self._webhooks.change(
            principal,
            webhook_id,
            url=body.url,
            topics=body.topics,
            description=body.description,
            active=body.active,
        )
        return Envelope(data=WebhookView.of(changed))

    async def delete(self, principal: CurrentPrincipal, webhook_id: str) -> None:
        """Remove it, with what it should still have been sent."""
        await self._webhooks.delete(principal, webhook_id)

    async def rotate(
        self, principal: CurrentPrincipal, webhook_id: str, body: Annotated[SecretBody | None, Body()] = None
    ) -> Envelope[NewWebhookView]:
        """Give it another secret, from the next attempt on."""
        secret = _plain(body.secret) if body is not None else None
        return Envelope(data=NewWebhookView.made(await self._webhooks.rotate(principal, webhook_id, secret)))

    async def ping(self, principal: CurrentPrincipal, webhook_id: str) -> Envelope[DeliveryView]:
        """Send it a test event."""
        made = await self._webhooks.ping(principal, webhook_id)
        self._dispatcher.wake()
        return Envelope(data=DeliveryView.of(made))

    async def deliveries(
        self,
        principal: CurrentPrincipal,
        webhook_id: str,
        page: PageQuery,
        state: Annotated[DeliveryState | None, Query()] = None,
    ) -> Listing[DeliveryView]:
        """What was sent and is to be sent, the newest first."""
        found = await self._webhooks.deliveries(principal, webhook_id, state, page)
        return Listing[DeliveryView].of(found, DeliveryView.of)

    async def delivery(
        self, principal: CurrentPrincipal, webhook_id: str, delivery_id: str
    ) -> Envelope[DeliveryDetailView]:
        """One delivery with its event and every attempt."""
        found, attempts = await self._webhooks.delivery(principal, webhook_id, delivery_id)
        return Envelope(data=DeliveryDetailView.detailed(found, attempts))

    async def redeliver(self, principal: CurrentPrincipal, webhook_id: str, delivery_id: str) -> Envelope[DeliveryView]:
        """Send an event once more, under the same id."""
        again = await self._webhooks.redeliver(principal, webhook_id, delivery_id)
        self._dispatcher.wake()
        return Envelope(data=DeliveryView.of(again))


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def build_router(webhooks: WebhookService, dispatcher: Dispatcher) -> APIRouter:
    router = APIRouter()
    WebhookRoutes(webhooks, dispatcher).add_to(router)
    return router
