"""What a whole run of a rule copies and deletes: a task for each tag. Repeated, it lists nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

from common.clock import Clock
from common.errors import NotFound
from control_plane.database import Database
from control_plane.registry.remote.client import RegistryClient
from control_plane.registry.replication import task_store
from control_plane.registry.replication.attached import is_companion
from control_plane.registry.replication.copies import Copies
from control_plane.registry.replication.course import Outcome
from control_plane.registry.replication.local import LocalImages
from control_plane.registry.replication.making import new_task
from control_plane.registry.replication.model import Claimed, Direction, Rule, Task, Work

_BATCH = 200


class Listing:
    def __init__(self, database: Database, clock: Clock, local: LocalImages, copies: Copies) -> None:
        self._database = database
        self._clock = clock
        self._local = local
        self._copies = copies

    async def run(self, claimed: Claimed, client: RegistryClient) -> Outcome:
        """Raises `RuleInvalid`, and what the other registry fails with."""
        rule, batch, count = claimed.rule, list[Task](), 0
        async for repository in self._repositories(rule, client):
            async for tag in self._tags(rule, repository, client):
                batch.append(new_task(self._clock, claimed.task.execution_id, rule, Work.COPY, repository, tag))
                count += 1
                if len(batch) >= _BATCH:
                    await self._add(batch)
                    batch = []
        await self._add(batch)
        gone = await self._gone(claimed) if rule.also_delete else 0
        return Outcome(f"{count} tags" + (f", {gone} to delete" if gone else ""), changed=False)

    async def _gone(self, claimed: Claimed) -> int:
        """What the rule copied and is not at the source any more. Only after the whole source was listed."""
        rule, execution_id, batch, count = claimed.rule, claimed.task.execution_id, list[Task](), 0
        async for copied in self._copies.maybe_gone(rule, execution_id):
            batch.append(new_task(self._clock, execution_id, rule, Work.DELETE, copied.repository, copied.reference))
            count += 1
            if len(batch) >= _BATCH:
                await self._add(batch)
                batch = []
        await self._add(batch)
        return count

    async def _add(self, batch: list[Task]) -> None:
        async with self._database.transaction() as unit:
            await task_store.add(unit.connection, batch)

    async def _repositories(self, rule: Rule, client: RegistryClient) -> AsyncIterator[str]:
        literal = rule.source.literal_names
        if rule.direction is Direction.PULL and literal is not None:
            for name in literal:
                yield name
            return
        names = self._local.repositories(rule.tenant_id) if rule.direction is Direction.PUSH else client.repositories()
        async for name in names:
            if rule.source.takes_name(name):
                yield name

    async def _tags(self, rule: Rule, repository: str, client: RegistryClient) -> AsyncIterator[str]:
        tags = self._local.tags(repository) if rule.direction is Direction.PUSH else client.tags(repository)
        try:
            async for tag in tags:
                # Signatures and the like come with the image that they are about.
                if rule.source.takes_tag(tag) and not is_companion(tag):
                    yield tag
        except NotFound:
            if rule.source.literal_names is not None:
                raise
