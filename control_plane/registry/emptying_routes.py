"""HTTP for being done with a repository."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from control_plane.registry.emptying import Emptied, Emptying
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope

_Repository = Annotated[str, Path(description="tenant/name", max_length=255)]


class KeptView(BaseModel):
    digest: str
    reason: str


class EmptiedView(BaseModel):
    removed: int
    kept: Annotated[list[KeptView], Field(description="images that may not be deleted, and why")]
    finished: Annotated[bool, Field(description="false: there was no time for all; ask again to go on")]

    @classmethod
    def of(cls, emptied: Emptied) -> EmptiedView:
        kept = [KeptView(digest=str(each.digest), reason=each.reason) for each in emptied.kept]
        return cls(removed=emptied.removed, kept=kept, finished=emptied.finished)


def build_router(emptying: Emptying) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.delete("/repositories/{repository:path}/-/images", tags=["images"])
    async def empty(principal: CurrentPrincipal, repository: _Repository) -> Envelope[EmptiedView]:
        """Delete every image of a repository and what it grants. The images stay in the trash for its grace; then the
        repository ends, too. What may not be deleted stays and is named.
        """
        return Envelope(data=EmptiedView.of(await emptying.empty(principal, repository)))

    return router
