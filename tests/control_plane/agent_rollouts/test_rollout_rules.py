from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.agent_rollouts.model import AgentRolloutInvalid, Pace, RolloutRequest, Told, Waiting
from control_plane.agent_rollouts.rules import (
    LAST_WAVE,
    Finish,
    Halt,
    Picture,
    Tell,
    Wait,
    check,
    next_move,
    wave_sizes,
)
from control_plane.instances.model import Phase
from control_plane.preheats.model import Targets

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BAKE = timedelta(minutes=10)
paces = st.builds(
    Pace, st.integers(1, 5), st.floats(0.01, 1.0), st.just(BAKE), st.integers(0, 3), st.just(BAKE), st.just(BAKE)
)


@dataclasses.dataclass
class Simulated:
    """A fleet that answers as it was dealt: each host is well, fails or falls silent, or is away from the start."""

    fate: dict[str, str]
    pace: Pace
    told: dict[str, Told] = dataclasses.field(default_factory=dict)
    wave: int = 0
    settled_at: datetime | None = None
    now: datetime = NOW

    def picture(self) -> Picture:
        waiting = [Waiting(host, self.fate[host] != "away") for host in self.fate if host not in self.told]
        return Picture(self.wave, self.settled_at, list(self.told.values()), waiting)

    def step(self) -> object:
        move = next_move(self.picture(), self.pace, "salt", self.now)
        assert move == next_move(self.picture(), self.pace, "salt", self.now)
        match move:
            case Tell(wave, host_ids):
                self._check(wave, host_ids)
                self.wave, self.settled_at = wave, None
                for host in host_ids:
                    online = self.fate[host] != "away"
                    self.told[host] = Told(host, wave, online, Phase.PENDING, online, not online)
            case Wait(settled):
                self.settled_at = (self.settled_at or self.now) if settled else None
                self.now += timedelta(minutes=1)
                self.answer()
            case _:
                pass
        return move

    def answer(self) -> None:
        for host, told in self.told.items():
            if self.fate[host] == "well":
                self.told[host] = dataclasses.replace(told, phase=Phase.RUNNING)
            elif self.fate[host] == "fails":
                self.told[host] = dataclasses.replace(told, phase=Phase.FAILED, detail="it died")
            elif self.fate[host] == "silent":
                self.told[host] = dataclasses.replace(told, online=False, silent=True)

    def _check(self, wave: int, host_ids: tuple[str, ...]) -> None:
        assert self.told.keys().isdisjoint(host_ids)
        assert len(set(host_ids)) == len(host_ids)
        assert wave > self.wave or wave == LAST_WAVE
        sizes = wave_sizes(len(self.fate), self.pace)
        assert len(self.told) + len(host_ids) <= sizes[wave - 1]
        # Everybody who counts was well, for as long as was asked.
        for told in self.told.values():
            assert told.phase is Phase.RUNNING or not told.was_online or self.pace.max_failures
        if self.told:
            assert self.settled_at is not None
            assert self.now - self.settled_at >= self.pace.bake


@given(st.lists(st.sampled_from(["well", "well", "well", "away", "fails", "silent"]), min_size=1, max_size=60), paces)
def test_a_rollout_reaches_everybody_or_halts_for_a_reason(fates: list[str], pace: Pace) -> None:
    fleet = Simulated({f"h{number:02}": fate for number, fate in enumerate(fates)}, pace)
    for _ in range(200):
        move = fleet.step()
        if isinstance(move, Finish | Halt):
            break
    else:
        # Without a host that is there, nobody can be the canary.
        assert set(fates) == {"away"}
        assert not fleet.told
        return
    bad = {host for host in fleet.told if fleet.fate[host] in ("fails", "silent")}
    if isinstance(move, Finish):
        assert fleet.told.keys() == fleet.fate.keys()
        assert len(bad) <= pace.max_failures
        assert not any(fleet.told[host].wave == 1 for host in bad)
    else:
        assert len(bad) > pace.max_failures or any(fleet.told[host].wave == 1 for host in bad)
        assert isinstance(fleet.step(), Halt)  # and stays so


