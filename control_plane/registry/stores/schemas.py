"""Wire forms of `/api/v1/stores`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel, Field

from control_plane.registry.stores.model import ScrubOverview, StoreOverview
from control_plane.registry.stores.scrubbing.store import LostBlob


class TalliedView(BaseModel):
    copies: int
    bytes: int


class StoreView(BaseModel):
    name: str
    tier: str = Field(description="hot, warm or cold")
    location: str
    reach: str = Field(description="up, away, or lost (away for an hour)")
    free_bytes: int | None = Field(description="null where room is not known")
    present: TalliedView
    damaged: TalliedView
    missing: TalliedView

    @classmethod
    def of(cls, store: StoreOverview) -> StoreView:
        return cls.model_validate(asdict(store))


class ScrubView(BaseModel):
    every_days: float
    copies: int = Field(description="known copies in all stores")
    due: int = Field(description="copies that wait to be read")
    oldest: datetime | None = Field(description="when the copy was read that waits longest")
    damaged: int
    missing: int
    lost: int = Field(description="blobs of which nobody has the bytes")
    short: int = Field(description="blobs with fewer good copies than wanted")
    wanted_copies: int
    wanted_public_copies: int
    possible_copies: int = Field(description="no blob can have more: the number of stores")

    @classmethod
    def of(cls, scrub: ScrubOverview) -> ScrubView:
        return cls.model_validate(asdict(scrub))


class LostView(BaseModel):
    digest: str
    size_bytes: int
    found_at: datetime
    reason: str
    repositories: list[str] = Field(description="the first that need it")

    @classmethod
    def of(cls, blob: LostBlob) -> LostView:
        return cls(
            digest=str(blob.digest),
            size_bytes=blob.size,
            found_at=blob.found_at,
            reason=blob.reason,
            repositories=list(blob.repositories),
        )


class ScrubRequest(BaseModel):
    """Neither: whatever is due."""

    digest: str | None = Field(default=None, max_length=140, description="copies of this blob")
    repository: str | None = Field(default=None, max_length=255, description="copies of all blobs of this repository")


class ScrubStartedView(BaseModel):
    job: str
