"""How many hosts of an IDC without a regional may fetch from us: as few as can give to the others what its WAN brings.

Invariant: there is always one gate at least, and what is said of the links counts within ten seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.limits import Link
from common.spreading.model import UNKNOWN_GATES, gate_count
from control_plane.database import Database
from control_plane.fleet.limits import store as limits_store
from control_plane.fleet.limits.model import Policies, link_rates
from control_plane.swarm.spreads import store as spreads_store

_KNOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Picture:
    """Ids of IDCs by name, and their hosts by id."""

    until: float = float("-inf")
    policies: Policies = field(default_factory=dict)
    idcs: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, int] = field(default_factory=dict)


class Gates:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._picture = _Picture()

    async def count(self, idc: str) -> int:
        """`idc`: its name. `UNKNOWN_GATES` at most while the rate of its WAN or of its hosts' uplinks has no limit."""
        picture = await self._current()
        idc_id = picture.idcs.get(idc, "")
        hosts = picture.hosts.get(idc_id, 0)
        if not hosts:
            return UNKNOWN_GATES
        rates = link_rates(picture.policies, idc_id, self._database.clock.now())
        return gate_count(rates.get(Link.WAN_DOWN), [rates.get(Link.HOST_UP)] * hosts)

    async def _current(self) -> _Picture:
        now = self._database.clock.monotonic()
        if now >= self._picture.until:
            async with self._database.reading() as connection:
                names = await spreads_store.idcs_by_id(connection)
                self._picture = _Picture(
                    now + _KNOWN_SECONDS,
                    await limits_store.all_policies(connection),
                    {name: idc_id for idc_id, name in names.items()},
                    await spreads_store.host_counts(connection),
                )
        return self._picture
