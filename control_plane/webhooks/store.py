"""Queries over hooks, their deliveries and attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore
from control_plane.web.paging import Page, PageRequest
from control_plane.webhooks.model import Attempt, Delivery, DeliveryState, Hook
from control_plane.webhooks.rules import Circuit, slots
from control_plane.webhooks.tables import attempts, deliveries, hooks

_HOOKS_A_ROUND = 200


async def add_hook(connection: AsyncConnection, hook: Hook) -> None:
    await connection.execute(insert(hooks).values(**_row(hook)))


async def find_hook(connection: AsyncConnection, hook_id: str, *, lock: bool = False) -> Hook | None:
    query = select(hooks).where(hooks.c.id == hook_id)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    return _hook(row) if row is not None else None


async def replace_hook(connection: AsyncConnection, hook: Hook) -> None:
    await connection.execute(update(hooks).where(hooks.c.id == hook.id).values(**_row(hook)))


async def delete_hook(connection: AsyncConnection, hook_id: str) -> None:
    await connection.execute(delete(hooks).where(hooks.c.id == hook_id))


async def count_hooks(connection: AsyncConnection, tenant_id: str | None) -> int:
    query = select(func.count()).select_from(hooks).where(_of_tenant(tenant_id))
    return int(await connection.scalar(query) or 0)


async def page_of_hooks(connection: AsyncConnection, tenant_id: str | None, page: PageRequest) -> Page[Hook]:
    """The oldest first."""
    query = select(hooks).where(_of_tenant(tenant_id)).order_by(hooks.c.created_at, hooks.c.id)
    rows = await connection.execute(query.offset(page.offset).limit(page.limit))
    return Page([_hook(row) for row in rows], await count_hooks(connection, tenant_id), page)


async def listening(connection: AsyncConnection, tenant_ids: Collection[str]) -> list[Hook]:
    """Active hooks of these tenants and of the platform."""
    query = select(hooks).where(hooks.c.active, or_(hooks.c.tenant_id.is_(None), hooks.c.tenant_id.in_(tenant_ids)))
    return [_hook(row) for row in await connection.execute(query)]


async def hold_hooks(connection: AsyncConnection, hook_ids: Collection[str]) -> frozenset[str]:
    """Those that are still there; nobody deletes them until the transaction ends."""
    query = select(hooks.c.id).where(hooks.c.id.in_(hook_ids)).with_for_update(read=True, key_share=True)
    return frozenset(await connection.scalars(query))


async def backlogs(connection: AsyncConnection, hook_ids: Collection[str]) -> Mapping[str, int]:
    query = (
        select(deliveries.c.hook_id, func.count().label("waiting"))
        .where(deliveries.c.hook_id.in_(hook_ids), deliveries.c.state == DeliveryState.WAITING)
        .group_by(deliveries.c.hook_id)
    )
    return {row.hook_id: row.waiting for row in await connection.execute(query)}


async def count_dropped(connection: AsyncConnection, dropped: Mapping[str, int]) -> None:
    for hook_id, count in dropped.items():
        await connection.execute(update(hooks).where(hooks.c.id == hook_id).values(dropped=hooks.c.dropped + count))


async def add_deliveries(connection: AsyncConnection, made: Sequence[Delivery]) -> None:
    """One that is there already, of the same hook and message, stays as it is."""
    await insert_or_ignore(connection, deliveries, [{**asdict(each), "lease_until": None} for each in made])


async def find_delivery(connection: AsyncConnection, hook_id: str, delivery_id: str) -> Delivery | None:
    query = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.hook_id == hook_id)
    row = (await connection.execute(query)).first()
    return _delivery(row) if row is not None else None


async def hold_delivery(connection: AsyncConnection, delivery_id: str) -> bool:
    """False if it is gone. Hold its hook first: deleting one takes them in that order."""
    query = select(deliveries.c.id).where(deliveries.c.id == delivery_id).with_for_update()
    return (await connection.execute(query)).first() is not None


async def page_of_deliveries(
    connection: AsyncConnection, hook_id: str, state: DeliveryState | None, page: PageRequest
) -> Page[Delivery]:
    """The newest first."""
    query = select(deliveries).where(deliveries.c.hook_id == hook_id)
    if state is not None:
        query = query.where(deliveries.c.state == state)
    total = int(await connection.scalar(select(func.count()).select_from(query.subquery())) or 0)
    ordered = query.order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc())
    rows = await connection.execute(ordered.offset(page.offset).limit(page.limit))
    return Page([_delivery(row) for row in rows], total, page)


async def attempts_of(connection: AsyncConnection, delivery_id: str) -> list[Attempt]:
    query = select(attempts).where(attempts.c.delivery_id == delivery_id).order_by(attempts.c.number)
    rows = await connection.execute(query)
    return [Attempt(row.number, row.at, row.status, row.error, row.seconds) for row in rows]


async def is_due(connection: AsyncConnection, now: datetime) -> bool:
    query = select(deliveries.c.id).join(hooks, hooks.c.id == deliveries.c.hook_id).where(_due(now), _open(now))
    return (await connection.execute(query.limit(1))).first() is not None


async def claim(
    connection: AsyncConnection, now: datetime, lease_until: datetime, busy: Mapping[str, int], at_once: int, most: int
) -> list[tuple[Hook, Delivery]]:
    """At most `most` deliveries that are due, the longest waiting hook first, and of each hook only as many as it has
    slots besides those that are `busy`. They are nobody else's until `lease_until`.
    """
    oldest = func.min(deliveries.c.next_at)
    waiting = (
        select(hooks.c.id)
        .join(deliveries, hooks.c.id == deliveries.c.hook_id)
        .where(_due(now), _open(now))
        .group_by(hooks.c.id)
        .order_by(oldest)
        .limit(_HOOKS_A_ROUND)
    )
    claimed: list[tuple[Hook, Delivery]] = []
    for hook_id in (await connection.scalars(waiting)).all():
        hook = await find_hook(connection, hook_id)
        free = 0 if hook is None else min(slots(hook.failures, at_once) - busy.get(hook_id, 0), most - len(claimed))
        if hook is not None and free > 0:
            taken = await _claim_of(connection, hook_id, now, lease_until, free)
            claimed.extend((hook, delivery) for delivery in taken)
    return claimed


async def _claim_of(
    connection: AsyncConnection, hook_id: str, now: datetime, lease_until: datetime, most: int
) -> list[Delivery]:
    due = select(deliveries).where(deliveries.c.hook_id == hook_id, _due(now))
    due = due.order_by(deliveries.c.next_at).limit(most).with_for_update(skip_locked=True)
    found = [_delivery(row) for row in await connection.execute(due)]
    ids = [delivery.id for delivery in found]
    values = {"lease_until": lease_until, "attempts": deliveries.c.attempts + 1}
    await connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(values))
    return found


async def end_delivery(
    connection: AsyncConnection, delivery_id: str, state: DeliveryState, now: datetime, status: int | None, error: str
) -> None:
    values = {"state": state, "ended_at": now, "last_status": status, "last_error": error, "lease_until": None}
    await connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(values))


async def put_off(
    connection: AsyncConnection, delivery_id: str, next_at: datetime, status: int | None, error: str
) -> None:
    values = {"next_at": next_at, "last_status": status, "last_error": error, "lease_until": None}
    await connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(values))


async def send_again(connection: AsyncConnection, delivery_id: str, now: datetime, expires_at: datetime) -> None:
    """The attempts go on being counted: their history stays."""
    values = {
        "state": DeliveryState.WAITING,
        "next_at": now,
        "expires_at": expires_at,
        "ended_at": None,
        "lease_until": None,
    }
    await connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(values))


async def add_attempt(connection: AsyncConnection, delivery_id: str, made: Attempt) -> None:
    await insert_or_ignore(connection, attempts, [{"delivery_id": delivery_id, **asdict(made)}])


async def hook_succeeded(connection: AsyncConnection, hook_id: str) -> None:
    values = {"failures": 0, "failing_since": None, "open_until": None}
    changed = update(hooks).where(hooks.c.id == hook_id, hooks.c.failures > 0)
    await connection.execute(changed.values(values))


async def hook_failed(connection: AsyncConnection, hook_id: str, circuit: Circuit) -> None:
    values = asdict(circuit) | ({"active": False} if circuit.disabled_reason else {})
    await connection.execute(update(hooks).where(hooks.c.id == hook_id).values(values))


async def expire(connection: AsyncConnection, now: datetime) -> int:
    """Give up deliveries whose time is over (also those whose hook is left alone or disabled)."""
    late = and_(deliveries.c.state == DeliveryState.WAITING, deliveries.c.expires_at <= now)
    values = {"state": DeliveryState.FAILED, "ended_at": now, "lease_until": None}
    return int((await connection.execute(update(deliveries).where(late).values(values))).rowcount)


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    ended = and_(deliveries.c.state != DeliveryState.WAITING, deliveries.c.ended_at < before)
    return int((await connection.execute(delete(deliveries).where(ended))).rowcount)


def _due(now: datetime) -> ColumnElement[bool]:
    free = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until <= now)
    return and_(deliveries.c.state == DeliveryState.WAITING, deliveries.c.next_at <= now, free)


def _open(now: datetime) -> ColumnElement[bool]:
    return and_(hooks.c.active, or_(hooks.c.open_until.is_(None), hooks.c.open_until <= now))


def _of_tenant(tenant_id: str | None) -> ColumnElement[bool]:
    return hooks.c.tenant_id.is_(None) if tenant_id is None else hooks.c.tenant_id == tenant_id


def _row(hook: Hook) -> dict[str, Any]:
    return {**asdict(hook), "topics": list(hook.topics)}


def _hook(row: Row[Any]) -> Hook:
    return Hook(**{**row._mapping, "topics": tuple(row.topics)})


def _delivery(row: Row[Any]) -> Delivery:
    values = dict(row._mapping)
    del values["lease_until"]
    return Delivery(**{**values, "state": DeliveryState(row.state)})
