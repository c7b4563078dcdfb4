"""What a principal may do with a repository: role, robot scopes, grants and visibility, and the token's scopes.

Two conditions, both needed: something permits it, and, if the principal came with a registry token, the token was made
for it. Who may by role costs no look-up at all; everybody else costs one, kept for a few seconds in this process.

Invariant: a change of visibility or grants is seen at once by the process that made it (`forget` after the commit, and
answers read before it are not kept) and after at most `Recent`'s 5 seconds by the others. What is not kept is never
needed for a refusal: roles, robots and groups come with the principal, which has its own short memory.

What one may not see does not exist: reading a repository that is not yours is `RepositoryUnknown`, whether it exists or
not; writing to it is `Denied`, for both as well; and nobody learns more than that a login is needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.clock import Clock
from common.errors import Denied, Unauthenticated
from control_plane.database import Database, UnitOfWork
from control_plane.registry import grant_store
from control_plane.registry.access import access_permits, role_permits, unknown_repository
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.failures import ScopeInsufficient
from control_plane.registry.grants import EVERYTHING, MANAGE, NEEDED, RepositoryAccess, Visible
from control_plane.registry.model import Repository
from control_plane.registry.participants import Participant
from control_plane.registry.recent import Recent
from control_plane.registry.scopes import CATALOG, PULL
from control_plane.tenants.access import Permission, Principal, RepositoryScope

# Repositories and grants; a few hundred bytes each.
_REMEMBERED = 50_000


class Rights:
    def __init__(self, database: Database, tenants: TenantDirectory, clock: Clock) -> None:
        self._database = database
        self._tenants = tenants
        self._clock = clock
        self._known: Recent[str, RepositoryAccess] = Recent(clock, _REMEMBERED)

    async def may(self, principal: Principal, repository: str, action: str) -> bool:
        """`action` is one of `scopes` or `grants.MANAGE`."""
        if not principal.in_scope(NEEDED[action], repository):
            return False
        return await self.permits(principal, repository, action)

    async def permits(self, principal: Principal, repository: str, action: str) -> bool:
        """Whether it may with the right token, whatever token it came with."""
        if role_permits(principal, repository, action):
            return True
        access = await self._access(repository)
        return access_permits(principal, repository, action, access, self._clock.now())

    async def require(self, principal: Principal, repository: str, *actions: str) -> None:
        """Raises `Unauthenticated` (nobody), `ScopeInsufficient` (another token would do), `RepositoryUnknown` (reading
        or managing what one may not see) or `Denied`.
        """
        for action in actions:
            if not await self.may(principal, repository, action):
                await self._refuse(principal, repository, action)

    async def _refuse(self, principal: Principal, repository: str, action: str) -> None:
        if principal.anonymous:
            raise Unauthenticated("this needs a login", action="log in, for example with `docker login`")
        if await self.permits(principal, repository, action):
            raise ScopeInsufficient(
                f"the token is not for {action} on {repository}", action="ask for a token with this scope"
            )
        if action == PULL or (action == MANAGE and not await self.permits(principal, repository, PULL)):
            raise unknown_repository(repository)
        raise Denied(
            f"{principal.name} may not {action} {'' if action == MANAGE else 'to '}{repository}",
            action="ask an administrator of the tenant for a role or a grant that includes it",
        )

    async def grant(self, principal: Principal, asked: Iterable[RepositoryScope]) -> tuple[RepositoryScope, ...]:
        """The part of what was asked that the principal may have; what is left without actions is dropped."""
        granted = []
        for scope in asked:
            if scope == CATALOG:
                if not principal.anonymous and (principal.scopes is None or CATALOG in principal.scopes):
                    granted.append(scope)
                continue
            actions = frozenset([each for each in scope.actions if await self.may(principal, scope.repository, each)])
            if actions:
                granted.append(RepositoryScope(scope.repository, actions))
        return tuple(granted)

    async def visible(self, principal: Principal) -> Visible:
        """For queries over many repositories, what `may(..., PULL)` says of each."""
        among = _confinement(principal)
        if principal.platform_admin:
            return Visible(everything=True, among=among) if among is not None else EVERYTHING
        if principal.robot is not None:
            home = (principal.tenant,) if principal.tenant is not None else ()
            return Visible(
                robot_of=principal.tenant,
                patterns=tuple(scope.pattern for scope in principal.robot if PULL in scope.actions),
                tenant_ids=await self._ids_of(home),
                among=among,
            )
        tenants = tuple(sorted(name for name in principal.roles if principal.holds(Permission.IMAGE_PULL, name)))
        return Visible(
            tenants=tenants,
            user_id=principal.user_id,
            groups=tuple(sorted(principal.groups)),
            tenant_ids=await self._ids_of(tenants),
            only_tenant=principal.tenant,
            among=among,
        )

    def forget(self, repository: str) -> None:
        """After a committed change of what the repository grants."""
        self._known.forget(repository)

    async def _ids_of(self, tenants: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted((await self._tenants.ids_of(tenants)).values())) if tenants else ()

    async def _access(self, repository: str) -> RepositoryAccess:
        known = self._known.get(repository)
        if known is not None:
            return known
        begun = self._known.begin()
        async with self._database.reading() as connection:
            found = await grant_store.find_access(connection, repository, self._clock.now())
        names = await self._tenants.names_of(found.tenant_ids) if found.tenant_ids else {}
        access = found.access(names)
        self._known.keep(repository, access, begun, weight=1 + len(access.grants))
        return access


class Forgetting(Participant):
    """A name that is used again starts with what the new repository grants: nothing."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights

    async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None:
        async def forget() -> None:
            self._rights.forget(repository.name)

        unit.after_commit(forget)


def _confinement(principal: Principal) -> tuple[str, ...] | None:
    """The names that a token confines a listing to; None means that it does not."""
    if principal.scopes is None or CATALOG in principal.scopes:
        return None
    return tuple(sorted(scope.repository for scope in principal.scopes if PULL in scope.actions))
