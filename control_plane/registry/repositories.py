"""Making and removing repositories, with everybody who takes part in it."""

from __future__ import annotations

from common.errors import Unavailable
from common.identifiers import new_id
from control_plane.database import UnitOfWork
from control_plane.registry import repository_store
from control_plane.registry.model import Repository
from control_plane.registry.participants import Hooks
from control_plane.tenants.access import Principal

# Between our looking and our making somebody else may have made it, and removed it again.
_TRIES = 5


async def ensure_repository(
    unit: UnitOfWork, hooks: Hooks, name: str, tenant_id: str, by: Principal | None
) -> Repository:
    """The repository of that name, made if there was none, and held together with others until the transaction ends.
    One of a tenant that is gone (its last push raced its deletion) is replaced: names may be used again, contents may
    not be inherited. Raises `Unavailable` if others make and remove it all the while.
    """
    user_id = (by.user_id if by is not None else None) or ""
    for _ in range(_TRIES):
        found = await repository_store.hold_repository(unit.connection, name, alone=False)
        if found is not None and found.tenant_id == tenant_id:
            return found
        if found is not None:
            await remove_repository(unit, hooks, found)
        made = await repository_store.make_repository(
            unit.connection, new_id(unit.clock), name, tenant_id, user_id, unit.clock.now()
        )
        if made is not None:
            for participant in hooks.participants:
                await participant.repository_made(unit, made, by)
            return made
    raise Unavailable(f"{name} is being made and removed at this moment", action="try again")


async def remove_repository(unit: UnitOfWork, hooks: Hooks, repository: Repository) -> None:
    """With its links and rows. Its manifests are expected to be gone; what is left of them goes unannounced."""
    # Whoever links a blob to it now is waited for: nothing may go that participants do not hear of.
    await repository_store.hold_repository(unit.connection, repository.name, alone=True)
    for digest, size in await repository_store.linked_blobs(unit.connection, repository.repository_id):
        for participant in hooks.participants:
            await participant.blob_unlinked(unit, repository, digest, size)
    for participant in hooks.participants:
        await participant.repository_removed(unit, repository)
    await repository_store.delete_repository(unit.connection, repository.repository_id)
