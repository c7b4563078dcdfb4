"""Hooks, deliveries and attempts; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Conflict, Invalid, NotFound

MAX_TOPICS = 50
# Topics that concern people outside; the rest is between our own parts.
OFFERED = ("registry.", "catalogue.", "instances.", "scanning.", "tenants.", "updates.", "webhooks.")
PING = "webhooks.ping"
_TOPIC = re.compile(r"\*|[a-z_]{1,60}\.(?:\*|[a-z_]{1,60})")


class WebhookUnknown(NotFound):
    code = "webhook_unknown"


class DeliveryUnknown(NotFound):
    code = "webhook_delivery_unknown"


class TopicInvalid(Invalid):
    code = "webhook_topic_invalid"


class SecretWeak(Invalid):
    code = "webhook_secret_weak"


class WebhooksFull(Conflict):
    """A tenant has as many as it may have."""

    code = "webhooks_full"


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hook:
    """`tenant_id` None: the platform's. `failures` counts attempts that failed since one succeeded; until `open_until`
    nothing is tried. `dropped` counts messages that found the backlog full.
    """

    id: str
    tenant_id: str | None
    url: str
    topics: tuple[str, ...]
    description: str
    active: bool
    sealed_secret: bytes = field(repr=False)
    created_at: datetime
    created_by: str
    failures: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None
    disabled_reason: str = ""
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """`body` is what is sent, the same at each attempt."""

    id: str
    hook_id: str
    message_id: str
    topic: str
    body: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    last_status: int | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    at: datetime
    status: int | None
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt: a status, or why there is none. `retry_after` is in seconds."""

    status: int | None
    error: str = ""
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The receiver wants no more (RFC 9110 section 15.5.11)."""
        return self.status == 410


def check_topics(topics: Sequence[str]) -> tuple[str, ...]:
    """Each `*`, `domain.*` or a whole topic. Raises `TopicInvalid`."""
    if not topics or len(topics) > MAX_TOPICS:
        raise TopicInvalid(f"a webhook has 1 to {MAX_TOPICS} topics", action="name them, or * for all")
    for topic in topics:
        if not _TOPIC.fullmatch(topic) or (topic != "*" and not topic.startswith(OFFERED)):
            raise TopicInvalid(
                f"{topic[:80]!r} is no topic", action=f"write *, or one that begins with {', '.join(OFFERED)}"
            )
    return tuple(dict.fromkeys(topics))


def wants(topics: Sequence[str], topic: str) -> bool:
    """Whether a hook with these topics wants messages of that one."""
    if not topic.startswith(OFFERED):
        return False
    domain = topic.partition(".")[0]
    return any(each in ("*", topic, f"{domain}.*") for each in topics)
