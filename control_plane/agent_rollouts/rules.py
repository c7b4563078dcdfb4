"""How a version goes from wave to wave: what is told next, and when to stop; pure.

Invariants: nobody is told while a host of the waves before is not yet well, or was not long enough; in the first wave
no failure is forgiven; nobody is told twice; a host that was away when it was told holds nobody up, for it may be away
for good; the same picture always leads to the same move.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from control_plane.agent_rollouts.model import AgentRolloutInvalid, Pace, RolloutRequest, Told, Waiting
from control_plane.instances.model import Phase

LAST_WAVE = 3
MOST_HOSTS = 50_000
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Tell:
    """These hosts are the next wave, in the order of their ids."""

    wave: int
    host_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """`settled`: whether every host that counts is well."""

    settled: bool


@dataclass(frozen=True, slots=True)
class Halt:
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    pass


Move: TypeAlias = "Tell | Wait | Halt | Finish"


@dataclass(frozen=True, slots=True)
class Picture:
    """`wave`: the last that was begun; `settled_at`: since when it is well."""

    wave: int
    settled_at: datetime | None
    told: Sequence[Told]
    waiting: Sequence[Waiting]


def next_move(picture: Picture, pace: Pace, salt: str, now: datetime) -> Move:
    if (reason := _reason_to_halt(picture.told, pace)) is not None:
        return Halt(reason)
    if any(not _well(one) and _counts(one) for one in picture.told):
        return Wait(settled=False)
    if picture.told and (picture.settled_at is None or now < picture.settled_at + pace.bake):
        return Wait(settled=True)
    if picture.wave >= LAST_WAVE and not picture.waiting:
        return Finish()
    return _next_wave(picture, pace, salt)


def wave_sizes(hosts: int, pace: Pace) -> tuple[int, int, int]:
    """How many are told after each wave."""
    first = min(hosts, pace.canaries)
    second = min(hosts, max(first, math.ceil(hosts * pace.share)))
    return first, second, hosts


def ranked(waiting: Sequence[Waiting], salt: str) -> list[Waiting]:
    """Those that are there first; among them an order that is nobody's favourite."""
    return sorted(waiting, key=lambda one: (not one.online, hashlib.sha256(f"{salt}\0{one.host_id}".encode()).digest()))


def check(request: RolloutRequest) -> None:
    """Raises `AgentRolloutInvalid`."""
    pace = request.pace
    if not 1 <= pace.canaries <= 100:
        raise AgentRolloutInvalid(f"{pace.canaries} hosts cannot be the first wave", action="choose 1 to 100")
    if not 0 < pace.share <= 1:
        raise AgentRolloutInvalid(f"a share of {pace.share:g} is none", action="give a percentage of 1 to 100")
    if not 0 <= pace.max_failures <= MOST_HOSTS:
        raise AgentRolloutInvalid(f"{pace.max_failures} failures cannot be forgiven", action="give 0 or more")
    for name, span, least, most in (
        ("bake", pace.bake, timedelta(0), timedelta(days=14)),
        ("healthy", pace.healthy, timedelta(seconds=1), timedelta(hours=1)),
        ("patience", pace.patience, timedelta(seconds=10), timedelta(hours=2)),
    ):
        if not least <= span <= most:
            raise AgentRolloutInvalid(
                f"a {name} time of {span.total_seconds():.0f} s is none",
                action=f"give {least.total_seconds():.0f} to {most.total_seconds():.0f} seconds",
            )
    if pace.healthy >= pace.patience:
        raise AgentRolloutInvalid(
            "a version would be given up before it can be trusted", action="make patience longer than healthy"
        )
    if not 0 < len(request.version) <= 64 or not request.version.isprintable():
        raise AgentRolloutInvalid("the version has no name", action="name it with 1 to 64 characters, like 1.4.2")
    if request.targets.regionals_only or request.targets.percentage != 100:
        raise AgentRolloutInvalid("an agent's version is for hosts, in waves", action="choose by IDC, label or name")


def _next_wave(picture: Picture, pace: Pace, salt: str) -> Move:
    """Waves that would be empty are left out. Canaries are hosts that are there: one that is away tells nothing."""
    sizes = wave_sizes(len(picture.told) + len(picture.waiting), pace)
    for wave in range(min(picture.wave + 1, LAST_WAVE), LAST_WAVE + 1):
        wanted = sizes[wave - 1] - len(picture.told)
        chosen = ranked(picture.waiting, salt)[: max(0, wanted)]
        if wave == 1 and not picture.told:
            chosen = [one for one in chosen if one.online]
            if not chosen:
                return Wait(settled=False)
        if chosen:
            return Tell(wave, tuple(sorted(one.host_id for one in chosen)))
    return Finish()


def _reason_to_halt(told: Sequence[Told], pace: Pace) -> str | None:
    bad = [one for one in told if _bad(one)]
    first = [one for one in bad if one.wave == 1]
    if not first and len(bad) <= pace.max_failures:
        return None
    shown = (first or bad)[:_NAMED]
    said = "; ".join(f"{one.host_id}: {_what(one)}" for one in shown)
    more = f"; and {len(bad) - len(shown)} more" if len(bad) > len(shown) else ""
    return f"{len(bad)} of {len(told)} hosts did not take it: {said}{more}"


def _bad(one: Told) -> bool:
    return one.phase is Phase.FAILED or (one.was_online and one.silent)


def _what(one: Told) -> str:
    return one.detail or "it failed" if one.phase is Phase.FAILED else "it has not been heard of since"


def _well(one: Told) -> bool:
    return one.phase is Phase.RUNNING and one.online


def _counts(one: Told) -> bool:
    """Hosts that are bad, within what is forgiven, hold nobody up; those that change their version are away for a
    moment.
    """
    return not _bad(one) and (one.online or one.was_online)
