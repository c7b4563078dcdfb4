"""What is wrong at a regional reaches its centre while it lasts, bounded, and again after every reconnection."""

from __future__ import annotations

from typing import Any

from common.clock import ManualClock
from common.lifecycle import Lifecycle
from common.patience import RoundEnded
from proto.regional.v1 import regional_pb2
from regional.alarms import Alarms
from regional.session import Session


class Up:
    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.over = False

    def send(self, message: regional_pb2.RegionalMessage) -> None:
        if self.over:
            raise RoundEnded("the round is over")
        self.said.append(list(message.condition.warnings))


def session_of(alarms: Alarms) -> Session:
    class Part:
        """Of the caches and journals nothing is asked here."""

        changed: Any = None

    nothing: Any = Part()
    session = Session(nothing, nothing, nothing, nothing, nothing, nothing, ManualClock(), "https://centre")
    session.alarms = alarms.present
    return session


def test_what_is_wrong_is_told_once_and_when_it_changes() -> None:
    wrong: list[str] = []
    alarms, up = Alarms(), Up()
    alarms.watch(lambda: wrong)
    session = session_of(alarms)
    for _ in range(2):
        session._tell_alarms(up)
    assert up.said == [[]]  # whatever an earlier process said is over
    wrong.append("a second DHCP server")
    for _ in range(2):
        session._tell_alarms(up)
    wrong.clear()
    session._tell_alarms(up)
    assert up.said == [[], ["a second DHCP server"], []]
    up.over = True
    wrong.append("a full disk")
    session._tell_alarms(up)
    again = Up()
    session._tell_alarms(again)
    assert again.said == [["a full disk"]]


def test_alarms_are_bounded_and_said_once() -> None:
    alarms = Alarms()
    alarms.watch(lambda: [f"{number} " + "x" * 1000 for number in range(100)])
    assert len(alarms.present()) == 32
    assert {len(each) for each in alarms.present()} == {500}
    twice = Alarms()
    twice.watch(lambda: ["a"])
    twice.watch(lambda: ["a", "b"])
    assert twice.present() == ("a", "b")


async def test_a_change_is_noticed_without_being_asked() -> None:
    wrong: list[str] = []
    told: list[tuple[str, ...]] = []
    alarms, clock = Alarms(), ManualClock()
    alarms.watch(lambda: wrong)
    alarms.changed = lambda: told.append(alarms.present())
    async with Lifecycle() as lifecycle:
        lifecycle.spawn("alarms", alarms.run(clock))
        for words in (["a"], ["a"], []):
            wrong[:] = words
            await clock.advance(10)
    assert told == [("a",), ()]
