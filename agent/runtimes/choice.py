"""Which engine this host uses, and since when.

Invariant: a host that was not told to have an engine counts as having one from the moment when it first answers, and
from then on for good: an engine that falls silent later is away, not gone.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from agent.model import Engine
from agent.runtimes import RuntimeDriver
from agent.runtimes.several import SeveralEngines
from common.errors import Failure


class RuntimeChoice:
    """Use as an async context manager, which closes the driver.

    `required`: the operator named the engine; it counts even before it answers.
    """

    def __init__(self, driver: RuntimeDriver | None, *, required: bool) -> None:
        self._driver = driver
        self._counts = required

    def driver(self) -> RuntimeDriver | None:
        return self._driver if self._counts else None

    async def look(self) -> tuple[Engine, ...]:
        """The engines that answer now."""
        if self._driver is None:
            return ()
        try:
            if isinstance(self._driver, SeveralEngines):
                found = await self._driver.engines()
            else:
                found = (await self._driver.describe(),)
        except Failure:
            return ()
        self._counts = self._counts or bool(found)
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._driver is not None:
            await self._driver.close()
