"""Background work of the swarm: describing contents and forgetting those that left, keeping its keys young, forgetting
old offences.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from common.digest import Digest
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.swarm import describe
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.describe import Describer
from control_plane.swarm.forgetting import Forgetting
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.model import ContentCorrupted

ROTATE_KIND = "swarm.rotate_content_keys"
FORGET_KIND = "swarm.forget_offences"
ORPHANS_KIND = "swarm.forget_descriptions"
_KEY_LIFE = timedelta(days=30)

SCHEDULES = (
    Schedule(ROTATE_KIND, ROTATE_KIND, timedelta(hours=6)),
    Schedule(FORGET_KIND, FORGET_KIND, timedelta(hours=24)),
    Schedule(ORPHANS_KIND, ORPHANS_KIND, timedelta(hours=24)),
)


def build_handlers(
    describer: Describer, keys: ContentKeys, bad_peers: BadPeers, forgetting: Forgetting
) -> Mapping[str, Handler]:
    async def describe_content(job: RunningJob) -> Mapping[str, Any] | None:
        tenant_id, digest = str(job.payload["tenant_id"]), Digest.parse(str(job.payload["digest"]))
        try:
            described = await describer.describe(tenant_id, digest, job.report)
        except ContentCorrupted as failure:
            # Another try reads the same bytes. Who asks for the metainfo is told, and has it tried again in time.
            return {"corrupted": failure.detail}
        return {"info_hash": described.info_hash.hex()}

    async def rotate_keys(job: RunningJob) -> Mapping[str, Any] | None:
        return {"key_id": await keys.rotate_when_older(_KEY_LIFE)}

    async def forget_offences(job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await bad_peers.forget_old()}

    async def forget_descriptions(job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await forgetting.forget_orphans()}

    return {
        describe.JOB_KIND: describe_content,
        ROTATE_KIND: rotate_keys,
        FORGET_KIND: forget_offences,
        ORPHANS_KIND: forget_descriptions,
    }
