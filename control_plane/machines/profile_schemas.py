"""Wire models of `/api/v1/profiles`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from control_plane.machines.answers.model import Answers, Format
from control_plane.machines.profiles import NewProfile
from control_plane.machines.profiles_model import Method, Profile, ProfileSpec, ProfileVersion
from control_plane.machines.rendering import redacted
from control_plane.machines.schemas import NO_NUL, Asked, Line, Name
from control_plane.machines.store_profiles import SealedVersion


class ProfileBody(Asked):
    name: Name
    spec: ProfileSpec
    tenant: Name = Field(default="", description="empty: the platform's, for everybody to use")
    description: Line = ""

    def wish(self) -> NewProfile:
        return NewProfile(self.name, self.spec, self.tenant, self.description)


class RevisionBody(Asked):
    spec: ProfileSpec
    description: Annotated[str, Field(max_length=1000, pattern=NO_NUL)] | None = None


class ProfileView(BaseModel):
    id: str
    tenant: str = Field(description="empty: the platform's")
    name: str
    description: str
    latest: int = Field(description="its newest version")
    family: str
    system_version: str
    method: Method
    created_at: datetime
    updated_at: datetime


class VersionView(BaseModel):
    number: int
    created_by: str
    created_at: datetime


class SpecView(VersionView):
    spec: ProfileSpec = Field(description="without password hashes and secrets")


class DocumentView(BaseModel):
    name: str
    media_type: str
    text: str


class PreviewView(BaseModel):
    """Without hashes and secrets; what the regional fills in later stands in angle brackets."""

    format: Format
    documents: list[DocumentView]
    boot_arguments: list[str]


def profile_view(profile: Profile) -> ProfileView:
    return ProfileView(
        id=profile.id,
        tenant=profile.tenant,
        name=profile.name,
        description=profile.description,
        latest=profile.latest,
        family=profile.family,
        system_version=profile.system_version,
        method=profile.method,
        created_at=profile.created_at,
        updated_at=profile.updated_at,
    )


def version_view(version: SealedVersion) -> VersionView:
    return VersionView(number=version.number, created_by=version.created_by, created_at=version.created_at)


def spec_view(version: ProfileVersion) -> SpecView:
    return SpecView(
        number=version.number,
        created_by=version.created_by,
        created_at=version.created_at,
        spec=redacted(version.spec),
    )


def preview_view(answers: Answers) -> PreviewView:
    return PreviewView(
        format=answers.format,
        documents=[DocumentView(name=one.name, media_type=one.media_type, text=one.text) for one in answers.documents],
        boot_arguments=list(answers.boot_arguments),
    )
