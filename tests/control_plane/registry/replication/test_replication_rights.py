"""Whose endpoints and rules they are, on both engines; and what cannot be said."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from common.errors import Denied, Invalid, NotFound
from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.jobs.cron import CronInvalid
from control_plane.registry.messages import ImagePushed
from control_plane.registry.replication import task_store
from control_plane.registry.replication.assembly import Replication, build_replication
from control_plane.registry.replication.endpoints import EndpointPlan
from control_plane.registry.replication.failures import (
    EndpointInUse,
    EndpointUnknown,
    ExecutionUnknown,
    NameTaken,
    RuleInvalid,
    RuleUnknown,
)
from control_plane.registry.replication.model import Direction, OtherRegistry, Rule, State
from control_plane.registry.replication.rules import RuleChange, RulePlan
from control_plane.registry.replication.selection import Filter, Naming
from control_plane.registry.service import RegistryService
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.settings import ReplicationSettings
from control_plane.tenants.access import Principal
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy, AddressRefused
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, BOB, OTTO, ROOT, Directory

PAGE = PageRequest(1, 50)


@pytest.fixture
def replication(database: Database, registry: RegistryService, tmp_path: Path) -> Replication:
    """On both engines."""
    box = SealedBox(KeyRing.load_or_create(tmp_path / "keys"))
    settings = ReplicationSettings(settle_seconds=1)
    return build_replication(
        database,
        Directory("acme", "birch"),
        box,
        Outbound(AddressPolicy.of([])),
        registry,
        CollectorRegistry(),
        settings,
        random.Random(2).random,
    )


async def endpoint_of(
    replication: Replication, by: Principal = ADA, tenant: str | None = "acme", name: str = "there"
) -> OtherRegistry:
    plan = EndpointPlan(tenant, name, "https://registry.example.com", "user", "a secret")
    return await replication.endpoints.create(by, plan)


async def rule_of(replication: Replication, endpoint: OtherRegistry, by: Principal = ADA, **more: object) -> Rule:
    plan = {"source": Filter(("acme/**",)), "direction": Direction.PUSH, "name": "all", **more}
    return await replication.rules.create(
        by,
        RulePlan(endpoint.tenant or None, endpoint_id=endpoint.endpoint_id, **plan),  # type: ignore[arg-type]
    )


async def test_to_others_it_does_not_exist(replication: Replication) -> None:
    endpoint = await endpoint_of(replication)
    rule = await rule_of(replication, endpoint)
    execution = (await replication.executions.start(ADA, rule.rule_id)).execution
    services = replication
    with pytest.raises(EndpointUnknown):
        await services.endpoints.get(BOB, endpoint.endpoint_id)
    with pytest.raises(EndpointUnknown):
        await services.endpoints.set_credentials(BOB, endpoint.endpoint_id, "bob", "x")
    with pytest.raises(EndpointUnknown):
        await services.endpoints.remove(BOB, endpoint.endpoint_id)
    with pytest.raises(RuleUnknown):
        await services.rules.get(BOB, rule.rule_id)
    with pytest.raises(RuleUnknown):
        await services.executions.start(BOB, rule.rule_id)
    with pytest.raises(ExecutionUnknown):
        await services.executions.stop(BOB, execution.execution_id)
    with pytest.raises(ExecutionUnknown):
        await services.executions.tasks(BOB, execution.execution_id, None, PAGE)
    for listing in (
        await services.endpoints.list(BOB, None, PAGE),
        await services.rules.list(BOB, None, PAGE),
        await services.executions.list(BOB, None, rule.rule_id, PAGE),
    ):
        assert listing.total_count == 0
    with pytest.raises(NotFound):
        await services.rules.list(BOB, "acme", PAGE)


async def test_only_administrators_see_it(replication: Replication) -> None:
    endpoint = await endpoint_of(replication)
    with pytest.raises(Denied):
        await replication.endpoints.get(OTTO, endpoint.endpoint_id)
    with pytest.raises(Denied):
        await endpoint_of(replication, OTTO, name="other")
    with pytest.raises(Denied):
        await endpoint_of(replication, ADA, None)
    assert (await replication.endpoints.list(OTTO, None, PAGE)).total_count == 0
    platform = await endpoint_of(replication, ROOT, None)
    assert (await replication.endpoints.list(ROOT, None, PAGE)).total_count == 2
    with pytest.raises(EndpointUnknown):
        await replication.endpoints.get(ADA, platform.endpoint_id)


async def test_a_rule_uses_its_owners_endpoints_only(replication: Replication) -> None:
    endpoint = await endpoint_of(replication, BOB, "birch")
    plan = RulePlan("acme", "theirs", endpoint.endpoint_id, Direction.PUSH, Filter(("acme/**",)))
    with pytest.raises(EndpointUnknown):
        await replication.rules.create(ADA, plan)


async def test_a_password_is_sealed_and_shown_nowhere(replication: Replication) -> None:
    endpoint = await endpoint_of(replication)
    assert b"a secret" not in (endpoint.sealed or b"")
    assert "a secret" not in repr(endpoint)


async def test_an_address_within_is_refused(replication: Replication) -> None:
    for url in ("https://10.0.0.1", "http://169.254.169.254"):
        with pytest.raises(AddressRefused):
            await replication.endpoints.create(ADA, EndpointPlan("acme", "inner", url))
    for url in ("https://x.example/path", "ftp://x", "https://a:b@x.example"):
        with pytest.raises(Invalid):
            await replication.endpoints.create(ADA, EndpointPlan("acme", "inner", url))
    assert (await replication.endpoints.list(ADA, None, PAGE)).total_count == 0


async def test_what_makes_no_sense_is_refused(replication: Replication) -> None:
    endpoint = await endpoint_of(replication)
    with pytest.raises(NameTaken):
        await endpoint_of(replication)
    with pytest.raises(RuleInvalid, match="would not go to acme"):
        await rule_of(replication, endpoint, direction=Direction.PULL, source=Filter(("library/*",)))
    with pytest.raises(RuleInvalid, match="would not go to acme"):
        await rule_of(replication, endpoint, direction=Direction.PULL, naming=Naming("birch"))
    with pytest.raises(RuleInvalid, match="hears of no events"):
        await rule_of(replication, endpoint, direction=Direction.PULL, on_event=True)
    with pytest.raises(RuleInvalid, match="two schedules"):
        await rule_of(replication, endpoint, every_hours=2.0, cron="0 3 * * *")
    with pytest.raises(CronInvalid):
        await rule_of(replication, endpoint, cron="0 3 31 2 *")
    rule = await rule_of(replication, endpoint)
    with pytest.raises(EndpointInUse):
        await replication.endpoints.remove(ADA, endpoint.endpoint_id)
    with pytest.raises(RuleInvalid):
        await replication.rules.change(ADA, rule.rule_id, RuleChange(options={"every_hours": 1.0, "cron": "0 3 * * *"}))
    await replication.rules.remove(ADA, rule.rule_id)
    await replication.endpoints.remove(ADA, endpoint.endpoint_id)


async def test_a_tenant_takes_its_rules_along(replication: Replication, database: Database) -> None:
    rule = await rule_of(replication, await endpoint_of(replication))
    await replication.executions.start(ADA, rule.rule_id)
    async with database.transaction() as unit:
        assert await replication.endpoints.tenant_goes(unit, "t-acme") is None
    assert (await replication.executions.list(ROOT, None, None, PAGE)).total_count == 0
    assert (await replication.endpoints.list(ROOT, None, PAGE)).total_count == 0


async def test_a_schedule_runs_once_a_tick_and_not_twice_at_once(replication: Replication, clock: ManualClock) -> None:
    rule = await rule_of(replication, await endpoint_of(replication), every_hours=2.0)
    assert [await replication.executions.start_due() for _ in range(2)] == [1, 0]
    clock.tick(2 * 3600)
    assert await replication.executions.start_due() == 1
    listed = await replication.executions.list(ADA, None, rule.rule_id, PAGE)
    assert [each.execution.cause.value for each in listed.items] == ["schedule"], "the first has not ended yet"
    await replication.executions.stop(ADA, listed.items[0].execution.execution_id)
    clock.tick(2 * 3600)
    await replication.executions.start_due()
    assert (await replication.executions.list(ADA, None, rule.rule_id, PAGE)).total_count == 2
    await replication.rules.change(ADA, rule.rule_id, RuleChange(options={"enabled": False}))
    clock.tick(10 * 3600)
    assert await replication.executions.start_due() == 0
    assert await replication.executions.forget(timedelta(hours=1)) == 1


async def test_a_cron_schedule_is_waited_for_in_its_zone(replication: Replication, clock: ManualClock) -> None:
    rule = await rule_of(replication, await endpoint_of(replication), cron="30 2 * * *", time_zone="Asia/Shanghai")
    assert rule.next_run_at is not None
    assert (rule.next_run_at.hour, rule.next_run_at.minute) == (18, 30)
    assert await replication.executions.start_due() == 0, "a time of day is waited for"
    clock.tick((rule.next_run_at - clock.now()).total_seconds())
    assert [await replication.executions.start_due() for _ in range(2)] == [1, 0]
    again = await replication.rules.get(ADA, rule.rule_id)
    assert again.next_run_at == rule.next_run_at + timedelta(days=1)
    changed = await replication.rules.change(ADA, rule.rule_id, RuleChange(options={"time_zone": "UTC"}))
    assert changed.next_run_at is not None
    assert changed.next_run_at.hour == 2
    await replication.rules.change(ADA, rule.rule_id, RuleChange(options={"cron": None}))
    clock.tick(3 * 86400)
    assert await replication.executions.start_due() == 0


async def test_a_stopped_execution_is_not_worked_on(
    replication: Replication, database: Database, clock: ManualClock
) -> None:
    rule = await rule_of(replication, await endpoint_of(replication))
    execution = (await replication.executions.start(ADA, rule.rule_id)).execution
    until = clock.now() + timedelta(seconds=30)
    async with database.transaction() as unit:
        (claimed,) = await task_store.claim(unit.connection, "lease-1", clock.now(), until, 3, 8)
        assert await task_store.claim(unit.connection, "lease-2", clock.now(), until, 3, 8) == []
    await replication.executions.stop(ADA, execution.execution_id)
    async with database.transaction() as unit:
        assert not await task_store.renew(unit.connection, claimed, until, 5)
        assert not await task_store.end(unit.connection, claimed, State.SUCCEEDED, clock.now(), 5, "")
    assert (await replication.executions.get(ADA, execution.execution_id)).execution.state is State.STOPPED


async def test_a_lapsed_lease_is_taken_over_and_its_holder_writes_nothing_more(
    replication: Replication, database: Database, clock: ManualClock
) -> None:
    rule = await rule_of(replication, await endpoint_of(replication))
    await replication.executions.start(ADA, rule.rule_id)
    async with database.transaction() as unit:
        until = clock.now() + timedelta(seconds=30)
        (dead,) = await task_store.claim(unit.connection, "lease-1", clock.now(), until, 3, 8)
    clock.tick(31)
    async with database.transaction() as unit:
        until = clock.now() + timedelta(seconds=30)
        (alive,) = await task_store.claim(unit.connection, "lease-2", clock.now(), until, 3, 8)
        assert (alive.task.task_id, alive.task.attempts) == (dead.task.task_id, 2)
        assert not await task_store.keep_checkpoint(unit.connection, dead, {"sha256:x": "y"})
        assert await task_store.keep_checkpoint(unit.connection, alive, {"sha256:x": "y"})


async def test_bursts_become_one_task_a_tag_within_the_endpoints_bound(
    replication: Replication, database: Database, clock: ManualClock
) -> None:
    await rule_of(replication, await endpoint_of(replication), on_event=True)
    pushed = [
        Announcement(
            f"m-{number}",
            ImagePushed.topic,
            {
                "tenant_id": tenant,
                "repository": f"{tenant[2:]}/web",
                "digest": f"sha256:{number:064}",
                "media_type": "",
                "tag": f"t{number % 5}",
                "by": "ada",
            },
            clock.now(),
        )
        for tenant in ("t-acme", "t-birch")
        for number in range(40)
    ]
    assert await replication.hearing(pushed[:20]) == 5
    assert await replication.hearing(pushed) == 0
    clock.tick(2)
    async with database.transaction() as unit:
        until = clock.now() + timedelta(seconds=30)
        assert len(await task_store.claim(unit.connection, "lease-1", clock.now(), until, 3, 8)) == 3
        assert await task_store.claim(unit.connection, "lease-2", clock.now(), until, 3, 8) == []
