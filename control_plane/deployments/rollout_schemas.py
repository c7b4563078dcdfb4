"""Wire models of a deployment's rollouts and of its revisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from control_plane.deployments.model import OnFailure, Pace, Revision, RolloutState
from control_plane.deployments.reading import DeploymentView
from control_plane.deployments.rollouts import Wish
from control_plane.instances.model import InstanceSpec
from control_plane.instances.schemas import SpecBody

_IMAGE = Field(max_length=600, examples=["acme/web:1.5"])


class PaceBody(BaseModel):
    """How fast, and when not at all."""

    model_config = ConfigDict(extra="forbid")

    max_unavailable: int = Field(default=1, description="how many may not serve because of the rollout")
    max_surge: int = Field(default=0, description="how many more there may be meanwhile, where hosts have room")
    canaries: int = Field(default=0, description="so many first, the others once those are well")
    healthy_seconds: float = Field(
        default=10, ge=0, le=3600, description="how long one must be well, or failed, to count as that"
    )
    patience_seconds: float = Field(
        default=600, ge=0, le=86400, description="within which it must be well, without what fetching takes"
    )
    max_failures: int = Field(default=0, description="how many may fail before the rollout stops")
    on_failure: OnFailure = Field(default=OnFailure.PAUSE, description="what happens then")

    def pace(self) -> Pace:
        return Pace(
            max_unavailable=self.max_unavailable,
            max_surge=self.max_surge,
            canaries=self.canaries,
            healthy=timedelta(seconds=self.healthy_seconds),
            patience=timedelta(seconds=self.patience_seconds),
            max_failures=self.max_failures,
            on_failure=self.on_failure,
        )

    @classmethod
    def of(cls, pace: Pace) -> PaceBody:
        return cls(
            max_unavailable=pace.max_unavailable,
            max_surge=pace.max_surge,
            canaries=pace.canaries,
            healthy_seconds=pace.healthy.total_seconds(),
            patience_seconds=pace.patience.total_seconds(),
            max_failures=pace.max_failures,
            on_failure=pace.on_failure,
        )


class ImageBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image: str = _IMAGE
    pace: PaceBody | None = Field(default=None, description="left out: as in the last rollout")

    def wish(self) -> Wish:
        return Wish(image=self.image, pace=None if self.pace is None else self.pace.pace())


class ReviseBody(SpecBody):
    """The whole specification as it shall be: what is left out is as the image has it, not as it was."""

    image: str | None = Field(default=None, max_length=600, description="left out: the present one, by its digest")
    pace: PaceBody | None = Field(default=None, description="left out: as in the last rollout")

    def wish(self) -> Wish:
        return Wish(self.image, self.spec(), None if self.pace is None else self.pace.pace())


class UndoBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: int | None = Field(default=None, description="the revision to go back to; left out: the one before")


class RolloutBody(BaseModel):
    id: str = Field(description="of the deployment")
    tenant: str
    name: str
    image: str
    revision: int
    base: int = Field(description="the last revision that was well everywhere")
    state: RolloutState
    reason: str = Field(description="why it stands, or what it waits for")
    total: int
    updated: int = Field(description="how many were told")
    running: int
    unplaced: int
    pace: PaceBody
    began_at: datetime | None
    ended_at: datetime | None


class RevisionBody(BaseModel):
    number: int
    image: str
    digests: Mapping[str, str] = Field(description="of the manifests, by architecture")
    changed: Sequence[str] = Field(description="fields of the specification that the one before has otherwise")
    cause: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None = Field(description="when it was well everywhere; null: it never was")


class HistoryBody(BaseModel):
    """The newest first."""

    revisions: Sequence[RevisionBody]


def rollout_body(view: DeploymentView) -> RolloutBody:
    one, rollout = view.deployment, view.deployment.rollout
    return RolloutBody(
        id=one.id,
        tenant=one.tenant,
        name=one.name,
        image=one.reference,
        revision=one.revision,
        base=rollout.base,
        state=rollout.state,
        reason=rollout.reason,
        total=len(view.slots),
        updated=sum(slot.revision == one.revision for slot in view.slots),
        running=view.running,
        unplaced=one.unplaced,
        pace=PaceBody.of(rollout.pace),
        began_at=rollout.began_at,
        ended_at=rollout.ended_at,
    )


def history_body(history: Sequence[Revision]) -> HistoryBody:
    before: list[Revision | None] = [*history[1:], None]
    return HistoryBody(revisions=[_revision(one, prior) for one, prior in zip(history, before, strict=True)])


def _revision(one: Revision, before: Revision | None) -> RevisionBody:
    return RevisionBody(
        number=one.number,
        image=one.reference,
        digests={name: str(image.manifest.digest) for name, image in sorted(one.images.items())},
        changed=[] if before is None else _differences(before.spec, one.spec),
        cause=one.cause,
        created_by=one.created_by,
        created_at=one.created_at,
        finished_at=one.finished_at,
    )


def _differences(before: InstanceSpec, after: InstanceSpec) -> list[str]:
    return [one.name for one in fields(InstanceSpec) if getattr(before, one.name) != getattr(after, one.name)]
