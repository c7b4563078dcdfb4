"""BMCs in memory, for tests: they pass the port's suite, and do wrong what they are told to do wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from regional.power import (
    WORD_SECONDS,
    Bmc,
    BmcLoginRefused,
    BmcNotAnswering,
    BmcRefused,
    PowerState,
    Turn,
)


@dataclass
class MemoryBmc:
    """`hangs`: never answers. `deaf`: takes words and does nothing. `refuses`: answers, and does not."""

    username: str
    password: str
    state: PowerState = PowerState.OFF
    hangs: bool = False
    deaf: bool = False
    refuses: bool = False
    next_boot: str = ""
    turned: list[Turn] = field(default_factory=list)


class MemoryBmcs:
    """By address and port."""

    def __init__(self, word_seconds: float = WORD_SECONDS) -> None:
        self._word_seconds = word_seconds
        self.bmcs: dict[tuple[str, int], MemoryBmc] = {}
        self.open = 0

    @contextlib.asynccontextmanager
    async def session(self, bmc: Bmc) -> AsyncIterator[MemorySession]:
        self.open += 1
        try:
            yield MemorySession(self.bmcs.get((bmc.address, bmc.port)), bmc, self._word_seconds)
        finally:
            self.open -= 1


class MemorySession:
    def __init__(self, there: MemoryBmc | None, bmc: Bmc, word_seconds: float) -> None:
        self._there = there
        self._bmc = bmc
        self._word_seconds = word_seconds

    async def state(self) -> PowerState:
        return (await self._answering()).state

    async def turn(self, how: Turn) -> None:
        there = await self._obeying()
        there.turned.append(how)
        if not there.deaf:
            there.state = PowerState.ON if how is Turn.ON else PowerState.OFF

    async def boot_from_network_once(self, *, uefi: bool, http: bool) -> None:
        there = await self._obeying()
        if not there.deaf:
            there.next_boot = "http" if uefi and http else "pxe"

    async def _obeying(self) -> MemoryBmc:
        there = await self._answering()
        if there.refuses:
            raise BmcRefused(f"the BMC at {self._bmc.address}: not now", action="look at the BMC itself")
        return there

    async def _answering(self) -> MemoryBmc:
        there = self._there
        if there is None or there.hangs:
            if there is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._word_seconds):
                        await asyncio.Event().wait()
            raise BmcNotAnswering(f"the BMC at {self._bmc.address} does not answer", action="check its address")
        if (there.username, there.password) != (self._bmc.username, self._bmc.password):
            raise BmcLoginRefused(f"the BMC at {self._bmc.address} refuses the login", action="correct it")
        return there
