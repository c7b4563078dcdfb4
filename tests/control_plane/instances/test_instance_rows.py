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
