"""The wire forms of mirrors."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from control_plane.registry.mirroring.model import Mirror
from control_plane.registry.mirroring.service import MirrorPlan

_Printable = Annotated[str, StringConstraints(max_length=255, pattern=r"^[\x20-\x7e]*$")]
_Host = Annotated[str, StringConstraints(max_length=255, pattern=r"^[A-Za-z0-9.:\-\[\]]+$")]
_Ttl = Annotated[
    int, Field(ge=0, le=30 * 86400, description="how long a tag is served without asking upstream, in seconds")
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Credentials(_Body):
    username: _Printable
    password: Annotated[SecretStr, Field(max_length=8192)]


class MirrorCreate(_Body):
    name: Annotated[str, Field(max_length=255, description="tenant/name; every repository beneath belongs to it")]
    upstream: Annotated[str, Field(max_length=512, description="[https://]host[:port][/path]: docker.io/library")]
    credentials: Credentials | None = None
    ca_pem: Annotated[str, Field(max_length=65536, description="certificate authority of the upstream")] = ""
    auth_hosts: Annotated[
        list[_Host], Field(max_length=8, description="hosts of its token service, if it is not on the upstream's own")
    ] = []
    tag_ttl_seconds: _Ttl = 300

    def to_plan(self) -> MirrorPlan:
        return MirrorPlan(
            name=self.name,
            upstream=self.upstream,
            tag_ttl_seconds=self.tag_ttl_seconds,
            username=self.credentials.username if self.credentials else "",
            password=self.credentials.password.get_secret_value() if self.credentials else "",
            ca_pem=self.ca_pem,
            auth_hosts=self.auth_hosts,
        )


class MirrorChange(_Body):
    """What is absent stays; empty credentials are none."""

    credentials: Credentials | None = None
    tag_ttl_seconds: _Ttl | None = None

    @property
    def pair(self) -> tuple[str, str] | None:
        if self.credentials is None:
            return None
        return self.credentials.username, self.credentials.password.get_secret_value()


class MirrorView(BaseModel):
    """The password is not in it, and nowhere else."""

    id: str
    name: str
    upstream: str
    upstream_url: str
    username: str
    has_credentials: bool
    has_ca: bool
    auth_hosts: list[str]
    tag_ttl_seconds: int
    created_at: datetime

    @classmethod
    def of(cls, mirror: Mirror) -> MirrorView:
        return cls(
            id=mirror.mirror_id,
            name=mirror.name,
            upstream=str(mirror.upstream),
            upstream_url=mirror.upstream.url,
            username=mirror.username,
            has_credentials=mirror.sealed is not None,
            has_ca=bool(mirror.ca_pem),
            auth_hosts=list(mirror.auth_hosts),
            tag_ttl_seconds=mirror.tag_ttl_seconds,
            created_at=mirror.created_at,
        )
