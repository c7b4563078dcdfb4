"""Whose webhooks they are, what may be changed, and that secrets and foreign hooks stay unseen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from common.errors import Denied, NotFound, Unauthenticated
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.web.paging import PageRequest
from control_plane.webhooks import service
from control_plane.webhooks.cloudevents import signature
from control_plane.webhooks.model import SecretWeak, TopicInvalid, WebhooksFull, WebhookUnknown
from control_plane.webhooks.service import DeliveryUnderway, WebhookService
from tests.control_plane.webhooks.conftest import ADA, BOB, ROOT, SECRET, VERA, Site
from tests.control_plane.webhooks.receivers import Receiver

PAGE = PageRequest(1, 100)
Use = Callable[[WebhookService, Principal, str, str], Awaitable[Any]]
USES: list[tuple[str, Use]] = [
    ("get", lambda hooks, by, hook, _: hooks.get(by, hook)),
    ("change", lambda hooks, by, hook, _: hooks.change(by, hook, active=False)),
    ("rotate", lambda hooks, by, hook, _: hooks.rotate(by, hook)),
    ("ping", lambda hooks, by, hook, _: hooks.ping(by, hook)),
    ("deliveries", lambda hooks, by, hook, _: hooks.deliveries(by, hook, None, PAGE)),
    ("delivery", lambda hooks, by, hook, delivery: hooks.delivery(by, hook, delivery)),
    ("redeliver", lambda hooks, by, hook, delivery: hooks.redeliver(by, hook, delivery)),
    ("delete", lambda hooks, by, hook, _: hooks.delete(by, hook)),
]


async def test_a_foreign_hook_does_not_exist_whatever_is_asked_of_it(site: Site, receiver: Receiver) -> None:
    hooks = site.webhooks.service
    mine = await site.hook(receiver)
    platform = await site.hook(receiver, "*", by=ROOT, tenant=None)
    foreign = await site.hook(receiver, by=BOB, tenant="birch")
    await site.push()
    await site.deliver()
    hook_id = mine.owned.hook.id
    delivery_id = next(iter((await hooks.deliveries(ADA, hook_id, None, PAGE)).items)).id
    for name, use in USES:
        with pytest.raises(WebhookUnknown):
            await use(hooks, BOB, hook_id, delivery_id)
        with pytest.raises(WebhookUnknown):
            await use(hooks, ADA, platform.owned.hook.id, delivery_id)
        with pytest.raises(Denied):
            await use(hooks, VERA, hook_id, delivery_id)
        with pytest.raises(Unauthenticated):
            await use(hooks, ANONYMOUS, hook_id, delivery_id)
        if name in ("delivery", "redeliver"):  # a delivery of another hook, by way of one's own
            with pytest.raises(NotFound):
                await use(hooks, BOB, foreign.owned.hook.id, delivery_id)
    assert (await hooks.get(ADA, hook_id)).hook == mine.owned.hook


async def test_hooks_are_made_where_one_administrates(site: Site, receiver: Receiver) -> None:
    hooks = site.webhooks.service
    refused = ((BOB, "acme", NotFound), (VERA, "acme", Denied), (ADA, None, Denied), (ROOT, "none", NotFound))
    for by, tenant, error in refused:
        with pytest.raises(error):
            await hooks.create(by, tenant, receiver.url, ["*"])
        with pytest.raises(error):
            await hooks.list(by, tenant, PAGE)
    await site.hook(receiver)
    await site.hook(receiver, by=ROOT, tenant=None)
    for by, tenant in ((ADA, "acme"), (ROOT, "acme"), (ROOT, None)):
        assert (await hooks.list(by, tenant, PAGE)).total_count == 1
    assert (await hooks.list(BOB, "birch", PAGE)).total_count == 0


async def test_bad_input_makes_nothing(site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = site.webhooks.service
    for topics in ([], ["nothing"], ["fleet.*"], ["*"] * 51):
        with pytest.raises(TopicInvalid):
            await hooks.create(ADA, "acme", receiver.url, topics)
    for secret in ("short", "x" * 257, "with a \x00 in the middle"):
        with pytest.raises(SecretWeak):
            await hooks.create(ADA, "acme", receiver.url, ["*"], secret=secret)
    monkeypatch.setattr(service, "MAX_HOOKS", 1)
    await site.hook(receiver)
    with pytest.raises(WebhooksFull):
        await site.hook(receiver)
    assert (await hooks.list(ADA, "acme", PAGE)).total_count == 1


async def test_a_secret_is_sealed_and_rotated(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    assert SECRET not in repr(made)
    rotated = await site.webhooks.service.rotate(ADA, made.owned.hook.id)
    async with site.database.reading() as connection:
        (stored,) = (await connection.scalars(text("SELECT sealed_secret FROM webhooks"))).all()
    assert rotated.secret.encode() not in bytes(stored)
    await site.push()
    await site.deliver()
    (got,) = receiver.received
    expected = signature(rotated.secret.encode(), int(got.headers["Longshore-Timestamp"]), got.body)
    assert got.headers["Longshore-Signature"] == expected


async def test_what_is_done_to_a_hook_is_recorded_without_its_query(site: Site, receiver: Receiver) -> None:
    url = f"{receiver.url}?key=hidden"
    made = await site.webhooks.service.create(ADA, "acme", url, ["*"])
    await site.webhooks.service.change(ADA, made.owned.hook.id, active=False)
    await site.webhooks.service.delete(ADA, made.owned.hook.id)
    async with site.database.reading() as connection:
        entries = [str(entry) for entry in (await connection.scalars(text("SELECT entry FROM audit_inbox"))).all()]
    assert [operation for operation in ("created", "changed", "deleted") if f"webhooks.{operation}" in "".join(entries)]
    assert len(entries) == 3
    assert "hidden" not in "".join(entries)
    assert made.secret not in "".join(entries)


async def test_a_ping_reaches_a_hook_whatever_it_listens_to(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver, "tenants.*")
    sent = await site.webhooks.service.ping(ADA, made.owned.hook.id)
    with pytest.raises(DeliveryUnderway):
        await site.webhooks.service.redeliver(ADA, made.owned.hook.id, sent.id)
    await site.deliver()
    (event,) = receiver.events
    assert (event["type"], event["id"]) == ("io.longshore.webhooks.ping", sent.message_id)


async def test_hooks_go_with_their_tenant(site: Site, receiver: Receiver) -> None:
    await site.hook(receiver)
    await site.push()
    async with site.database.transaction() as unit:
        await unit.connection.execute(text("DELETE FROM tenants WHERE id = 't-acme'"))
    assert await site.deliver() == 0
    async with site.database.reading() as connection:
        assert (await connection.scalar(text("SELECT count(*) FROM webhook_deliveries"))) == 0


async def test_ended_deliveries_are_forgotten_after_their_time(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    await site.push()
    await site.deliver()
    assert await site.webhooks.service.tidy(timedelta(days=7)) == (0, 0)
    site.clock.tick(8 * 86400)
    assert await site.webhooks.service.tidy(timedelta(days=7)) == (0, 1)
    assert (await site.webhooks.service.deliveries(ADA, made.owned.hook.id, None, PAGE)).total_count == 0
