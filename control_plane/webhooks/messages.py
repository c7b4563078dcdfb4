"""What webhooks announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class WebhookDisabled(Message):
    """Nothing is sent to it any more until somebody makes it active again."""

    topic: ClassVar[str] = "webhooks.disabled"
    webhook_id: str
    tenant_id: str | None
    reason: str
