"""The services of this domain, wired to each other; `app` calls `build_auditing` once and hands the parts on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from common.clock import Clock
from control_plane.audit.reading import AuditReading
from control_plane.audit.retention import Retention
from control_plane.audit.sealer import Sealer
from control_plane.audit.seals import Seals
from control_plane.audit.service import AuditTrail, TrailOptions
from control_plane.database import Database
from control_plane.sealing import SealedBox


@dataclass(frozen=True, slots=True)
class Auditing:
    trail: AuditTrail
    sealer: Sealer
    reading: AuditReading
    retention: Retention

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """Enter it before the listeners: what their last answers noted is written when they are closed."""
        yield
        await self.trail.drain()


def build_auditing(
    database: Database,
    clock: Clock,
    box: SealedBox,
    options: TrailOptions,
    keep: timedelta,
) -> Auditing:
    trail, seals = AuditTrail(database, clock, options), Seals(box)
    retention = Retention(database, trail, seals, clock, keep)
    return Auditing(trail, Sealer(database, clock), AuditReading(database, seals), retention)
