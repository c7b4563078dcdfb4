"""What a rule has copied, written down before it is copied: a rule deletes nothing that came from elsewhere.

Invariant: a copy that is `made` was put there by its rule, or was about to be. One that was found there already is
noted too, as somebody who would miss it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from common.digest import Digest
from control_plane.database import Database
from control_plane.registry.replication import copy_store
from control_plane.registry.replication.course import Course
from control_plane.registry.replication.model import HERE, Copied, Direction, Rule

_PAGE = 500


class Copies:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, course: Course, reference: str | Digest, digest: Digest, *, made: bool) -> None:
        """Costs a look if it is known."""
        before = await self.find(course, reference)
        if before is not None and before.digest == str(digest) and (before.made or not made):
            return
        task = course.task
        place = place_of(course.rule)
        copied = Copied(task.rule_id, task.destination, task.repository, str(reference), place, str(digest), made)
        async with self._database.transaction() as unit:
            await copy_store.note(unit.connection, copied)

    async def find(self, course: Course, reference: str | Digest) -> Copied | None:
        task = course.task
        async with self._database.reading() as connection:
            return await copy_store.find(connection, task.rule_id, task.destination, task.repository, str(reference))

    async def forget(self, copied: Copied) -> None:
        async with self._database.transaction() as unit:
            await copy_store.forget(unit.connection, copied)

    async def hand_over(self, copied: Copied) -> bool:
        """Forgets it, if somebody else wants it there; whether somebody does."""
        async with self._database.transaction() as unit:
            wanted = await copy_store.hand_over(unit.connection, copied)
            if wanted:
                await copy_store.forget(unit.connection, copied)
        return wanted

    async def references_at(self, course: Course) -> set[str]:
        async with self._database.reading() as connection:
            return await copy_store.references_at(connection, place_of(course.rule), course.task.destination)

    async def maybe_gone(self, rule: Rule, execution_id: str) -> AsyncIterator[Copied]:
        """Of what the rule covers, that which its source may have no more; whoever deletes it looks again."""
        after: Copied | None = None
        while True:
            async with self._database.reading() as connection:
                if rule.direction is Direction.PUSH:
                    page = await copy_store.gone_here(connection, rule.rule_id, after, _PAGE)
                else:
                    page = await copy_store.not_listed(connection, rule.rule_id, execution_id, after, _PAGE)
            for copied in page:
                if rule.covers(copied):
                    yield copied
            if len(page) < _PAGE:
                return
            after = page[-1]


def place_of(rule: Rule) -> str:
    return rule.endpoint_id if rule.direction is Direction.PUSH else HERE
