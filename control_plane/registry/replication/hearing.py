"""From the registry's messages to tasks: the relay hands every batch here before it forgets it (`database.relay.Tap`).

Invariants: what was pushed after a rule was made is copied, for each message makes a task or finds one that has not
begun, and tasks look at what is there when they begin. A repeated batch makes nothing twice. Two sites that copy to
each other come to rest: what is there already is not pushed, so nothing is announced there; and as tasks wait a random
moment, both do not move the same tag back and forth at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from control_plane.database import Database, UnitOfWork
from control_plane.database.relay import Announcement
from control_plane.registry.messages import ImagePushed, ManifestDeleted, TagMoved
from control_plane.registry.replication import execution_store, rule_store, task_store
from control_plane.registry.replication.attached import is_companion
from control_plane.registry.replication.failures import RuleInvalid
from control_plane.registry.replication.making import new_execution, new_task
from control_plane.registry.replication.model import PLATFORM, Cause, Execution, Rule, Task, Work

_TOPICS = (ImagePushed.topic, TagMoved.topic, ManifestDeleted.topic)
What = tuple[Work, str, str]
log = structlog.get_logger()


class Hearing:
    """`settle_seconds`: about how long a task waits, so that what is pushed in a burst is copied once."""

    def __init__(
        self, database: Database, clock: Clock, chance: Callable[[], float], settle_seconds: float = 1.0
    ) -> None:
        self._database = database
        self._clock = clock
        self._chance = chance
        self._settle_seconds = settle_seconds

    async def __call__(self, announcements: Sequence[Announcement]) -> int:
        """How many tasks were made. Raises `Unavailable`; then the batch comes again."""
        heard = [each for each in announcements if each.topic in _TOPICS]
        if not heard:
            return 0
        owners = {str(each.payload["tenant_id"]) for each in heard}
        async with self._database.reading() as connection:
            rules = await rule_store.hearing(connection, owners | {PLATFORM})
        matching = [(each, wanted) for each in heard if (wanted := _wanted(each, rules))]
        if not matching:
            return 0
        async with self._database.transaction() as unit:
            return await self._take(unit, matching)

    async def _take(self, unit: UnitOfWork, matching: list[tuple[Announcement, list[tuple[Rule, What]]]]) -> int:
        chosen: dict[str, dict[What, None]] = defaultdict(dict)
        rules: dict[str, Rule] = {}
        for announcement, wanted in matching:
            if await execution_store.is_new(unit.connection, announcement.id, self._clock.now()):
                for rule, what in wanted:
                    rules[rule.rule_id] = rule
                    chosen[rule.rule_id][what] = None
        count = 0
        for rule_id in sorted(chosen):
            count += await self._start(unit, rules[rule_id], list(chosen[rule_id]))
        return count

    async def _start(self, unit: UnitOfWork, rule: Rule, whats: list[What]) -> int:
        # Held, for its deletion takes its executions along.
        if await rule_store.find(unit.connection, rule.rule_id, hold=True) is None:
            return 0
        execution = new_execution(self._clock, rule, Cause.EVENT)
        tasks = [task for what in whats if (task := self._task(execution, rule, what)) is not None]
        tasks = [
            task
            for task in tasks
            if not await task_store.is_waiting(unit.connection, rule.rule_id, rule.endpoint_id, task)
        ]
        if tasks:
            await execution_store.add(unit.connection, execution)
            await task_store.add(unit.connection, tasks)
        return len(tasks)

    def _task(self, execution: Execution, rule: Rule, what: What) -> Task | None:
        work, repository, reference = what
        try:
            return new_task(self._clock, execution, rule, work, repository, reference, due=self._due())
        except RuleInvalid as failure:
            log.warning("not replicated", rule=rule.rule_id, repository=repository, why=failure.detail)
            return None

    def _due(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._settle_seconds * (0.5 + self._chance()))


def _wanted(announcement: Announcement, rules: Sequence[Rule]) -> list[tuple[Rule, What]]:
    owner, repository = str(announcement.payload["tenant_id"]), str(announcement.payload["repository"])
    found = []
    for rule in rules:
        if rule.tenant_id in (PLATFORM, owner) and rule.source.takes_name(repository):
            what = _what(announcement, rule)
            if what is not None:
                found.append((rule, (what[0], repository, what[1])))
    return found


def _what(announcement: Announcement, rule: Rule) -> tuple[Work, str] | None:
    payload = announcement.payload
    tag, digest = payload.get("tag"), payload.get("digest")
    if announcement.topic == ManifestDeleted.topic:
        # Whether the rule copied it is seen when the task begins.
        return (Work.DELETE, str(digest)) if rule.also_delete else None
    if tag is None:
        return (Work.COPY, str(digest)) if rule.referrers else None
    if not (rule.source.takes_tag(tag) or (is_companion(tag) and rule.referrers)):
        return None
    if announcement.topic == ImagePushed.topic:
        return Work.COPY, tag
    return (Work.DELETE, tag) if digest is None and rule.also_delete else None
