"""What a regional says is wrong where it is: seen in its state at the centre, bounded, and gone once it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from control_plane.fleet.model import Regional
from control_plane.fleet.schemas import RegionalView
from proto.regional.v1 import regional_pb2
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Plane

ROGUE = "another DHCP server, 10.77.0.9, gives addresses on eth1"


def say(regional: Edge, *warnings: str) -> None:
    assert regional.sender is not None
    condition = regional_pb2.Condition(warnings=warnings)
    regional.sender.send(regional_pb2.RegionalMessage(condition=condition))


async def warnings(plane: Plane) -> Sequence[str]:
    seen = await plane.fleet.members.get("regional", "east/r1")
    assert isinstance(seen.member, Regional)
    assert RegionalView.of(seen).warnings == list(seen.member.warnings)
    return list(seen.member.warnings)


async def until(plane: Plane, wanted: Sequence[str]) -> None:
    said: list[Sequence[str]] = []

    async def look() -> bool:
        said.append(await warnings(plane))
        return said[-1] == wanted

    await eventually(look, f"{wanted} of {said[-1:]}")


async def test_what_is_wrong_at_a_regional_is_seen_until_it_is_over(plane: Plane, edge: Callable[..., Edge]) -> None:
    regional = edge("r1", kind="regional")
    await regional.enrol(await plane.join_token("regional"), "r1", addresses=["127.0.0.1"])
    assert await warnings(plane) == []
    async with regional.attached():
        say(regional, ROGUE)
        await until(plane, [ROGUE])
    # Who is away is remembered with what it said last.
    assert await warnings(plane) == [ROGUE]
    regional = edge("r1", kind="regional", process_id=regional.process_id)
    async with regional.attached():
        say(regional)
        await until(plane, [])


async def test_what_a_regional_says_is_bounded(plane: Plane, edge: Callable[..., Edge]) -> None:
    regional = edge("r1", kind="regional")
    await regional.enrol(await plane.join_token("regional"), "r1", addresses=["127.0.0.1"])
    async with regional.attached():
        say(regional, *("\0" + "x" * 10_000 for _ in range(100)))
        await until(plane, ["x" * 500] * 32)
