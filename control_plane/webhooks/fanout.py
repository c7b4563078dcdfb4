"""From the outbox to deliveries: the relay hands every batch here before it forgets it (`database.relay.Tap`).

Invariant: a message that commits has a delivery row for each hook that was active and wanted it, or is counted as
dropped by a hook whose backlog is full. A repeated batch makes nothing twice. A message that cannot be told never holds
the others up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

import structlog

from common.clock import Clock
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.webhooks import store
from control_plane.webhooks.cloudevents import event_body
from control_plane.webhooks.model import OFFERED, Delivery, DeliveryState, Hook, wants

log = structlog.get_logger()
MAX_BACKLOG = 10_000


class Fanout:
    """`source` names this installation in every event. `wake` is called when there is something to deliver."""

    def __init__(
        self, database: Database, clock: Clock, source: str, lifetime: timedelta, *, backlog: int = MAX_BACKLOG
    ) -> None:
        self._database = database
        self._clock = clock
        self._source = source
        self._lifetime = lifetime
        self._backlog = backlog

    async def __call__(self, announcements: Sequence[Announcement]) -> int:
        """How many deliveries were made. Raises `Unavailable`; then the batch comes again."""
        offered = [each for each in announcements if each.topic.startswith(OFFERED)]
        if not offered:
            return 0
        tenants = {str(each.payload["tenant_id"]) for each in offered if each.payload.get("tenant_id")}
        async with self._database.reading() as connection:
            hooks = await store.listening(connection, tenants)
            waiting = await store.backlogs(connection, [hook.id for hook in hooks]) if hooks else {}
        made, dropped = self._planned(offered, hooks, waiting)
        if made or dropped:
            async with self._database.transaction() as unit:
                # One that was deleted meanwhile wants no more.
                left = await store.hold_hooks(unit.connection, {each.hook_id for each in made})
                made = [each for each in made if each.hook_id in left]
                await store.add_deliveries(unit.connection, made)
                await store.count_dropped(unit.connection, dropped)
        if dropped:
            log.warning("webhooks.dropped", hooks=len(dropped), messages=sum(dropped.values()))
        return len(made)

    def _planned(
        self, announcements: Sequence[Announcement], hooks: Sequence[Hook], waiting: Mapping[str, int]
    ) -> tuple[list[Delivery], Mapping[str, int]]:
        made: list[Delivery] = []
        dropped: Counter[str] = Counter()
        filled = Counter(waiting)
        for each in announcements:
            wanting = [hook for hook in hooks if _concerns(hook, each) and wants(hook.topics, each.topic)]
            if not wanting:
                continue
            body = event_body(each.id, each.topic, each.payload, each.announced_at, self._source)
            for hook in wanting:
                if filled[hook.id] >= self._backlog:
                    dropped[hook.id] += 1
                    continue
                filled[hook.id] += 1
                made.append(self.delivery(hook, each.id, each.topic, body))
        return made, dropped

    def delivery(self, hook: Hook, message_id: str, topic: str, body: str) -> Delivery:
        """One that is due now."""
        now = self._clock.now()
        return Delivery(
            id=new_id(self._clock),
            hook_id=hook.id,
            message_id=message_id,
            topic=topic,
            body=body,
            state=DeliveryState.WAITING,
            attempts=0,
            created_at=now,
            next_at=now,
            expires_at=now + self._lifetime,
        )

    def ping(self, hook: Hook) -> Delivery:
        message_id, now = new_id(self._clock), self._clock.now()
        payload = {"webhook_id": hook.id, "tenant_id": hook.tenant_id}
        return self.delivery(
            hook, message_id, "webhooks.ping", event_body(message_id, "webhooks.ping", payload, now, self._source)
        )


def _concerns(hook: Hook, announcement: Announcement) -> bool:
    """A tenant's hook hears of its tenant alone; the platform's of everything."""
    return hook.tenant_id is None or announcement.payload.get("tenant_id") == hook.tenant_id
