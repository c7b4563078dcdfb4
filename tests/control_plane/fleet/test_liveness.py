"""Who counts as alive: the rule, and the same rule in SQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet import store_idcs, store_members
from control_plane.fleet.liveness import Horizon, horizon, horizons, silence_limit, state_of
from control_plane.fleet.messages import RegionalsChanged
from control_plane.fleet.model import Host, Idc, Regional, State
from control_plane.fleet.presence import Presence
from control_plane.fleet.watch import best_first
from tests.control_plane.fleet.plane import unavailable

NOW = ManualClock().now()
HOST = Host("host", "h", "e1", "i", "east", "1", NOW, None, NOW, "s", "r", None)
USUAL = horizon(NOW, uptime_seconds=3600, heartbeat_seconds=10, flush_seconds=30)
JUST_STARTED = horizon(NOW, uptime_seconds=5, heartbeat_seconds=10, flush_seconds=30)
LONG_AGO = NOW - timedelta(hours=1)

CASES = {
    "attached and seen": (HOST, State.ONLINE, State.ONLINE),
    "its stream ended": (replace(HOST, session_id=None), State.OFFLINE, State.OFFLINE),
    "its replica died": (replace(HOST, last_seen_at=LONG_AGO), State.OFFLINE, State.ONLINE),
    "never attached": (replace(HOST, session_id=None, last_seen_at=None), State.OFFLINE, State.OFFLINE),
    "copied a moment ago": (replace(HOST, conflict_at=NOW), State.CONFLICT, State.CONFLICT),
    "copied long ago": (replace(HOST, conflict_at=LONG_AGO), State.ONLINE, State.ONLINE),
    "revoked": (replace(HOST, revoked_at=NOW, conflict_at=NOW), State.REVOKED, State.REVOKED),
}


@pytest.mark.parametrize(("host", "usually", "after_a_start"), CASES.values(), ids=CASES)
def test_a_state_follows_from_what_was_seen(host: Host, usually: State, after_a_start: State) -> None:
    assert state_of(host, USUAL) is usually
    assert state_of(host, JUST_STARTED) is after_a_start


@pytest.mark.parametrize("at", [USUAL, JUST_STARTED], ids=["usually", "after a start"])
async def test_the_database_answers_as_the_rule_does(database: Database, at: Horizon) -> None:
    async with database.transaction() as unit:
        await store_idcs.insert_idc(unit.connection, Idc("i", "east", "East", NOW))
        for number, (host, _, _) in enumerate(CASES.values()):
            reported = {
                name: getattr(host, name)
                for name in ("session_id", "session_replica", "last_seen_at", "conflict_at", "revoked_at")
            }
            await store_members.insert_member(
                unit.connection, "host", f"h{number}", "i", f"e{number}", NOW, {"version": "1", **reported}
            )
    async with database.reading() as connection:
        for state in State:
            found, total = await store_members.list_members(
                connection, "host", idc="east", state=state, at=at, offset=0, limit=100
            )
            expected = [
                f"h{number}" for number, (host, _, _) in enumerate(CASES.values()) if state_of(host, at) is state
            ]
            assert [member.id for member in found] == expected
            assert total == len(expected)
        _, unrevoked = await store_members.list_members(
            connection, "host", idc=None, state=None, at=at, offset=0, limit=1
        )
    assert unrevoked == len(CASES) - 1


def test_nobody_is_declared_down_for_three_heartbeats_after_a_start() -> None:
    clock = ManualClock()
    look = horizons(clock, heartbeat_seconds=10, flush_seconds=30)
    clock.tick(30)
    assert look().seen_after is None
    clock.tick(5)
    assert look().seen_after is not None


def test_a_lapsed_lease_halves_the_patience_with_a_silent_stream() -> None:
    assert silence_limit(10) == pytest.approx(33)
    assert silence_limit(10, lease_lapsed=True) == pytest.approx(16.5)


def test_regionals_that_are_there_come_first_and_else_the_last_ones_known() -> None:
    there = Regional("regional", "a", "a", "i", "east", "1", NOW, None, NOW, "s", "r", None)
    gone = replace(there, id="b", session_id=None)

    assert best_first([there, gone], USUAL) == [there]
    assert best_first([gone], USUAL) == [gone]


async def test_what_could_not_be_written_of_who_left_is_written_later(database: Database, clock: ManualClock) -> None:
    async with database.transaction() as unit:
        await store_idcs.insert_idc(unit.connection, Idc("i", "east", "East", NOW))
        await store_members.insert_member(
            unit.connection, "regional", "r1", "i", "r1", NOW, {"session_id": "s", "session_replica": "me"}
        )
    flaky = _Flaky(database)
    presence = Presence(flaky, "me", clock)  # type: ignore[arg-type]
    presence.left(replace(HOST, kind="regional", id="r1"), "s")

    flaky.away = True
    with pytest.raises(type(unavailable())):
        await presence.flush_ended()
    flaky.away = False
    await presence.flush_ended()

    async with database.reading() as connection:
        found = await store_members.find_member(connection, "regional", "r1")
    assert found is not None
    assert found.session_id is None
    assert flaky.announced == [RegionalsChanged("i")]


async def test_a_flush_writes_everybody_in_one_statement_and_leaves_newer_sessions_alone(
    database: Database, clock: ManualClock
) -> None:
    async with database.transaction() as unit:
        await store_idcs.insert_idc(unit.connection, Idc("i", "east", "East", NOW))
        for number in range(3):
            await store_members.insert_member(
                unit.connection, "host", f"h{number}", "i", f"e{number}", NOW, {"session_id": f"s{number}"}
            )
    presence = Presence(database, "me", clock)
    presence.watch(lambda: [store_members.Session("host", f"h{n}", f"s{n}") for n in (0, 1)])
    presence.left(replace(HOST, id="h2"), "an older session")
    clock.tick(30)
    await presence.flush()

    async with database.reading() as connection:
        seen = [await store_members.find_member(connection, "host", f"h{number}") for number in range(3)]
    assert [member.last_seen_at for member in seen if member] == [clock.now(), clock.now(), None]
    assert [member.session_id for member in seen if member] == ["s0", "s1", "s2"]


async def test_a_host_whose_stream_broke_has_a_heartbeat_to_come_back_before_it_is_written_down(
    database: Database, clock: ManualClock
) -> None:
    async with database.transaction() as unit:
        await store_idcs.insert_idc(unit.connection, Idc("i", "east", "East", NOW))
        for name in ("back", "gone"):
            await store_members.insert_member(
                unit.connection, "host", name, "i", name, NOW, {"session_id": f"s-{name}"}
            )

    async def sessions() -> list[str | None]:
        async with database.reading() as connection:
            found = [await store_members.find_member(connection, "host", name) for name in ("back", "gone")]
        return [member.session_id for member in found if member]

    presence = Presence(database, "me", clock, grace_seconds=10)
    for name in ("back", "gone"):
        presence.left(replace(HOST, id=name), f"s-{name}")
    await presence.flush_ended()
    at_once = await sessions()
    async with database.transaction() as unit:
        await store_members.change(unit.connection, "host", "back", session_id="s-new")
    clock.tick(10)
    await presence.flush_ended()

    assert at_once == ["s-back", "s-gone"]
    assert await sessions() == ["s-new", None]


class _Flaky:
    """A database that can be away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.announced: list[object] = []

    def transaction(self):  # type: ignore[no-untyped-def]
        if self.away:
            raise unavailable()
        return _Noting(self)


class _Noting:
    def __init__(self, flaky: _Flaky) -> None:
        self._flaky = flaky
        self._transaction = flaky._database.transaction()

    async def __aenter__(self):  # type: ignore[no-untyped-def]
        self._unit = await self._transaction.__aenter__()
        return self._unit

    async def __aexit__(self, *error):  # type: ignore[no-untyped-def]
        self._flaky.announced.extend(self._unit.announced)
        return await self._transaction.__aexit__(*error)
