"""`/api/v1/registry/collection` for the platform's administrators, and the trash of one repository."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query

from common.digest import Digest
from control_plane.registry.collection.model import RunKind
from control_plane.registry.collection.schemas import (
    MissingView,
    PreviewView,
    PurgedView,
    RemovalView,
    RestoredView,
    RunView,
    StartedView,
    StartRequest,
    TrashView,
    UndeleteRequest,
)
from control_plane.registry.collection.service import Collection, CollectionService
from control_plane.registry.collection.trash import TrashService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Repository = Annotated[str, Path(description="tenant/name", max_length=255)]
_Digest = Annotated[str | None, Query(description="sha256:...", max_length=140)]


def build_router(collection: Collection) -> APIRouter:
    router = APIRouter(prefix="/api/v1")
    _add_collection(router, collection.service)
    _add_trash(router, collection.trash)
    return router


def _add_collection(router: APIRouter, service: CollectionService) -> None:
    prefix, tags = "/registry/collection", ["garbage collection"]

    @router.get(f"{prefix}/preview", tags=[*tags])
    async def preview(
        principal: CurrentPrincipal,
        within_hours: Annotated[float, Query(ge=0, le=24 * 365, description="as of so much later")] = 0,
        limit: Annotated[int, Query(ge=0, le=1000, description="how many candidates are named")] = 100,
    ) -> Envelope[PreviewView]:
        """What a run would remove, and why; nothing is changed."""
        found = await service.preview_for(principal, timedelta(hours=within_hours), limit)
        return Envelope(data=PreviewView.of(found))

    @router.get(f"{prefix}/runs", tags=[*tags])
    async def runs(principal: CurrentPrincipal, page: PageQuery) -> Listing[RunView]:
        """What was done, the newest first."""
        return Listing[RunView].of(await service.runs(principal, page), RunView.of)

    @router.post(f"{prefix}/runs", status_code=202, tags=[*tags])
    async def start(principal: CurrentPrincipal, request: StartRequest) -> Envelope[StartedView]:
        """Begin now instead of at the next tick."""
        return Envelope(data=StartedView(job=await service.start(principal, RunKind(request.kind))))

    @router.get(f"{prefix}/removals", tags=[*tags])
    async def removals(principal: CurrentPrincipal, page: PageQuery, digest: _Digest = None) -> Listing[RemovalView]:
        """Which blobs were removed, when and why, the newest first."""
        wanted = Digest.parse(digest) if digest is not None else None
        return Listing[RemovalView].of(await service.removals(principal, wanted, page), RemovalView.of)

    @router.get(f"{prefix}/missing", tags=[*tags])
    async def missing(principal: CurrentPrincipal, page: PageQuery) -> Listing[MissingView]:
        """Blobs whose bytes the last sweep did not find."""
        return Listing[MissingView].of(await service.missing(principal, page), MissingView.of)


def _add_trash(router: APIRouter, trash: TrashService) -> None:
    prefix, tags = "/repositories/{repository:path}/-/trash", ["trash"]

    @router.get(prefix, tags=[*tags])
    async def contents(principal: CurrentPrincipal, repository: _Repository, page: PageQuery) -> Listing[TrashView]:
        """Deleted manifests that can be undeleted, the latest deletions first."""
        return Listing[TrashView].of(await trash.contents(principal, repository, page), TrashView.of)

    @router.post(f"{prefix}/undelete", tags=[*tags])
    async def undelete(
        principal: CurrentPrincipal, repository: _Repository, request: UndeleteRequest
    ) -> Envelope[RestoredView]:
        """Bring a manifest back with its tags, or a tag with its manifest."""
        return Envelope(data=RestoredView.of(await trash.undelete(principal, repository, request.reference)))

    @router.delete(prefix, tags=[*tags])
    async def purge(
        principal: CurrentPrincipal, repository: _Repository, digest: _Digest = None
    ) -> Envelope[PurgedView]:
        """Give up what is in the trash, or one manifest of it, before its time."""
        wanted = Digest.parse(digest) if digest is not None else None
        return Envelope(data=PurgedView(purged=await trash.purge(principal, repository, wanted)))
