"""The services of this domain, wired to each other; `app` calls `build_webhooks` once and hands the parts on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.sealing import SealedBox
from control_plane.tenants.directory import TenantDirectory
from control_plane.web.outbound import Outbound
from control_plane.webhooks.dispatcher import Dispatcher, DispatchLimits
from control_plane.webhooks.fanout import Fanout
from control_plane.webhooks.sending import OutboundSender
from control_plane.webhooks.service import WebhookService


@dataclass(frozen=True, slots=True)
class Webhooks:
    service: WebhookService
    dispatcher: Dispatcher
    fanout: Fanout

    async def tap(self, announcements: Sequence[Announcement]) -> None:
        """For the relay."""
        if await self.fanout(announcements):
            self.dispatcher.wake()


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """`source` names this installation in every event; `lifetime` is how long a delivery is tried."""

    source: str
    lifetime: timedelta
    limits: DispatchLimits


def build_webhooks(
    database: Database,
    clock: Clock,
    box: SealedBox,
    tenants: TenantDirectory,
    outbound: Outbound,
    trail: AuditTrail,
    chance: Callable[[], float],
    options: WebhookOptions,
) -> Webhooks:
    fanout = Fanout(database, clock, options.source, options.lifetime)
    sender = OutboundSender(outbound, options.limits.timeout_seconds)
    return Webhooks(
        service=WebhookService(database, clock, box, tenants, outbound, trail, fanout, options.lifetime),
        dispatcher=Dispatcher(database, clock, box, sender, trail, options.limits, chance),
        fanout=fanout,
    )
