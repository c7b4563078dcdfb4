"""What the registry needs of others. `tenants` implements these; `app` hands them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control_plane.registry.access import unknown_repository
from control_plane.tenants.access import Principal, RepositoryScope


@dataclass(frozen=True, slots=True)
class TenantRef:
    id: str
    name: str


class TenantDirectory(Protocol):
    async def find_tenant(self, name: str) -> TenantRef | None: ...


async def tenant_of(tenants: TenantDirectory, repository: str) -> TenantRef:
    """The tenant that a repository of this name belongs to. Raises `RepositoryUnknown` if there is none."""
    found = await tenants.find_tenant(repository.partition("/")[0])
    if found is None:
        raise unknown_repository(repository)
    return found


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """`expires_in` is seconds from `issued_at`."""

    token: str
    expires_in: int
    issued_at: datetime


class RegistryTokenIssuer(Protocol):
    async def issue(self, principal: Principal, service: str, scopes: Sequence[RepositoryScope]) -> IssuedToken:
        """A bearer token whose principal has the roles of this one and is limited to `scopes`."""
        ...


class PasswordAuthenticator(Protocol):
    async def authenticate_basic(self, username: str, password: str, client: str) -> Principal:
        """`password` may be an API key. `client` is the address that failed tries are counted by.

        Raises `Unauthenticated`, `RateLimited`.
        """
        ...
