"""Wire forms of the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from control_plane.audit.model import Anchor, Checkpoint, Link, Sealed, Verdict


class EntryView(BaseModel):
    sequence: int = Field(description="place in the chain, gapless")
    id: str
    occurred_at: datetime
    operation: str = Field(description="<domain>.<verb>, such as registry.push")
    outcome: str = Field(description="success, failure or denied")
    operator_type: str = Field(description="user, robot, system or anonymous")
    operator_id: str
    operator: str = Field(description="the name, as it was then")
    tenant: str = Field(description="empty: of the platform")
    repository: str
    digest: str
    tag: str
    subject: str = Field(description="what it happened to, where that is no part of a repository")
    error: str
    client: str = Field(description="address of the client")
    user_agent: str
    request_id: str
    details: dict[str, Any]
    hash: str = Field(description="SHA-256 over the hash before and this entry, in hex")

    @classmethod
    def of(cls, sealed: Sealed) -> EntryView:
        entry = sealed.entry
        names = (name for name in cls.model_fields if name not in ("sequence", "hash", "details"))
        values = {name: getattr(entry, name) for name in names}
        return cls(sequence=sealed.sequence, hash=sealed.hash, details=dict(entry.details), **values)


class EntryPage(BaseModel):
    """The newest first. Send `next_before` as `before` for the next page."""

    data: list[EntryView]
    next_before: int | None = Field(description="null: this was the last page")


class LinkView(BaseModel):
    sequence: int
    hash: str

    @classmethod
    def of(cls, link: Link) -> LinkView:
        return cls(sequence=link.sequence, hash=link.hash)


class VerdictView(BaseModel):
    whole: bool = Field(description="every entry of the stretch holds")
    checked: int
    last: LinkView = Field(description="the last place that holds")
    next: LinkView | None = Field(description="where to go on; null at the end of the chain")
    broken: int | None = Field(description="the first entry that does not hold")
    why: str

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictView:
        return cls(
            whole=verdict.whole,
            checked=verdict.checked,
            last=LinkView.of(verdict.last),
            next=LinkView.of(verdict.at) if verdict.at is not None else None,
            broken=verdict.broken,
            why=verdict.why,
        )


class AnchorView(BaseModel):
    sequence: int
    hash: str
    made_at: datetime

    @classmethod
    def of(cls, anchor: Anchor) -> AnchorView:
        return cls(sequence=anchor.link.sequence, hash=anchor.link.hash, made_at=anchor.made_at)


class AnchorsView(BaseModel):
    head: LinkView = Field(description="the last entry of the chain, now")
    anchors: list[AnchorView] = Field(description="the newest first")


class PruneBody(BaseModel):
    through: int = Field(ge=1, description="the last entry to let go")
    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$", description="of the export of all entries up to it")


class CheckpointView(BaseModel):
    sequence: int
    hash: str
    export_sha256: str
    made_at: datetime
    made_by: str

    @classmethod
    def of(cls, made: Checkpoint) -> CheckpointView:
        return cls(
            sequence=made.link.sequence,
            hash=made.link.hash,
            export_sha256=made.export,
            made_at=made.made_at,
            made_by=made.made_by,
        )
