"""Who waits for hosts hears of those that came or changed, and is left in peace by those that only attach again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from control_plane.database.outbox import outbox
from control_plane.events import Event
from control_plane.fleet.messages import HostsCame
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Plane

LAST = Event(HostsCame.topic, {"hosts": 99})


@pytest.mark.parametrize("changed", [False, True])
async def test_hosts_that_come_or_change_are_announced(plane: Plane, edge: Callable[..., Edge], changed: bool) -> None:
    agent = edge("e1")
    await agent.enrol(await plane.join_token())
    async with plane.bus.subscribe(HostsCame.topic) as events:
        async with agent.attached(forever=True):
            first = (await plane.fleet.members.get("host", agent.id)).member.session_id
            # A restart ends the stream, and leaves the session written down.
            plane.fleet.presence.left = lambda *_: None  # type: ignore[method-assign]
            if changed:
                agent.facts.cpus = 64
            await plane.__aexit__(None, None, None)
            await plane.__aenter__()

            async def attached_again() -> bool:
                return (await plane.fleet.members.get("host", agent.id)).member.session_id not in (None, first)

            await eventually(attached_again)
        await eventually(lambda: _relayed(plane))
        await plane.bus.publish(LAST)
        heard = []
        async for event in events:
            heard.append(event.payload["hosts"])
            if event == LAST:
                break
    assert heard == ([1, 1, 99] if changed else [1, 99])


async def _relayed(plane: Plane) -> bool:
    async with plane.database.reading() as connection:
        return (await connection.execute(select(outbox))).first() is None
