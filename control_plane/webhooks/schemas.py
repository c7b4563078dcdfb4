"""Wire forms of the webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, SecretStr

from control_plane.webhooks.model import Attempt, Delivery
from control_plane.webhooks.service import NewHook, OwnedHook

_TOPICS = "each *, <domain>.* or a whole topic, such as registry.image_pushed"


class WebhookBody(BaseModel):
    url: str = Field(min_length=1, max_length=2000, description="https address that takes POST requests")
    topics: list[str] = Field(min_length=1, max_length=50, description=_TOPICS)
    tenant: str | None = Field(default=None, max_length=64, description="absent: of the platform")
    description: str = Field(default="", max_length=255)
    secret: SecretStr | None = Field(default=None, description="that events are signed with; absent: one is made")


class WebhookChange(BaseModel):
    """What is absent stays as it is."""

    url: str | None = Field(default=None, min_length=1, max_length=2000)
    topics: list[str] | None = Field(default=None, min_length=1, max_length=50, description=_TOPICS)
    description: str | None = Field(default=None, max_length=255)
    active: bool | None = Field(default=None, description="true also forgets its failures")


class SecretBody(BaseModel):
    secret: SecretStr | None = Field(default=None, description="absent: one is made")


class WebhookView(BaseModel):
    id: str
    tenant: str | None
    url: str
    topics: list[str]
    description: str
    active: bool
    created_at: datetime
    created_by: str
    failures: int = Field(description="attempts that failed since one succeeded")
    failing_since: datetime | None
    paused_until: datetime | None = Field(description="it failed again and again and is left alone until then")
    disabled_reason: str
    dropped: int = Field(description="events that found too many others waiting")

    @classmethod
    def of(cls, owned: OwnedHook) -> WebhookView:
        return cls(**_shown(owned))


class NewWebhookView(WebhookView):
    secret: str = Field(description="shown now and never again")

    @classmethod
    def made(cls, new: NewHook) -> NewWebhookView:
        return cls(**_shown(new.owned), secret=new.secret)


class AttemptView(BaseModel):
    number: int
    at: datetime
    status: int | None
    error: str
    seconds: float


class DeliveryView(BaseModel):
    id: str
    event_id: str = Field(description="the `id` of the CloudEvent, the same at each attempt")
    topic: str
    state: str = Field(description="waiting, delivered or failed")
    attempts: int
    created_at: datetime
    next_at: datetime | None = Field(description="of the next attempt; null when it has ended")
    ended_at: datetime | None
    last_status: int | None
    last_error: str

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryView:
        return cls(**_delivered(delivery))


class DeliveryDetailView(DeliveryView):
    event: str = Field(description="the body that is sent")
    history: list[AttemptView]

    @classmethod
    def detailed(cls, delivery: Delivery, attempts: Sequence[Attempt]) -> DeliveryDetailView:
        history = [AttemptView(**{name: getattr(each, name) for name in AttemptView.model_fields}) for each in attempts]
        return cls(**_delivered(delivery), event=delivery.body, history=history)


def _shown(owned: OwnedHook) -> dict[str, Any]:
    hook = owned.hook
    return {
        "id": hook.id,
        "tenant": owned.tenant,
        "url": hook.url,
        "topics": list(hook.topics),
        "description": hook.description,
        "active": hook.active,
        "created_at": hook.created_at,
        "created_by": hook.created_by,
        "failures": hook.failures,
        "failing_since": hook.failing_since,
        "paused_until": hook.open_until,
        "disabled_reason": hook.disabled_reason,
        "dropped": hook.dropped,
    }


def _delivered(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "event_id": delivery.message_id,
        "topic": delivery.topic,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "next_at": delivery.next_at if delivery.ended_at is None else None,
        "ended_at": delivery.ended_at,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
    }
