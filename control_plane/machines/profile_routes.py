"""`/api/v1/profiles`: what to put on machines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, status

from control_plane.machines.profile_schemas import (
    PreviewView,
    ProfileBody,
    ProfileView,
    RevisionBody,
    SpecView,
    VersionView,
    preview_view,
    profile_view,
    spec_view,
    version_view,
)
from control_plane.machines.profiles import ProfileService
from control_plane.machines.reading import MachineReading
from control_plane.machines.schemas import NO_NUL
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Version = Annotated[int | None, Query(description="the newest if left out", ge=1, le=1_000_000)]
_Number = Annotated[int, Path(ge=1, le=1_000_000)]
_Machine = Annotated[
    str | None, Query(description="id or idc/name; an example if left out", max_length=300, pattern=NO_NUL)
]


def profile_routes(service: ProfileService, reading: MachineReading) -> APIRouter:
    router = APIRouter(prefix="/api/v1/profiles", tags=["machines"])

    @router.post("", status_code=status.HTTP_201_CREATED)
    async def create(principal: CurrentPrincipal, body: ProfileBody) -> Envelope[ProfileView]:
        """A profile with its first version. It is rendered for an example machine first."""
        return Envelope[ProfileView](data=profile_view(await service.create(principal, body.wish())))

    @router.get("")
    async def listed(principal: CurrentPrincipal, page: PageQuery) -> Listing[ProfileView]:
        """Those of one's tenants, and the platform's."""
        return Listing[ProfileView].of(await service.page(principal, page), profile_view)

    @router.get("/{profile_id}")
    async def one(principal: CurrentPrincipal, profile_id: str) -> Envelope[ProfileView]:
        """One profile, without what it says."""
        return Envelope[ProfileView](data=profile_view(await service.get(principal, profile_id)))

    @router.post("/{profile_id}/versions", status_code=status.HTTP_201_CREATED)
    async def revise(principal: CurrentPrincipal, profile_id: str, body: RevisionBody) -> Envelope[ProfileView]:
        """Its next version. Install tasks keep the one that they were asked for with."""
        made = await service.revise(principal, profile_id, body.spec, body.description)
        return Envelope[ProfileView](data=profile_view(made))

    @router.get("/{profile_id}/versions")
    async def versions(principal: CurrentPrincipal, profile_id: str, page: PageQuery) -> Listing[VersionView]:
        """Newest first."""
        return Listing[VersionView].of(await service.versions(principal, profile_id, page), version_view)

    @router.get("/{profile_id}/versions/{number}")
    async def version(principal: CurrentPrincipal, profile_id: str, number: _Number) -> Envelope[SpecView]:
        """What a version says, without password hashes and secrets."""
        return Envelope[SpecView](data=spec_view(await service.version(principal, profile_id, number)))

    @router.get("/{profile_id}/preview")
    async def preview(
        principal: CurrentPrincipal, profile_id: str, version: _Version = None, machine: _Machine = None
    ) -> Envelope[PreviewView]:
        """What the installer of a machine would read, without hashes and secrets."""
        machine_id = None if machine is None else await reading.named(principal, machine)
        found = await service.preview(principal, profile_id, version, machine_id)
        return Envelope[PreviewView](data=preview_view(found))

    @router.delete("/{profile_id}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove(principal: CurrentPrincipal, profile_id: str) -> None:
        """With all its versions. Refused while install tasks of it are not over."""
        await service.remove(principal, profile_id)

    return router
