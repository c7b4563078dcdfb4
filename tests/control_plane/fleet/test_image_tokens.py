"""Who is given one token for all contents of an image: hosts that read it, where every regional takes it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from sqlalchemy import select, update

from common.tls import IdentityKind
from control_plane.database import Database
from control_plane.fleet import store_members
from control_plane.fleet.tables import hosts, regionals
from tests.compatibility.descriptors import previous
from tests.control_plane.fleet.edge import Edge, eventually, speaking
from tests.control_plane.fleet.plane import Plane
from tests.control_plane.swarm.parts import CREATED, add_host, add_idc, add_regional

MakeEdge = Callable[..., Edge]
SAID = (None, False, True)


@pytest.mark.parametrize("host", SAID)
async def test_a_host_is_given_them_when_it_and_every_regional_of_its_idc_said_so(
    database: Database, host: bool | None
) -> None:
    able = set()
    for number, regionals_say in enumerate([(), *product(SAID), *product(SAID, SAID)]):
        await add_idc(database, f"idc{number}")
        host_id = await add_host(database, f"idc{number}", f"h{number}", image_tokens=host)
        for other, said in enumerate(regionals_say):
            await add_regional(database, f"idc{number}", f"r{number}-{other}", image_tokens=said)
        if host and all(regionals_say):
            able.add(host_id)

    async with database.reading() as connection:
        everybody = set(await connection.scalars(select(hosts.c.id)))
        assert await store_members.taking_image_tokens(connection, everybody) == able
    assert len(able) == (3 if host else 0)


async def test_a_regional_that_was_revoked_has_no_say(database: Database) -> None:
    await add_idc(database, "east")
    host_id = await add_host(database, "east", "e1", image_tokens=True)
    old = await add_regional(database, "east", "er", image_tokens=False)

    async with database.transaction() as unit:
        await unit.connection.execute(update(regionals).where(regionals.c.id == old).values(revoked_at=CREATED))

    async with database.reading() as connection:
        assert await store_members.taking_image_tokens(connection, {host_id}) == {host_id}


async def regional_of(plane: Plane, edge: MakeEdge, name: str = "r1") -> Edge:
    regional = edge(name, kind="regional")
    await regional.enrol(await plane.join_token("regional"), name, addresses=["127.0.0.1"])
    return regional


async def said(plane: Plane, kind: IdentityKind, name: str) -> bool | None:
    return (await plane.fleet.members.get(kind, f"east/{name}")).member.image_tokens


async def test_what_both_say_in_hello_is_remembered(plane: Plane, edge: MakeEdge) -> None:
    agent = edge(image_tokens=True)
    await agent.enrol(await plane.join_token())
    regional = await regional_of(plane, edge)
    regional.image_tokens = True
    assert (await said(plane, "host", "e1"), await said(plane, "regional", "r1")) == (None, None)

    async with agent.attached(), regional.attached():
        assert (await said(plane, "host", "e1"), await said(plane, "regional", "r1")) == (True, True)


async def test_an_agent_of_the_release_before_is_known_not_to_read_them(plane: Plane, edge: MakeEdge) -> None:
    agent = edge()
    await agent.enrol(await plane.join_token())
    agent.dialect = speaking(agent, previous())

    async with agent.attached():
        assert await said(plane, "host", "e1") is False


async def test_hosts_are_told_again_when_a_regional_that_refuses_them_comes(plane: Plane, edge: MakeEdge) -> None:
    agent = edge(image_tokens=True)
    await agent.enrol(await plane.join_token())
    newer, older = await regional_of(plane, edge), await regional_of(plane, edge, "r2")
    newer.image_tokens = True

    async def generation() -> int:
        async with plane.database.reading() as connection:
            return int(await connection.scalar(select(hosts.c.assignments_generation)) or 0)

    async with agent.attached():
        asked = plane.desired.asked
        async with newer.attached():
            assert await generation() == 1, "whoever takes them changes nothing"
        async with older.attached():
            assert await generation() == 2
            await eventually(lambda: plane.desired.asked > asked)
        async with edge("r2", kind="regional").attached():
            assert await generation() == 2, "it is known by now"
        newer = edge("r1", kind="regional")
        async with newer.attached():
            assert await generation() == 3, "it was replaced by an older version of itself"
