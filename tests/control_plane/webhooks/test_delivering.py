"""Every committed event reaches every hook that wants it, at least once, signed; a bad address holds nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from control_plane.database import Database
from control_plane.database.relay import relay_once
from control_plane.events.memory import MemoryEventBus
from control_plane.web.paging import PageRequest
from control_plane.webhooks import store
from control_plane.webhooks.cloudevents import signature
from control_plane.webhooks.model import Delivery, DeliveryState
from tests.control_plane.webhooks.conftest import ADA, ROOT, SECRET, ImagePushed, Inward, OpenSite, Site
from tests.control_plane.webhooks.receivers import Receiver, receiving
from tests.pace import BUSY_SECONDS

PAGE = PageRequest(1, 100)


async def deliveries(site: Site, hook_id: str) -> list[Delivery]:
    return list((await site.webhooks.service.deliveries(ROOT, hook_id, None, PAGE)).items)


async def test_an_event_is_a_signed_cloudevent(site: Site, receiver: Receiver) -> None:
    await site.hook(receiver)
    await site.push()
    assert await site.deliver() == 1
    (got,) = receiver.received
    event = got.event
    assert event["specversion"] == "1.0"
    assert event["type"] == "io.longshore.registry.image_pushed"
    assert event["source"] == "https://longshore.example.com"
    assert event["subject"] == "acme/web"
    assert event["data"] == {"tenant_id": "t-acme", "repository": "acme/web", "tag": "v0"}
    assert got.headers["Content-Type"].startswith("application/cloudevents+json")
    timestamp = int(got.headers["Longshore-Timestamp"])
    assert timestamp == int(site.clock.now().timestamp())
    assert got.headers["Longshore-Signature"] == signature(SECRET.encode(), timestamp, got.body)


async def test_a_hook_gets_what_it_asked_for_and_only_of_its_tenant(site: Site, receiver: Receiver) -> None:
    async with receiving() as whole_platform, receiving() as other_topic:
        await site.hook(receiver, "registry.image_pushed")
        await site.hook(whole_platform, "*", by=ROOT, tenant=None)
        await site.hook(other_topic, "tenants.*")
        await site.announce(
            ImagePushed("t-acme", "acme/web"), ImagePushed("t-birch", "birch/db"), Inward(), ImagePushed("", "none")
        )
        await site.relay()
        await site.deliver()
        assert [event["subject"] for event in receiver.events] == ["acme/web"]
        # Each of the platform's, but not what is between our own parts.
        assert sorted(event["subject"] for event in whole_platform.events) == ["acme/web", "birch/db", "none"]
        assert other_topic.events == []


async def test_a_batch_that_the_relay_repeats_is_delivered_once(site: Site, receiver: Receiver) -> None:
    class DyingBus(MemoryEventBus):
        async def publish(self, event: object) -> None:
            raise asyncio.CancelledError

    await site.hook(receiver)
    await site.announce(ImagePushed("t-acme", "acme/web"))
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            await relay_once(site.database, DyingBus(), site.webhooks.tap)
    await site.relay()
    await site.deliver()
    assert len(receiver.received) == 1


async def test_a_worker_that_dies_sends_the_event_again_under_the_same_id(
    site: Site, open_site: OpenSite, receiver: Receiver
) -> None:
    await site.hook(receiver)
    await site.push()
    receiver.hangs = True
    dying = asyncio.ensure_future(site.webhooks.dispatcher.deliver_due())
    await receiver.until(1)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    receiver.hangs = False
    other = open_site()
    assert await other.deliver() == 0  # the lease of the dead one still holds
    site.clock.tick(60)
    assert await other.deliver() == 1
    first, second = receiver.received
    assert first.event["id"] == second.event["id"]
    assert (first.headers["Longshore-Attempt"], second.headers["Longshore-Attempt"]) == ("1", "2")


@pytest.mark.parametrize("status", [500, 404, 301, 429, 400])
async def test_what_is_refused_is_tried_again_until_it_is_taken(site: Site, receiver: Receiver, status: int) -> None:
    made = await site.hook(receiver)
    receiver.status, receiver.headers = status, {"Location": receiver.url + "/else"} if status == 301 else {}
    await site.push()
    await site.deliver()
    (waiting,) = await deliveries(site, made.owned.hook.id)
    assert (waiting.state, waiting.attempts) == (DeliveryState.WAITING, 1)
    assert 2 <= (waiting.next_at - site.clock.now()).total_seconds() <= 5
    receiver.status = 200
    site.clock.tick(10)
    assert await site.deliver() == 1
    (done,) = await deliveries(site, made.owned.hook.id)
    assert (done.state, done.attempts, done.last_status) == (DeliveryState.DELIVERED, 2, 200)
    assert len(receiver.received) == 2  # a redirect is not followed: nothing went elsewhere
    _, tried = await site.webhooks.service.delivery(ADA, made.owned.hook.id, done.id)
    assert [each.number for each in tried] == [1, 2]


async def test_retry_after_is_kept(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    receiver.status, receiver.headers = 503, {"Retry-After": "600"}
    await site.push()
    await site.deliver()
    (waiting,) = await deliveries(site, made.owned.hook.id)
    assert (waiting.next_at - site.clock.now()).total_seconds() == 600


async def test_an_address_that_hangs_is_given_up_in_time_and_holds_nobody(site: Site, receiver: Receiver) -> None:
    async with receiving() as hanging:
        hanging.hangs = True
        slow = await site.hook(hanging)
        await site.hook(receiver)
        await site.push(count=20)
        running = asyncio.ensure_future(site.webhooks.dispatcher.run())
        began = time.monotonic()
        await receiver.until(20)
        assert time.monotonic() - began < 5 + BUSY_SECONDS
        assert hanging.most_at_once <= 4
        async with asyncio.timeout(BUSY_SECONDS):
            while not [each for each in await deliveries(site, slow.owned.hook.id) if each.last_error]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        errors = {each.last_error for each in await deliveries(site, slow.owned.hook.id)}
        assert any("in time" in error or "within" in error for error in errors), errors


async def test_an_address_that_keeps_failing_is_left_alone_and_probed(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    receiver.status = 500
    await site.push(count=12)
    await site.deliver()
    hook = (await site.webhooks.service.get(ADA, made.owned.hook.id)).hook
    tried = len(receiver.received)
    assert hook.open_until is not None
    assert 5 <= tried <= 8  # four at once
    site.clock.tick(10)
    assert await site.deliver() == 0
    site.clock.tick(60)
    receiver.received.clear()
    assert await site.webhooks.dispatcher.deliver_due() == 1  # one probe
    receiver.status = 200
    site.clock.tick(600)
    await site.deliver()
    assert all(each.state is DeliveryState.DELIVERED for each in await deliveries(site, hook.id))
    assert (await site.webhooks.service.get(ADA, hook.id)).hook.failures == 0


async def test_after_a_day_a_delivery_is_given_up_and_may_be_sent_again(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    receiver.status = 500
    await site.push()
    for _ in range(60):
        await site.deliver()
        site.clock.tick(1800)
    (failed,) = await deliveries(site, made.owned.hook.id)
    assert (failed.state, failed.last_error) == (DeliveryState.FAILED, "HTTP 500")
    receiver.status = 200
    again = await site.webhooks.service.redeliver(ADA, made.owned.hook.id, failed.id)
    assert again.state is DeliveryState.WAITING
    await site.deliver()
    assert receiver.events[-1]["id"] == receiver.events[0]["id"]
    assert (await deliveries(site, made.owned.hook.id))[0].state is DeliveryState.DELIVERED


async def test_what_is_over_while_nobody_tries_is_given_up_by_the_job(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    await site.push()
    site.clock.tick(25 * 3600)
    from_now = await site.webhooks.service.tidy(site.clock.now() - site.clock.now())
    assert from_now[0] == 1
    (failed,) = await deliveries(site, made.owned.hook.id)
    assert failed.state is DeliveryState.FAILED


async def test_a_hook_that_fails_for_days_is_disabled_with_a_message(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    async with receiving() as operator:
        await site.hook(operator, "webhooks.*", by=ROOT, tenant=None)
        receiver.status = 500
        for _ in range(7):
            await site.push()
            await site.deliver()
            site.clock.tick(24 * 3600)
        hook = (await site.webhooks.service.get(ADA, made.owned.hook.id)).hook
        assert not hook.active
        assert "5 days" in hook.disabled_reason
        await site.relay()
        await site.deliver()
        (event,) = operator.events
        assert (event["type"], event["data"]["webhook_id"]) == ("io.longshore.webhooks.disabled", hook.id)
    tried = len(receiver.received)
    await site.push()
    await site.deliver()
    assert len(receiver.received) == tried
    mended = await site.webhooks.service.change(ADA, hook.id, active=True)
    assert (mended.hook.active, mended.hook.failures, mended.hook.disabled_reason) == (True, 0, "")


async def test_a_receiver_that_is_gone_is_believed(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    receiver.status = 410
    await site.push()
    await site.deliver()
    assert not (await site.webhooks.service.get(ADA, made.owned.hook.id)).hook.active


async def test_two_workers_share_the_work_and_double_nothing(
    site: Site, open_site: OpenSite, open_replica: Callable[[], Database], receiver: Receiver
) -> None:
    await site.hook(receiver)
    await site.push(count=40)
    other = open_site(open_replica())
    await asyncio.gather(site.deliver(), other.deliver())
    await site.deliver()
    assert sorted(event["data"]["tag"] for event in receiver.events) == sorted(f"v{number}" for number in range(40))
    assert len({event["id"] for event in receiver.events}) == 40


async def test_a_full_backlog_drops_and_counts(site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await site.hook(receiver)
    monkeypatch.setattr(site.webhooks.fanout, "_backlog", 3)
    await site.push(count=5)
    assert (await site.webhooks.service.get(ADA, made.owned.hook.id)).hook.dropped == 2
    assert len(await deliveries(site, made.owned.hook.id)) == 3


async def test_an_address_inside_is_refused_when_named_and_when_sent_to(
    site: Site, open_site: OpenSite, receiver: Receiver
) -> None:
    made = await site.hook(receiver)
    closed = open_site(allow=())
    for url in (
        "http://127.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
        "https://2130706433/",
        "ftp://a/",
    ):
        with pytest.raises(Exception, match=r"(?i)address|url|http|number|host"):
            await closed.webhooks.service.create(ADA, "acme", url, ["*"])
    await site.push()
    await closed.deliver()
    assert receiver.received == []
    (waiting,) = await deliveries(site, made.owned.hook.id)
    assert "address_refused" in waiting.last_error or "url_invalid" in waiting.last_error


async def test_a_hook_that_is_deleted_under_way_takes_everything_with_it(site: Site, receiver: Receiver) -> None:
    made = await site.hook(receiver)
    await site.push()
    receiver.hangs = True
    delivering = asyncio.ensure_future(site.deliver())
    await receiver.until(1)
    await site.webhooks.service.delete(ADA, made.owned.hook.id)
    receiver.released.set()
    assert await delivering == 1
    await site.push()
    assert await site.deliver() == 0


async def test_a_hook_that_is_deleted_while_its_delivery_is_made_does_not_hold_the_relay(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await site.hook(receiver)
    async with receiving() as other:
        await site.hook(other)
        read = store.backlogs

        async def read_then_deleted(*arguments: object) -> object:
            found = await read(*arguments)  # type: ignore[arg-type]
            await site.webhooks.service.delete(ADA, made.owned.hook.id)
            return found

        with monkeypatch.context() as racing:
            racing.setattr(store, "backlogs", read_then_deleted)
            await site.push()
        await site.deliver()
        assert (len(receiver.received), len(other.received)) == (0, 1)