@given(st.integers(1, 2000), paces)
def test_waves_only_grow_and_the_last_is_everybody(hosts: int, pace: Pace) -> None:
    first, second, last = wave_sizes(hosts, pace)
    assert 1 <= first <= second <= last == hosts


def test_the_usual_waves() -> None:
    assert wave_sizes(1000, Pace()) == (1, 100, 1000)
    assert wave_sizes(3, Pace()) == (1, 1, 3)
    assert wave_sizes(1, Pace()) == (1, 1, 1)


def test_the_canary_is_there_when_it_is_told() -> None:
    waiting = [Waiting(f"a{number}", False) for number in range(50)] + [Waiting("there", True)]
    assert next_move(Picture(0, None, [], waiting), Pace(), "s", NOW) == Tell(1, ("there",))
    assert next_move(Picture(0, None, [], waiting[:50]), Pace(), "s", NOW) == Wait(settled=False)


def test_a_host_that_changes_its_version_is_away_for_a_moment() -> None:
    away = Told("h", 1, True, Phase.CREATING, online=False, silent=False)
    assert next_move(Picture(1, None, [away], []), Pace(), "s", NOW) == Wait(settled=False)
    gone = dataclasses.replace(away, silent=True)
    halt = next_move(Picture(1, None, [gone], []), Pace(), "s", NOW)
    assert isinstance(halt, Halt)
    assert "has not been heard of" in halt.reason


def test_who_was_away_when_told_holds_nobody_up() -> None:
    told = [
        Told("a", 1, True, Phase.RUNNING, online=True),
        Told("b", 3, False, Phase.PENDING, online=False, silent=True),
    ]
    assert next_move(Picture(3, NOW - BAKE, told, []), Pace(), "s", NOW) == Finish()
    back = dataclasses.replace(told[1], online=True, silent=False)
    assert next_move(Picture(3, NOW - BAKE, [told[0], back], []), Pace(), "s", NOW) == Wait(settled=False)


def test_hosts_that_come_late_are_told_at_once() -> None:
    told = [Told("a", 1, True, Phase.RUNNING, online=True)]
    assert next_move(Picture(3, NOW - BAKE, told, [Waiting("b", True)]), Pace(), "s", NOW) == Tell(3, ("b",))


def test_a_long_list_of_failures_is_cut() -> None:
    told = [Told(f"h{number}", 3, True, Phase.FAILED, True, detail="why") for number in range(40)]
    halt = next_move(Picture(3, None, told, []), Pace(), "s", NOW)
    assert isinstance(halt, Halt)
    assert halt.reason.startswith("40 of 40 hosts")
    assert halt.reason.endswith("and 35 more")


@pytest.mark.parametrize(
    "change",
    [
        {"canaries": 0},
        {"canaries": 101},
        {"share": 0.0},
        {"share": 1.1},
        {"max_failures": -1},
        {"bake": timedelta(days=15)},
        {"healthy": timedelta(0)},
        {"patience": timedelta(hours=3)},
        {"healthy": timedelta(minutes=5), "patience": timedelta(minutes=5)},
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    pace = dataclasses.replace(Pace(), **change)  # type: ignore[arg-type]
    with pytest.raises(AgentRolloutInvalid):
        check(RolloutRequest("acme/agent:1", "1", Targets(), pace))


@pytest.mark.parametrize("version", ["", "x" * 65, "1\n2"])
def test_a_version_has_a_name(version: str) -> None:
    with pytest.raises(AgentRolloutInvalid):
        check(RolloutRequest("acme/agent:1", version, Targets()))


def test_regionals_have_no_agent() -> None:
    with pytest.raises(AgentRolloutInvalid):
        check(RolloutRequest("acme/agent:1", "1", Targets(regionals_only=True)))
