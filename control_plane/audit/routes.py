"""HTTP for reading the audit trail, proving it whole, and letting its beginning go.

What a reader may see is for a higher domain to say: `http_api` puts a `SightOf` into `app.state.audit_sight`. The chain
as such (verification, anchors, pruning) is the platform's; a tenant's administrators read the entries of their tenant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from common.errors import Denied
from control_plane.audit.model import Link, Outcome, Search, Sight
from control_plane.audit.reading import AuditReading
from control_plane.audit.retention import Retention
from control_plane.audit.schemas import (
    AnchorsView,
    AnchorView,
    CheckpointView,
    EntryPage,
    EntryView,
    LinkView,
    PruneBody,
    VerdictView,
)
from control_plane.web.envelope import Envelope

_ANCHORS = 400
_LARGEST = 2**62


class SightOf(Protocol):
    async def __call__(self, request: HTTPConnection) -> Sight:
        """Raises `Unauthenticated`, `Denied`."""
        ...


async def _sight(request: HTTPConnection) -> Sight:
    ask: SightOf = request.app.state.audit_sight
    return await ask(request)


async def _whole_sight(request: HTTPConnection) -> Sight:
    sight = await _sight(request)
    if not sight.everything:
        raise Denied("this is for the platform admin", action="ask the platform admin")
    return sight


class _SearchQuery:
    """What a list and an export are narrowed by."""

    def __init__(
        self,
        tenant: Annotated[str | None, Query(max_length=64)] = None,
        operation: Annotated[str | None, Query(max_length=64, description="such as registry.push")] = None,
        operator: Annotated[str | None, Query(max_length=128, description="name of who did it")] = None,
        repository: Annotated[str | None, Query(max_length=255)] = None,
        outcome: Annotated[Outcome | None, Query()] = None,
        since: Annotated[datetime | None, Query(description="from this time on, with its zone")] = None,
        until: Annotated[datetime | None, Query(description="before this time, with its zone")] = None,
    ) -> None:
        self.search = Search(tenant, operation, operator, repository, outcome, _aware(since), _aware(until))


Seen = Annotated[Sight, Depends(_sight)]
Whole = Annotated[Sight, Depends(_whole_sight)]
Searched = Annotated[_SearchQuery, Depends()]
_Sequence = Annotated[int, Path(ge=1, le=_LARGEST)]
_After = Annotated[int, Query(ge=0, le=_LARGEST, description="only entries above this number")]


class AuditRoutes:
    def __init__(self, reading: AuditReading, retention: Retention) -> None:
        self._reading = reading
        self._retention = retention

    def add_to(self, router: APIRouter) -> None:
        root = "/api/v1/audit"
        router.add_api_route(root, self.list, methods=["GET"], tags=["audit"])
        router.add_api_route(f"{root}/export", self.export, methods=["GET"], tags=["audit"], response_class=Lines)
        router.add_api_route(f"{root}/verification", self.verify, methods=["GET"], tags=["audit"])
        router.add_api_route(f"{root}/anchors", self.anchors, methods=["GET"], tags=["audit"])
        router.add_api_route(f"{root}/prune", self.prune, methods=["POST"], tags=["audit"])
        router.add_api_route(f"{root}/{{sequence}}", self.get, methods=["GET"], tags=["audit"])

    async def list(
        self,
        sight: Seen,
        query: Searched,
        before: Annotated[int | None, Query(ge=1, le=_LARGEST, description="only entries below this number")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> EntryPage:
        """Entries, the newest first. An entry shows within about a second."""
        found = await self._reading.page(sight, query.search, before, limit)
        following = found[-1].sequence if len(found) == limit else None
        return EntryPage(data=[EntryView.of(each) for each in found], next_before=following)

    async def get(self, sight: Seen, sequence: _Sequence) -> Envelope[EntryView]:
        """One entry, with its hash."""
        return Envelope(data=EntryView.of(await self._reading.entry(sight, sequence)))

    async def export(
        self,
        sight: Seen,
        query: Searched,
        after: _After = 0,
        through: Annotated[int | None, Query(ge=1, le=_LARGEST, description="only entries up to this number")] = None,
    ) -> StreamingResponse:
        """Entries as JSON lines, in the order of the chain. Each line is the same bytes whenever it is exported."""
        return Lines(self._reading.export(sight, query.search, after, through))

    async def verify(
        self,
        _sight: Whole,
        after: _After = 0,
        after_hash: Annotated[str, Query(pattern="^([0-9a-f]{64})?$", description="`next` of the stretch before")] = "",
        limit: Annotated[int, Query(ge=1, le=100_000)] = 20_000,
    ) -> Envelope[VerdictView]:
        """Recompute a stretch of the chain: from its beginning, or from where the stretch before it ended."""
        link = Link(after, after_hash) if after_hash else None
        return Envelope(data=VerdictView.of(await self._reading.verify(link, limit)))

    async def anchors(self, _sight: Whole) -> Envelope[AnchorsView]:
        """The head of the chain now, and as it was anchored each day; the log holds the same."""
        head, found = await self._reading.head(), await self._reading.anchors(_ANCHORS)
        return Envelope(data=AnchorsView(head=LinkView.of(head), anchors=[AnchorView.of(each) for each in found]))

    async def prune(self, sight: Whole, body: PruneBody) -> Envelope[CheckpointView]:
        """Let the beginning of the trail go, after it was exported whole. A checkpoint keeps its last hash."""
        made = await self._retention.prune(sight.reader, body.through, body.sha256)
        return Envelope(data=CheckpointView.of(made))


class Lines(StreamingResponse):
    media_type = "application/x-ndjson"


def _aware(moment: datetime | None) -> datetime | None:
    # A time without a zone would be read in the server's; UTC is what every answer of ours says.
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def build_router(reading: AuditReading, retention: Retention) -> APIRouter:
    router = APIRouter()
    AuditRoutes(reading, retention).add_to(router)
    return router
