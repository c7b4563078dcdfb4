"""Who waits for hosts hears of those that came or changed, and is left in peace by those that only attach again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from control_plane.events import Event
from control_plane.fleet.messages import HostsCame
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Plane
from tests.control_plane.swarm.parts import announced

LAST = Event(HostsCame.topic, {"hosts": 99})


@pytest.mark.parametrize("changed", [False, True])
async def test_hosts_that_come_or_change_are_announced_and_not_those_that_attach_again(
    plane: Plane, edge: Callable[..., Edge], changed: bool
) -> None:
    agent = edge("e1")
    await agent.enrol(await plane.join_token())
    async with plane.bus.subscribe(HostsCame.topic) as events:
        async with agent.attached(forever=True):
            first = (await plane.fleet.members.get("host", agent.id)).member.session_id
            # As kill -9 does, which this process cannot do to itself: the session stays written down.
            plane.fleet.presence.left = lambda *_: None  # type: ignore[method-assign]
            if changed:
                agent.facts.cpus = 64
            await plane.__aexit__(None, None, None)
            await plane.__aenter__()

            async def attached_again() -> bool:
                return (await plane.fleet.members.get("host", agent.id)).member.session_id not in (None, first)

            await eventually(attached_again)

        async def relayed() -> bool:
            return not await announced(plane.database)

        await eventually(relayed)
        await plane.bus.publish(LAST)
        heard = []
        async for event in events:
            heard.append(event.payload["hosts"])
            if event == LAST:
                break
    assert heard == ([1, 1, 99] if changed else [1, 99])
