"""Wire models of `/api/v1/preheats`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from common.limits import DailyWindow
from control_plane.fleet.limits.schemas import Time, clock_text, minute_of
from control_plane.instances.model import Phase
from control_plane.instances.schemas import Name
from control_plane.preheats.model import (
    HostProgress,
    IdcProgress,
    PreheatRequest,
    PreheatView,
    State,
    Targets,
    Window,
)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DailyBody(_Asked):
    start: Time
    end: Time
    time_zone: Name = "UTC"

    def window(self) -> DailyWindow:
        return DailyWindow(minute_of(self.start), minute_of(self.end), self.time_zone)


class TargetsBody(_Asked):
    """Hosts by name, or those of IDCs that have all labels, or a share of these; or the regionals alone."""

    idcs: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list, description="empty: every IDC")
    labels: dict[str, str] = Field(default_factory=dict, max_length=16)
    percentage: int = Field(default=100, description="of the hosts that fit, rounded up; always the same ones")
    hosts: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list, description="ids or idc/name")
    regionals_only: bool = False
    architectures: Annotated[list[Name], Field(max_length=16)] = Field(
        default_factory=list, description="GOARCH words; empty: those of the hosts"
    )

    def targets(self) -> Targets:
        return Targets(
            tuple(self.idcs),
            dict(self.labels),
            self.percentage,
            tuple(self.hosts),
            self.regionals_only,
            tuple(self.architectures),
        )


class PreheatBody(_Asked):
    image: str = Field(max_length=600, examples=["acme/web:1.4"])
    tenant: Name | None = Field(default=None, description="whose it is; the image's own tenant if left out")
    targets: TargetsBody = Field(default_factory=TargetsBody)
    starts_at: Moment | None = None
    ends_at: Moment | None = Field(default=None, description="from then on nothing moves; what is there stays")
    daily: DailyBody | None = Field(default=None, description="only in these hours of each day")
    lower_effort: bool = Field(default=True, description="give way to everything that somebody waits for")
    keep_until: Moment | None = Field(default=None, description="null: until it is cancelled (a pin)")

    def request(self) -> PreheatRequest:
        return PreheatRequest(
            tenant=self.tenant or self.image.partition("/")[0],
            image=self.image,
            targets=self.targets.targets(),
            window=Window(self.starts_at, self.ends_at, self.daily.window() if self.daily else None),
            lower_effort=self.lower_effort,
            keep_until=self.keep_until,
        )


class IdcProgressBody(BaseModel):
    """`regional_bytes`: of `total_bytes`, what the regional holds; `held_bytes`: over all hosts."""

    idc: str
    total_bytes: int
    regional_bytes: int
    from_centre_bytes: int
    hosts: int
    hosts_held: int
    held_bytes: int


class HostProgressBody(BaseModel):
    host: str
    host_id: str
    idc: str
    phase: Phase
    detail: str
    total_bytes: int
    held_bytes: int
    held: bool
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int


class PreheatShown(BaseModel):
    id: str
    tenant: str
    image: str
    digests: dict[str, str] = Field(description="manifest by architecture, as the tag meant it then")
    targets: TargetsBody
    starts_at: datetime | None
    ends_at: datetime | None
    daily: DailyBody | None
    lower_effort: bool
    keep_until: datetime | None
    state: State
    next_change_at: datetime | None = Field(description="when it goes on or stops by itself")
    created_by: str
    created_at: datetime
    ended_at: datetime | None
    idcs: list[IdcProgressBody] = Field(description="only of one preheat, not in lists")


def preheat_shown(view: PreheatView) -> PreheatShown:
    preheat = view.preheat
    targets, daily = preheat.targets, preheat.window.daily
    return PreheatShown(
        id=preheat.id,
        tenant=preheat.tenant,
        image=preheat.reference,
        digests={name: str(image.manifest.digest) for name, image in preheat.images.items()},
        targets=TargetsBody(
            idcs=list(targets.idcs),
            labels=dict(targets.labels),
            percentage=targets.percentage,
            hosts=list(targets.hosts),
            regionals_only=targets.regionals_only,
            architectures=list(targets.architectures),
        ),
        starts_at=preheat.window.starts_at,
        ends_at=preheat.window.ends_at,
        daily=None
        if daily is None
        else DailyBody(
            start=clock_text(daily.from_minute), end=clock_text(daily.until_minute), time_zone=daily.time_zone
        ),
        lower_effort=preheat.lower_effort,
        keep_until=preheat.keep_until,
        state=view.state,
        next_change_at=view.next_change_at,
        created_by=preheat.created_by,
        created_at=preheat.created_at,
        ended_at=preheat.ended_at,
        idcs=[_idc(one) for one in view.idcs],
    )


def host_progress_body(one: HostProgress) -> HostProgressBody:
    return HostProgressBody(
        host=one.host,
        host_id=one.host_id,
        idc=one.idc,
        phase=one.phase,
        detail=one.detail,
        total_bytes=one.total_bytes,
        held_bytes=one.held_bytes,
        held=one.held,
        from_centre_bytes=one.from_centre_bytes,
        from_regional_bytes=one.from_regional_bytes,
        from_peers_bytes=one.from_peers_bytes,
    )


def _idc(one: IdcProgress) -> IdcProgressBody:
    return IdcProgressBody(
        idc=one.idc,
        total_bytes=one.total_bytes,
        regional_bytes=one.regional_bytes,
        from_centre_bytes=one.from_centre_bytes,
        hosts=one.hosts,
        hosts_held=one.hosts_held,
        held_bytes=one.held_bytes,
    )
