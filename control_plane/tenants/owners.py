"""Who a credential that was shown before speaks for now.

Invariant: the user, the key or the robot is asked again each time: what was taken from it, or ended, is gone for
everything that was made with it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.tenants.access import Principal
from control_plane.tenants.api_keys import ApiKeyService
from control_plane.tenants.robot_keys import RobotKeys
from control_plane.tenants.standings import Standings


@dataclass(frozen=True, slots=True)
class Shown:
    """A user with its password (`generation` is of that), or a key, then `robot` says of whom."""

    user_id: str
    key_id: str | None
    robot: bool
    generation: int


class Owners:
    def __init__(self, standings: Standings, api_keys: ApiKeyService, robot_keys: RobotKeys) -> None:
        self._standings = standings
        self._api_keys = api_keys
        self._robot_keys = robot_keys

    async def shown_by(self, principal: Principal) -> Shown:
        """What a principal that was just authenticated has shown; nobody is the user ""."""
        generation = 0
        if principal.user_id is not None and principal.key_id is None:
            standing = await self._standings.get(principal.user_id)
            generation = standing.token_generation if standing is not None else 0
        return Shown(principal.user_id or "", principal.key_id, principal.robot is not None, generation)

    async def principal(self, shown: Shown) -> Principal | None:
        """None if it does not count any more. Raises what its key is refused with."""
        if not shown.user_id:
            return Principal()
        if shown.key_id is not None:
            return await (self._robot_keys if shown.robot else self._api_keys).principal(shown.key_id)
        standing = await self._standings.get(shown.user_id)
        if standing is None or standing.disabled or standing.token_generation != shown.generation:
            return None
        return standing.principal()
