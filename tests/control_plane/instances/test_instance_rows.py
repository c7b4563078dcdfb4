"""Many instances are written down in few statements, and read as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from common.clock import ManualClock
from common.digest import Digest
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.instances import store
from control_plane.instances.model import DesiredState, ImageContent, Instance, InstanceImage, InstanceSpec

pytestmark = pytest.mark.usefixtures("fleet")


def image(name: str) -> InstanceImage:
    manifest, layer = (ImageContent(Digest.of(f"{what} of {name}".encode()), 7, what) for what in ("manifest", "layer"))
    return InstanceImage(name, f"acme/{name}", "1", manifest, (layer,))


def instance(clock: ManualClock, number: int, **more: Any) -> Instance:
    known: dict[str, Any] = {"image": image("web"), "spec": InstanceSpec(environment={"A": "it's"}, cpus=0.5), **more}
    now = clock.now()
    return Instance(
        id=new_id(clock),
        tenant_id="t-acme",
        tenant="acme",
        host_id=f"host-{number}",
        idc_id=f"idc-{number % 3}",
        name=f"web-{number}",
        desired_state=DesiredState.RUNNING,
        generation=1,
        restart_nonce=0,
        created_at=now,
        updated_at=now,
        **known,
    )


async def test_instances_that_differ_in_host_and_name_are_one_statement_whoever_made_their_specifications(
    database: Database, clock: ManualClock
) -> None:
    plain = [instance(clock, number) for number in range(300)]
    others = [
        instance(clock, 300, image=image("api")),
        instance(clock, 301, spec=InstanceSpec(cpus=2)),
        instance(clock, 302, spec=InstanceSpec(cpus=2)),
        replace(instance(clock, 303), desired_state=DesiredState.HELD),
    ]
    told: list[str] = []

    def note(_c: Any, _d: Any, statement: str, *_rest: Any) -> None:
        told.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    async with database.transaction() as unit:
        assert await store.add(unit.connection, [*plain, *others])
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)

    assert len([one for one in told if one.startswith("INSERT INTO instances")]) == 4
    async with database.reading() as connection:
        found = await store.with_ids(connection, {one.id for one in (*plain, *others)})
    assert found == {one.id: one for one in (*plain, *others)}


async def test_what_is_alike_on_many_hosts_is_read_once_and_what_is_not_stays_apart(
    database: Database, clock: ManualClock
) -> None:
    odd = InstanceSpec(environment={"GRÜSSE": 'ä"\\\N{SNOWMAN}', "{}": "[1, 2]"}, labels={"b": "1", "a": "2"})
    alike, others = ([instance(clock, number + first, spec=odd) for number in range(20)] for first in (0, 20))
    others = [replace(one, image=image(f"api-{one.name}"), spec=replace(odd, user=one.name)) for one in others]
    async with database.transaction() as unit:
        assert await store.add(unit.connection, [*alike, *others])
    async with database.reading() as connection:
        found = await store.with_ids(connection, {one.id for one in (*alike, *others)})
        assert found == {one.id: one for one in (*alike, *others)}
        assert found[others[0].id] == await store.find(connection, others[0].id)
    assert len({id(found[one.id].spec) for one in alike}) == 1
    assert len({id(found[one.id].image) for one in alike}) == 1


async def test_one_name_that_is_taken_is_told_and_nothing_of_it_is_overwritten(
    database: Database, clock: ManualClock
) -> None:
    there = instance(clock, 1)
    async with database.transaction() as unit:
        assert await store.add(unit.connection, [there])
        again = replace(instance(clock, 1, spec=InstanceSpec(cpus=9)), id=new_id(clock))
        assert not await store.add(unit.connection, [instance(clock, 2), again])
    async with database.reading() as connection:
        assert await store.find(connection, there.id) == there
