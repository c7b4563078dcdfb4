"""What is shown of rollouts of the agent."""

from __future__ import annotations

from common.identifiers import is_id
from control_plane.agent_rollouts import store
from control_plane.agent_rollouts.model import AgentRolloutUnknown, HostStanding, Rollout
from control_plane.database import Database
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest


class AgentRolloutReading:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, rollout_id: str) -> Rollout:
        """Raises `AgentRolloutUnknown`."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            found = await store.find(connection, rollout_id) if is_id(rollout_id) else None
        if found is None:
            raise unknown(rollout_id)
        return found

    async def page(self, principal: Principal, page: PageRequest, *, ended: bool = False) -> Page[Rollout]:
        """Newest first; those that are over only if asked for."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            return await store.page(connection, ended, page)

    async def hosts(self, principal: Principal, rollout_id: str, page: PageRequest) -> Page[HostStanding]:
        """Those that were told. Raises `AgentRolloutUnknown`."""
        rollout = await self.get(principal, rollout_id)
        async with self._database.reading() as connection:
            return await store.host_page(connection, rollout.id, page)


def unknown(rollout_id: str) -> AgentRolloutUnknown:
    return AgentRolloutUnknown(
        f"there is no rollout {rollout_id[:80]!r} of the agent", action="see `longshore agent-rollout list`"
    )
