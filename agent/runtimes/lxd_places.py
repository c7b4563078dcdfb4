"""Where instances go in an LXD: the profile that the operator made for them, its storage pool and its network."""

from __future__ import annotations

import contextlib

from agent.runtimes.failures import EngineRefused
from agent.runtimes.lxd_calls import AlreadyThere, LxdCalls, Missing
from agent.runtimes.lxd_shapes import LIMITING_DRIVERS, Place


class LxdPlaces:
    """Empty `pool`: that of the profile's root, else the only one there is. Empty `network`: the profile's."""

    def __init__(self, calls: LxdCalls, profile: str, pool: str, network: str) -> None:
        self._calls = calls
        self._profile = profile
        self._pool = pool
        self._network = network
        self._driver = ""

    @property
    def pool_limits(self) -> bool:
        """As far as is known: LXD was not asked before `describe`."""
        return self._driver in LIMITING_DRIVERS

    async def storage_driver(self) -> str:
        """Of the pool where instances go; empty where that is not settled."""
        with contextlib.suppress(EngineRefused):
            await self.place()
        return self._driver

    async def place(self) -> Place:
        """Raises `EngineRefused` if LXD lacks the profile or a pool."""
        try:
            devices = (await self._calls.get("profiles", self._profile))["devices"]
        except Missing:
            raise EngineRefused(f"LXD has no profile {self._profile!r}", action="make it, or name another") from None
        pool = self._pool or next((one["pool"] for one in devices.values() if one.get("path") == "/"), "")
        pool = pool or await self._only_pool()
        try:
            self._driver = str((await self._calls.get("storage-pools", pool))["driver"])
        except Missing:
            raise EngineRefused(f"LXD has no storage pool {pool!r}", action="make it, or name another") from None
        return Place(self._profile, pool, self.pool_limits, devices, self._network)

    async def ensure_volume(self, pool: str, name: str) -> None:
        """A named volume is made when it is first wanted, and stays."""
        try:
            await self._calls.get("storage-pools", pool, "volumes", "custom", name)
        except Missing:
            with contextlib.suppress(AlreadyThere):
                await self._calls.send("POST", "storage-pools", pool, "volumes", "custom", body={"name": name})

    async def _only_pool(self) -> str:
        pools = [str(path).rpartition("/")[2] for path in await self._calls.get("storage-pools")]
        if len(pools) != 1:
            raise EngineRefused(
                f"the profile {self._profile!r} has no root disk, and LXD has {len(pools)} storage pools",
                action="give the profile a root disk, or name a pool",
            )
        return pools[0]
