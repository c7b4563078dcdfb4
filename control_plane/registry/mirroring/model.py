"""What a mirror is, and which repository of the upstream one of ours stands for; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from common.reference import NameInvalid, check_repository_name
from control_plane.registry.mirroring.failures import UpstreamInvalid
from control_plane.tenants.access import Principal, Role

DOCKER_HUB = "registry-1.docker.io"
# What people call Docker's registry; none of these serves /v2/ itself.
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "hub.docker.com", "registry.hub.docker.com"})
_SCHEME = re.compile(r"https?://")


@dataclass(frozen=True, slots=True)
class Upstream:
    """`url` is `https://host[:port]`; `path` is what the repositories there begin with, perhaps nothing."""

    url: str
    path: str

    def __str__(self) -> str:
        shown = self.url.removeprefix("https://")
        return f"{shown}/{self.path}" if self.path else shown

    def repository(self, rest: str) -> str | None:
        """The one that is `rest` beneath `path`; None if that names none."""
        name = "/".join(part for part in (self.path, rest) if part)
        if name and "/" not in name and urlsplit(self.url).hostname == DOCKER_HUB:
            return f"library/{name}"
        return name or None


@dataclass(frozen=True, slots=True)
class Mirror:
    """`revision` changes whenever the mirror does. `sealed` are the credentials, for the sealing of this row only."""

    mirror_id: str
    tenant_id: str
    name: str
    upstream: Upstream
    username: str
    ca_pem: str
    auth_hosts: tuple[str, ...]
    tag_ttl_seconds: int
    created_at: datetime
    revision: int = 1
    sealed: bytes | None = field(default=None, repr=False)

    @property
    def tenant(self) -> str:
        return self.name.partition("/")[0]

    @property
    def seal_identity(self) -> str:
        return f"mirrors/{self.mirror_id}"

    @property
    def keeper(self) -> Principal:
        """Who stores what was fetched: nobody's account, with the rights of the tenant's administrator."""
        return Principal("", KEEPER_NAME, roles={self.tenant: Role.ADMIN})

    def upstream_of(self, repository: str) -> str | None:
        """The upstream's name of a repository; None if it is not this mirror's."""
        if repository == self.name:
            return self.upstream.repository("")
        if repository.startswith(self.name + "/"):
            return self.upstream.repository(repository[len(self.name) + 1 :])
        return None


KEEPER_NAME = "mirror"


def is_keeper(principal: Principal) -> bool:
    """No credential gives a principal with an empty id."""
    return principal.user_id == "" and principal.name == KEEPER_NAME


def parse_upstream(text: str) -> Upstream:
    """`[https://]host[:port][/path]`. Raises `UpstreamInvalid`; whether the host may be asked is not judged here."""
    whole = text.strip().rstrip("/")
    url = whole if _SCHEME.match(whole) else f"https://{whole}"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        path = parts.path.strip("/")
        if path:
            check_repository_name(f"any/{path}")
    except (ValueError, NameInvalid) as error:
        raise _invalid(text) from error
    if not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise _invalid(text)
    netloc = DOCKER_HUB if parts.netloc.lower() in _HUB_NAMES else parts.netloc.lower()
    return Upstream(f"{parts.scheme}://{netloc}", path)


def _invalid(text: str) -> UpstreamInvalid:
    shown = text.rpartition("@")[2][:120]
    return UpstreamInvalid(f"{shown!r} is not a registry", action="give host[:port][/path], like docker.io/library")
