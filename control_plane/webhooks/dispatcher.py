"""Delivering what is due: many hooks at once, few deliveries of each, none of which holds the others.

Invariants: a delivery is claimed by a lease before it is sent and its outcome written after, so that a worker that is
killed in between sends it again, with the same id (at least once). One dead address takes at most its own slots, and
after five failures one. Nothing waits without an end: each attempt has a deadline, each delivery 24 hours.

Its own loop, not jobs: jobs share four slots, and a hanging address would hold them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Unavailable
from control_plane.audit.model import SYSTEM, Act, Outcome
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.jobs.rounds import Rounds
from control_plane.sealing import SealBroken, SealedBox
from control_plane.webhooks import store
from control_plane.webhooks.cloudevents import headers_of, signature
from control_plane.webhooks.messages import WebhookDisabled
from control_plane.webhooks.model import Answer, Attempt, Delivery, DeliveryState, Hook
from control_plane.webhooks.rules import after_failure, retry_at, told
from control_plane.webhooks.sending import Sender

log = structlog.get_logger()
# The answer of an attempt must be written before another worker takes the delivery for abandoned.
_LEASE_MARGIN_SECONDS = 5.0
_WRITE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    at_once: int = 32
    at_once_per_hook: int = 4
    timeout_seconds: float = 10.0
    poll_seconds: float = 1.0
    patience: timedelta = timedelta(days=5)


class Dispatcher:
    """`run` until cancelled; `wake` when there may be something to deliver."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        box: SealedBox,
        sender: Sender,
        trail: AuditTrail,
        limits: DispatchLimits,
        chance: Callable[[], float],
    ) -> None:
        self._database = database
        self._clock = clock
        self._box = box
        self._sender = sender
        self._trail = trail
        self._limits = limits
        self._chance = chance
        self._busy: Counter[str] = Counter()
        self._rounds = Rounds("webhooks", self._start, clock, chance, limits.poll_seconds)

    def wake(self) -> None:
        self._rounds.wake()

    async def run(self) -> None:
        """Never returns. Waits out an outage of the database."""
        await self._rounds.run()

    async def deliver_due(self) -> int:
        """One round, to its end: for tests and tools."""
        return await self._rounds.once()

    async def _start(self, group: asyncio.TaskGroup) -> int:
        free = self._limits.at_once - self._busy.total()
        if free <= 0:
            return 0
        now = self._clock.now()
        async with self._database.reading() as connection:  # an idle dispatcher takes no turn of SQLite's writer
            if not await store.is_due(connection, now):
                return 0
        lease = now + timedelta(seconds=self._limits.timeout_seconds + _LEASE_MARGIN_SECONDS)
        async with self._database.transaction() as unit:
            per_hook = self._limits.at_once_per_hook
            claimed = await store.claim(unit.connection, now, lease, self._busy, per_hook, free)
        for hook, delivery in claimed:
            self._busy[hook.id] += 1
            group.create_task(self._deliver(hook, delivery), name=f"webhook {hook.id}")
        return len(claimed)

    async def _deliver(self, hook: Hook, delivery: Delivery) -> None:
        try:
            number, began = delivery.attempts + 1, self._clock.monotonic()
            answer = await self._attempt(hook, delivery, number)
            seconds = round(self._clock.monotonic() - began, 3)
            made = Attempt(number, self._clock.now(), answer.status, answer.error, seconds)
            await self._settle(hook, delivery, made, answer)
        except (Unavailable, TimeoutError) as error:
            # The lease lapses and it is sent again, under the same id.
            log.warning("outcome of a webhook delivery not written", delivery=delivery.id, error=str(error))
        except Exception as error:  # one delivery's mishap must not end those of all others
            log.error("webhook delivery failed", delivery=delivery.id, exc_info=error)
        finally:
            self._busy[hook.id] -= 1
            if not self._busy[hook.id]:
                del self._busy[hook.id]
            self._rounds.wake()

    async def _attempt(self, hook: Hook, delivery: Delivery, number: int) -> Answer:
        body, now = delivery.body.encode(), self._clock.now()
        try:
            secret = self._box.open(hook.sealed_secret, f"webhooks/{hook.id}")
        except SealBroken as broken:
            return Answer(None, f"the secret cannot be opened: {broken.detail}"[:400])
        timestamp = int(now.timestamp())
        signed = signature(secret, timestamp, body)
        return await self._sender.send(hook.url, headers_of(delivery.id, number, timestamp, signed), body, now)

    async def _settle(self, hook: Hook, delivery: Delivery, made: Attempt, answer: Answer) -> None:
        async with asyncio.timeout(_WRITE_SECONDS), self._database.transaction() as unit:
            # Read anew and held: other deliveries of the hook end at the same time, here and on other workers, and
            # somebody may be deleting it.
            present = await store.find_hook(unit.connection, hook.id, lock=True)
            if present is None or not await store.hold_delivery(unit.connection, delivery.id):
                return
            await store.add_attempt(unit.connection, delivery.id, made)
            if answer.delivered:
                state, now = DeliveryState.DELIVERED, self._clock.now()
                await store.end_delivery(unit.connection, delivery.id, state, now, answer.status, "")
                await store.hook_succeeded(unit.connection, hook.id)
            else:
                await self._put_off(unit, delivery, made, answer)
                await self._failed(unit, present, answer)

    async def _put_off(self, unit: UnitOfWork, delivery: Delivery, made: Attempt, answer: Answer) -> None:
        now = self._clock.now()
        again = retry_at(made.number, answer, now, self._chance())
        if again >= delivery.expires_at:
            state, error = DeliveryState.FAILED, told(answer)
            await store.end_delivery(unit.connection, delivery.id, state, now, answer.status, error)
        else:
            await store.put_off(unit.connection, delivery.id, again, answer.status, told(answer))

    async def _failed(self, unit: UnitOfWork, hook: Hook, answer: Answer) -> None:
        if not hook.active:
            return
        hook_id = hook.id
        circuit = after_failure(hook, answer, self._clock.now(), self._chance(), self._limits.patience)
        await store.hook_failed(unit.connection, hook_id, circuit)
        if circuit.disabled_reason:
            log.warning("webhook disabled", webhook=hook_id, reason=circuit.disabled_reason)
            await unit.announce(WebhookDisabled(hook_id, hook.tenant_id, circuit.disabled_reason))
            error = circuit.disabled_reason
            self._trail.record(
                unit, Act("webhooks.disabled", SYSTEM, subject=hook_id, outcome=Outcome.FAILURE, error=error)
            )
