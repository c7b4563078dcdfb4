"""What the collection hands around; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from common.digest import Digest


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient, and in what steps.

    grace: from the moment that something is not needed until it goes; how long a deletion can be undone.
    settle: from the last link's end until the blob's bytes go, at least: pulls that began before end well. Also how
    long a client that was told of a blob may take for its manifest when somebody empties the trash by hand.
    reprieve: between condemning and deleting (`blob_lives.REPRIEVE`).
    jitter_seconds: reviews that were queued together are spread over so long.
    link_batch, blob_batch: rows of one transaction. parallel: deletions in the store at once.
    delete_seconds: after this the deletions of a batch are given up for now; below the 10 s that others wait for the
    database's writer on SQLite.
    pass_seconds: a pass ends after this and the next one goes on. records: how long runs and removals are remembered.
    """

    grace: timedelta = timedelta(hours=24)
    settle: timedelta = timedelta(hours=1)
    reprieve: timedelta = timedelta(hours=1)
    jitter_seconds: float = 60.0
    link_batch: int = 500
    blob_batch: int = 200
    parallel: int = 16
    delete_seconds: float = 8.0
    pass_seconds: float = 600.0
    records: timedelta = timedelta(days=90)


class Reason(StrEnum):
    """Why something is reviewed, and at last why it went."""

    PUSHED = "pushed"  # and no manifest followed
    RELIED_ON = "relied_on"  # HEAD or a repeated push said that it is there, and no manifest followed
    MANIFEST_DELETED = "manifest_deleted"
    UNLINKED = "unlinked"
    STRAY = "stray"  # bytes without a row


class Verdict(StrEnum):
    DROP = "drop"  # it is needed: forget the review
    POSTPONE = "postpone"
    UNLINK = "unlink"
    CONDEMN = "condemn"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LinkReview:
    repository_id: str
    digest: Digest
    review_after: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """referenced: by a manifest of the repository. trashed_until: by one in its trash, which is purged then.
    size: None if there is no such link.
    """

    size: int | None
    referenced: bool = False
    trashed_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class BlobReview:
    digest: Digest
    review_after: datetime
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """size: None if there is no such row."""

    size: int | None
    linked: bool = False
    trashed_until: datetime | None = None
    condemned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What one batch did. `failures`: deletions that the store refused, tried again later."""

    examined: int = 0
    purged: int = 0
    unlinked: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    adopted: int = 0
    failures: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.examined + other.examined,
            self.purged + other.purged,
            self.unlinked + other.unlinked,
            self.deleted + other.deleted,
            self.deleted_bytes + other.deleted_bytes,
            self.adopted + other.adopted,
            self.failures + other.failures,
        )


class RunKind(StrEnum):
    REVIEW = "review"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Run:
    """`cursor`: how far a sweep is. `finished_at` None: it runs, or was killed and goes on with the next pass."""

    run_id: str
    kind: RunKind
    started_at: datetime
    finished_at: datetime | None
    tally: Tally
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """A blob whose bytes were deleted."""

    digest: Digest
    size: int
    reason: str
    removed_at: datetime
    run_id: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A blob that repositories link, whose bytes the store does not have, or not in that length."""

    digest: Digest
    size: int
    stored_size: int | None
    repositories: int
    found_at: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """One line of a preview. `verdict`: "unlink" (then there is a repository), "condemn" or "delete"."""

    verdict: str
    repository: str
    digest: Digest
    size: int
    reason: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run at `at` would do. Totals are of everything, `candidates` are the first of them.

    purges: manifests of the trash. links_bytes: what quotas get back, at most. condemned: blobs that nobody links,
    whose bytes go in a later run. blobs_bytes: what the store gets back. kept: reviews that find the thing needed.
    """

    at: datetime
    purges: int = 0
    links: int = 0
    links_bytes: int = 0
    condemned: int = 0
    blobs: int = 0
    blobs_bytes: int = 0
    kept: int = 0
    candidates: tuple[Candidate, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class TrashedManifest:
    repository: str
    digest: Digest
    media_type: str
    size_bytes: int
    tags: tuple[str, ...]
    deleted_at: datetime
    deleted_by: str
    purge_after: datetime


@dataclass(frozen=True, slots=True)
class Restored:
    """`skipped`: tags that mean something else by now."""

    repository: str
    manifests: tuple[Digest, ...]
    tags: tuple[str, ...]
    skipped: tuple[str, ...]
