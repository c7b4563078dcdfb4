"""What the registry needs of others. `tenants` has these; `app` hands them in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from control_plane.registry.access import unknown_repository
from control_plane.tenants.access import Principal, RepositoryScope


class TenantDirectory(Protocol):
    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        """Ids of tenants by name; unknown ones are absent."""
        ...

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]:
        """Names of tenants by id; unknown ones are absent."""
        ...


async def tenant_id_of(tenants: TenantDirectory, repository: str) -> str:
    """Of the tenant that a repository of this name belongs to. Raises `RepositoryUnknown` if there is none."""
    name = repository.partition("/")[0]
    found = (await tenants.ids_of([name])).get(name)
    if found is None:
        raise unknown_repository(repository)
    return found


class IssuedToken(Protocol):
    """`expires_in` is seconds from `issued_at`."""

    @property
    def token(self) -> str: ...

    @property
    def expires_in(self) -> int: ...

    @property
    def issued_at(self) -> datetime: ...


class RegistryTokens(Protocol):
    """Bearer tokens for some repositories."""

    async def issue(self, principal: Principal, service: str, scopes: Sequence[RepositoryScope]) -> IssuedToken:
        """A token whose principal has no more rights than this one and is limited to `scopes`, which the caller has
        cut down to what the principal may (`Rights.grant`).
        """
        ...

    async def verify(self, token: str, late: timedelta = ...) -> Principal:
        """Raises `Unauthenticated` for what is no such token, or one that ended more than `late` ago."""
        ...

    async def open_login(self, principal: Principal, client: str) -> str | None:
        """A refresh token that `client` may keep in place of its user's credentials; None if it gets none."""
        ...

    async def resume_login(self, refresh_token: str) -> Principal | None:
        """Whom it speaks for; None for what is none by its form. Raises `Unauthenticated` for one that ended."""
        ...


class PasswordAuthenticator(Protocol):
    async def authenticate_basic(self, username: str, password: str, client: str) -> Principal:
        """`password` may be an API key. `client` is the address that failed tries are counted by.

        Raises `Unauthenticated`, `RateLimited`.
        """
        ...
