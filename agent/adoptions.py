"""Containers of others that this agent adopted, as its journal knows them: their engine cannot give them our labels.

Invariant: a container is claimed from the driver only after it is on disk that it was adopted, and it stays claimed
until it is gone from the engine; so after kill -9 the agent knows the same containers as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Self

from agent.journal import Journal, failed_write_is_logged
from agent.model import Container
from agent.runtimes import Adoption, EngineRefused, RuntimeDriver

_RECORD = "adoptions"


class Adoptions:
    """`driver` gives None while this host has no engine."""

    def __init__(self, journal: Journal, driver: Callable[[], RuntimeDriver | None]) -> None:
        self._journal = journal
        self._driver = driver
        self._held: dict[str, Adoption] = {}
        self._instances: frozenset[str] = frozenset()
        self._written: Mapping[str, Adoption] = {}

    @classmethod
    async def opened(cls, journal: Journal, driver: Callable[[], RuntimeDriver | None]) -> Self:
        adoptions = cls(journal, driver)
        await adoptions.load()
        return adoptions

    async def load(self) -> None:
        """As the last process left it."""
        document = await self._journal.load_document(_RECORD)
        self._held = {key: Adoption(**one) for key, one in document.get("containers", {}).items()}
        self._instances = frozenset(document.get("instances", ()))
        self._written = self._held

    @property
    def instances(self) -> frozenset[str]:
        """Those that ever adopted one, while they are assigned."""
        return self._instances

    def claim(self) -> frozenset[str]:
        """Remind the driver, before it is asked for its containers: it may be a new one. Returns what is claimed."""
        driver = self._driver()
        if driver is not None:
            driver.claim(self._written)
        return frozenset(self._written)

    async def adopt(self, runtime_id: str, adoption: Adoption) -> None:
        """Durable on return. Raises `EngineRefused` if it is another instance's already, `OSError`; then it is not
        adopted.
        """
        known = self._held.get(runtime_id)
        if known is not None and known.instance_id != adoption.instance_id:
            raise EngineRefused(
                f"container {runtime_id[:12]} was adopted as another instance", action="name another container"
            )
        before = self._held, self._instances
        self._held = {**self._held, runtime_id: adoption}
        self._instances |= {adoption.instance_id}
        try:
            await self._save()
        except BaseException:
            self._held, self._instances = before
            raise
        self.claim()

    async def tidy(
        self, claimed: Collection[str], containers: Collection[Container], instances: Collection[str]
    ) -> None:
        """Forget what is gone. `containers`: all of ours that the engine showed after `claimed` were claimed; what was
        adopted meanwhile is not among them.
        """
        gone = {*claimed} - {one.runtime_id for one in containers}
        held = {key: one for key, one in self._held.items() if key not in gone}
        kept = self._instances & ({*instances} | {one.instance_id for one in held.values()})
        if held.keys() != self._held.keys() or kept != self._instances:
            self._held, self._instances = held, kept
            with failed_write_is_logged("adoptions"):
                await self._save()

    async def _save(self) -> None:
        await self._journal.save_document(_RECORD, self._document)
        self._written = self._held

    def _document(self) -> Mapping[str, object]:
        return {
            "containers": {key: asdict(one) for key, one in self._held.items()},
            "instances": sorted(self._instances),
        }
