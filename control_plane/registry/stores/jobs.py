"""When the scrub runs. A pass takes at most ten minutes; what is left is taken by the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from common.digest import Digest
from control_plane.database import Database
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.stores.copies import store as copies
from control_plane.registry.stores.copies.notes import CopyNotes
from control_plane.registry.stores.placement import jobs as placement_jobs
from control_plane.registry.stores.placement.service import PlacementService
from control_plane.registry.stores.scrubbing import store as scrubs
from control_plane.registry.stores.scrubbing.scrubber import Scrubbed, Scrubber
from control_plane.registry.stores.service import SCRUB_KIND, SCRUB_SOME_KIND

SCHEDULES = (*placement_jobs.SCHEDULES, Schedule(SCRUB_KIND, SCRUB_KIND, timedelta(minutes=5)))


def build_handlers(
    database: Database, notes: CopyNotes, placement: PlacementService, scrubber: Scrubber
) -> Mapping[str, Handler]:
    async def scrub(_job: RunningJob) -> Mapping[str, Any] | None:
        return asdict(await scrubber.run())

    async def scrub_some(job: RunningJob) -> Mapping[str, Any] | None:
        """Who asks wants to see it right now: copies that are due are made first."""
        await notes.flush()
        await placement.place()
        async with database.reading() as connection:
            if "digest" in job.payload:
                digest = Digest.parse(job.payload["digest"])
                named = list((await copies.copies_of(connection, [digest]))[digest])
            else:
                named = await scrubs.copies_in(connection, job.payload["repository"])
        total = Scrubbed()
        for number, copy in enumerate(named):
            await scrubber.look_at([copy], total)
            await job.report(number / len(named), f"{total.read} copies read, {total.healed} healed")
        return asdict(total)

    return {**placement_jobs.build_handlers(placement), SCRUB_KIND: scrub, SCRUB_SOME_KIND: scrub_some}
