"""Wire models of `/api/v1/instances/{id}/migration`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from control_plane.moves.model import Move, Stage


class MigrationBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str = Field(max_length=300, description="where it is to go: id, or idc/name")
    within_seconds: int = Field(default=3600, description="taken back if its copy is not there by then")

    def within(self) -> timedelta:
        """What no timedelta can hold is outside of what is allowed anyway."""
        return timedelta(seconds=max(0, min(self.within_seconds, 1 << 30)))


class MigrationView(BaseModel):
    id: str
    instance_id: str
    tenant: str
    name: str
    source_host: str = Field(description="idc/name")
    target_host: str = Field(description="idc/name")
    stage: Stage = Field(
        description="stopping, copying, starting, proving, clearing (it runs at the target), returning; at the end "
        "done, failed or cancelled"
    )
    copied_bytes: int
    detail: str = Field(description="what hinders it, or why it was taken back")
    requested_by: str
    created_at: datetime
    stage_at: datetime = Field(description="since when it is in this stage")
    give_up_at: datetime
    ended_at: datetime | None


def migration_view(move: Move, labels: Mapping[str, str]) -> MigrationView:
    return MigrationView(
        id=move.id,
        instance_id=move.instance_id,
        tenant=move.tenant,
        name=move.name,
        source_host=labels.get(move.source_host_id, move.source_host_id),
        target_host=labels.get(move.target_host_id, move.target_host_id),
        stage=move.stage,
        copied_bytes=move.copied_bytes,
        detail=move.why or move.trouble,
        requested_by=move.requested_by,
        created_at=move.created_at,
        stage_at=move.stage_at,
        give_up_at=move.give_up_at,
        ended_at=move.ended_at,
    )
