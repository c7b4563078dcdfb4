"""The wire form of what the collection did and would do, and of the trash."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from control_plane.registry.collection.model import Missing, Preview, Removal, Restored, Run, TrashedManifest


class CandidateView(BaseModel):
    """`verdict`: unlink (a repository's link ends), condemn (nobody links it; its bytes go later), delete (bytes)."""

    verdict: str
    repository: str
    digest: str
    size_bytes: int
    reason: str
    due_at: datetime


class PreviewView(BaseModel):
    """Totals are of everything that is due at that moment; `candidates` are the first of them."""

    at: datetime
    purges: int
    links: int
    links_bytes: int
    condemned: int
    blobs: int
    blobs_bytes: int
    kept: int
    candidates: list[CandidateView]

    @classmethod
    def of(cls, found: Preview) -> PreviewView:
        candidates = [
            CandidateView(
                verdict=each.verdict,
                repository=each.repository,
                digest=str(each.digest),
                size_bytes=each.size,
                reason=each.reason,
                due_at=each.due_at,
            )
            for each in found.candidates
        ]
        return cls(
            **{name: value for name, value in asdict(found).items() if name != "candidates"}, candidates=candidates
        )


class RunView(BaseModel):
    """`finished_at` is null while it runs, and for one that was killed."""

    id: str
    kind: str
    started_at: datetime
    finished_at: datetime | None
    examined: int
    purged: int
    unlinked: int
    deleted: int
    deleted_bytes: int
    adopted: int
    failures: int

    @classmethod
    def of(cls, run: Run) -> RunView:
        return cls(
            id=run.run_id,
            kind=run.kind.value,
            started_at=run.started_at,
            finished_at=run.finished_at,
            **asdict(run.tally),
        )


class RemovalView(BaseModel):
    digest: str
    size_bytes: int
    reason: str
    removed_at: datetime
    run: str

    @classmethod
    def of(cls, removal: Removal) -> RemovalView:
        return cls(
            digest=str(removal.digest),
            size_bytes=removal.size,
            reason=removal.reason,
            removed_at=removal.removed_at,
            run=removal.run_id,
        )


class MissingView(BaseModel):
    """A blob that repositories hold and the store does not, or (`stored_bytes`) not in its length."""

    digest: str
    size_bytes: int
    stored_bytes: int | None
    repositories: int
    found_at: datetime

    @classmethod
    def of(cls, missing: Missing) -> MissingView:
        return cls(
            digest=str(missing.digest),
            size_bytes=missing.size,
            stored_bytes=missing.stored_size,
            repositories=missing.repositories,
            found_at=missing.found_at,
        )


class StartRequest(BaseModel):
    kind: Literal["review", "sweep"] = Field(default="review", description="what is due, or the whole store")


class StartedView(BaseModel):
    job: str


class TrashView(BaseModel):
    """`deleted_by` is empty for what a rule deleted. `size_bytes`: the manifest and what it needs."""

    digest: str
    media_type: str
    size_bytes: int
    tags: list[str]
    deleted_at: datetime
    deleted_by: str
    purge_after: datetime

    @classmethod
    def of(cls, kept: TrashedManifest) -> TrashView:
        return cls(
            digest=str(kept.digest),
            media_type=kept.media_type,
            size_bytes=kept.size_bytes,
            tags=list(kept.tags),
            deleted_at=kept.deleted_at,
            deleted_by=kept.deleted_by,
            purge_after=kept.purge_after,
        )


class UndeleteRequest(BaseModel):
    reference: str = Field(description="digest of a deleted manifest, or a deleted tag", max_length=160)


class RestoredView(BaseModel):
    """`skipped`: tags that mean something else by now and were left alone."""

    repository: str
    manifests: list[str]
    tags: list[str]
    skipped: list[str]

    @classmethod
    def of(cls, restored: Restored) -> RestoredView:
        return cls(
            repository=restored.repository,
            manifests=[str(digest) for digest in restored.manifests],
            tags=list(restored.tags),
            skipped=list(restored.skipped),
        )


class PurgedView(BaseModel):
    purged: int
