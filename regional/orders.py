"""The orders of this IDC: journalled, kept until they are withdrawn, and reported.

One task keeps one order: it holds the content or says why not and tries again. Contents are shared below (see `edge`),
so two tenants that order the same digest cost one crossing of the WAN.

Invariant: the set that is acted upon is the set in the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from common.backoff import Backoff
from common.digest import Digest
from common.errors import Failure, RateLimited, Unavailable
from common.generations import HeldSet
from proto.content.v1 import content_pb2
from proto.regional.v1 import machines_pb2, regional_pb2
from regional.centre import CentreBusy
from regional.edge import Edge
from regional.journal import Journal
from regional.model import ContentKey, Effort, Order, OrderState, Phase
from regional.pieces import Spawn
from regional.shelf import Shelf

log = structlog.get_logger()

_LONGEST_DELAY_SECONDS = 60.0
_STANDS_STILL = "it stands still outside its window; what is there stays"
_EFFORTS: Mapping[int, Effort] = {
    content_pb2.EFFORT_LOWER: Effort.LOWER,
    content_pb2.EFFORT_PAUSED: Effort.PAUSED,
}
_WORDS = {
    Effort.ORDINARY: content_pb2.EFFORT_UNSPECIFIED,
    Effort.LOWER: content_pb2.EFFORT_LOWER,
    Effort.PAUSED: content_pb2.EFFORT_PAUSED,
}


class BootTargets(Protocol):
    """Who keeps the boot targets that come with the orders. Both methods may be repeated with the same words.

    `fresh`: it lost them, or never had any, so the centre must say everything again.
    """

    @property
    def fresh(self) -> bool: ...

    async def replace(self, targets: Sequence[machines_pb2.BootTarget]) -> None: ...

    async def change(self, targets: Sequence[machines_pb2.BootTarget], removed: Sequence[str]) -> None: ...


class OrderBook:
    """`changed` is told each order whose state moved, `unordered` each content without an order that did, and
    `released` what is ordered no more.
    """

    def __init__(self, edge: Edge, shelf: Shelf, journal: Journal, random: Callable[[], float], spawn: Spawn) -> None:
        self._edge = edge
        self._shelf = shelf
        self._journal = journal
        self._random = random
        self._spawn = spawn
        self._set: HeldSet[ContentKey, Order] = HeldSet()
        self._tasks: dict[ContentKey, asyncio.Task[None]] = {}
        self._wakes: dict[ContentKey, asyncio.Event] = {}
        self._phases: dict[ContentKey, tuple[Phase, str]] = {}
        self._by_digest: dict[Digest, set[ContentKey]] = {}
        self.changed: Callable[[ContentKey], None] = lambda _: None
        self.unordered: Callable[[Digest], None] = lambda _: None
        self.released: Callable[[ContentKey], None] = lambda _: None
        self.machines: BootTargets | None = None
        edge.changed = self._content_changed

    @property
    def generation(self) -> int:
        return self._set.generation

    def keys(self) -> list[ContentKey]:
        return list(self._set.items)

    def tokens(self, tenant_id: str) -> list[str]:
        """Of that tenant's orders."""
        return [order.token for key, order in self._set.items.items() if key.tenant_id == tenant_id]

    async def start(self) -> None:
        """Take up the journalled orders; the centre need not be there."""
        journalled = await asyncio.to_thread(self._journal.load_orders)
        if journalled is not None:
            orders = _orders(journalled.orders)
            lost = self.machines is not None and self.machines.fresh
            self._set.replace(0 if lost else journalled.results_in, orders)
            for key in orders:
                # Known before the first report, so that the centre never hears a smaller number than before.
                await self._edge.crossings.load(key)
            self._act({}, orders)
            log.info("orders taken up", generation=journalled.results_in, orders=len(orders))

    async def replace(self, received: regional_pb2.OrderSet) -> None:
        # First the targets, then the generation: killed in between, they come once more.
        if self.machines is not None:
            await self.machines.replace(received.boot_targets)
        received.ClearField("boot_targets")
        await asyncio.to_thread(self._journal.save_orders, received)
        before, orders = self._set.items, _orders(received.orders)
        self._set.replace(received.results_in, orders)
        self._act(before, orders)
        log.info("orders received", generation=received.results_in, orders=len(orders))

    async def change(self, received: regional_pb2.OrderChanges) -> None:
        """Raises `Stale` on a gap; then nothing changed."""
        after = HeldSet(self._set.generation, dict(self._set.items))
        removed = [ContentKey(Digest.parse(key.digest), key.tenant_id) for key in received.removed]
        after.apply(received.applies_to, received.results_in, _orders(received.changed), removed)
        if self.machines is not None:
            await self.machines.change(received.changed_targets, received.removed_machines)
        await asyncio.to_thread(self._journal.save_orders, _order_set(after))
        before, self._set = self._set.items, after
        self._act(before, after.items)
        log.info("orders changed", generation=after.generation, changed=len(received.changed), removed=len(removed))

    def state(self, key: ContentKey) -> OrderState | None:
        """None if it is not ordered any more."""
        order = self._set.items.get(key)
        if order is None:
            return None
        phase, detail = self._phases.get(key, (Phase.WAITING, ""))
        if phase is not Phase.HELD and self._edge.is_fetching(key.digest):
            phase, detail = Phase.FETCHING, ""
        return OrderState(
            key=key,
            size_bytes=order.size_bytes,
            held_bytes=self._edge.held_bytes(key.digest),
            phase=phase,
            from_centre_bytes=self._edge.crossings.count(key),
            detail=detail,
        )

    def _act(self, before: Mapping[ContentKey, Order], after: Mapping[ContentKey, Order]) -> None:
        for key in before.keys() - after.keys():
            self._withdraw(key)
        for key, order in after.items():
            self._edge.links.ordered(key, order.effort)
            if key in self._tasks and order.effort is Effort.PAUSED and not self._edge.holds(key.digest):
                # It waits in a new task for the order that lets it go on.
                self._tasks.pop(key).cancel()
                self._tasks[key] = self._spawn(f"order {key.digest}", self._keep(key))
                self._edge.stand_still(key.digest)
            if key not in self._tasks:
                self._shelf.order(key)
                self._by_digest.setdefault(key.digest, set()).add(key)
                self._wakes[key] = asyncio.Event()
                self._tasks[key] = self._spawn(f"order {key.digest}", self._keep(key))
                self.changed(key)
            elif before.get(key) != order:
                self._wakes[key].set()

    def _withdraw(self, key: ContentKey) -> None:
        self._tasks.pop(key).cancel()
        self._edge.links.ordered(key, None)
        del self._wakes[key]
        self._phases.pop(key, None)
        self._shelf.withdraw(key)
        keys = self._by_digest[key.digest]
        keys.discard(key)
        if not keys:
            del self._by_digest[key.digest]
        self.released(key)

    async def _keep(self, key: ContentKey) -> None:
        backoff = Backoff(self._random, initial_seconds=1.0, cap_seconds=_LONGEST_DELAY_SECONDS)
        wake = self._wakes[key]
        while True:
            wake.clear()
            order = self._set.items[key]
            if order.effort is Effort.PAUSED and not self._edge.holds(key.digest):
                self._enter(key, Phase.WAITING, _STANDS_STILL)
                await wake.wait()
                continue
            try:
                await self._edge.hold(key, order.token, order.size_bytes, ordered=True)
            except Failure as failure:
                waiting = isinstance(failure, CentreBusy)
                self._enter(key, Phase.WAITING if waiting else Phase.FAILED, str(failure))
                delay = backoff.next_delay()
                if isinstance(failure, RateLimited | Unavailable):
                    delay = max(delay, min(failure.retry_after_seconds, _LONGEST_DELAY_SECONDS))
                await _pause(wake, delay)
            else:
                self._enter(key, Phase.HELD, "")
                return

    def _enter(self, key: ContentKey, phase: Phase, detail: str) -> None:
        if self._phases.get(key) != (phase, detail):
            self._phases[key] = phase, detail
            self.changed(key)

    def _content_changed(self, digest: Digest) -> None:
        keys = self._by_digest.get(digest)
        if keys is None:
            self.unordered(digest)
            return
        for key in keys:
            self.changed(key)


async def _pause(wake: asyncio.Event, seconds: float) -> None:
    """Sleep, or less if the order's token was renewed meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return


def _orders(received: Iterable[regional_pb2.Order]) -> dict[ContentKey, Order]:
    """An order that makes no sense is left out and logged: the others must not suffer for it."""
    orders: dict[ContentKey, Order] = {}
    for order in received:
        content = order.content
        try:
            key = ContentKey(Digest.parse(content.digest), order.tenant_id)
        except Failure as failure:
            log.error("order not understood", digest=content.digest[:160], error=str(failure))
            continue
        effort = _EFFORTS.get(order.effort, Effort.ORDINARY)
        orders[key] = Order(key, content.size_bytes, content.media_type, content.token, effort)
    return orders


def _order_set(held: HeldSet[ContentKey, Order]) -> regional_pb2.OrderSet:
    return regional_pb2.OrderSet(
        results_in=held.generation,
        orders=[
            regional_pb2.Order(
                tenant_id=order.key.tenant_id,
                effort=_WORDS[order.effort],
                content=content_pb2.Content(
                    digest=str(order.key.digest),
                    size_bytes=order.size_bytes,
                    media_type=order.media_type,
                    token=order.token,
                ),
            )
            for order in held.items.values()
        ],
    )
