"""When copies are looked at: what is due every minute, all stores once a day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.stores.placement.service import PlacementService

PLACE_KIND = "registry.place_copies"
CENSUS_KIND = "registry.count_copies"

SCHEDULES = (
    Schedule(PLACE_KIND, PLACE_KIND, timedelta(minutes=1)),
    Schedule(CENSUS_KIND, CENSUS_KIND, timedelta(days=1)),
)


def build_handlers(placement: PlacementService) -> Mapping[str, Handler]:
    async def place(_job: RunningJob) -> Mapping[str, Any] | None:
        return asdict(await placement.place())

    async def count(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"found": await placement.census()}

    return {PLACE_KIND: place, CENSUS_KIND: count}
