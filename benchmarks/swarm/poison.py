"""poison: one of 8 hosts has a rightful place in the swarm and false bytes to give.

It gets the blob as everybody does; then a byte in each of its blocks of 16 KiB is changed beneath it, as bad memory or
an intruder would. The other seven are asked to hold the blob. None of them may end with a false byte, and the control
plane must name that host to the operator; each host bans it by itself.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.spread import digest_of, wrap
from benchmarks.swarm import plan as figures
from benchmarks.swarm.contender import Arena
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.network import Shape
from benchmarks.swarm.plan import Plan, note
from benchmarks.swarm.race import arena, make_blob
from common.errors import Failure
from common.reference import Reference
from control_plane.cli.push import push

_MEBIBYTES = 64
_SHAPE = Shape((8,), 100, 100, 1000)
_POISONER = 8
_BLOCK = 16 << 10
_PATIENCE_SECONDS = 180.0
# Offences travel with the agents' reports.
_TOLD_WITHIN_SECONDS = 30.0


def measure(plan: Plan) -> bool:
    size = plan.size(_MEBIBYTES) << 20
    false_copies: list[float] = []
    accusers: list[float] = []
    seconds: list[float] = []
    for number in range(1, plan.runs + 1):
        path = plan.folder / "blob"
        blob = make_blob(path, size)
        with arena(_SHAPE, plan.folder, blob, path) as place:
            side = Longshore(place, logs=plan.logs / f"poison-{number}" if plan.logs else None)
            try:
                taken, false, named = _run(place, side)
            finally:
                side.close()
        note(f"poison {number}: 7 hosts after {taken:.2f} s, {false} false copies, the poisoner named by {named} hosts")
        false_copies.append(false)
        accusers.append(named)
        seconds.append(taken)
    what = f"poison: {size >> 20} MiB, one of {_SHAPE} gives false bytes"
    met = figures.most(f"hosts that show false bytes, worst run; {what}", "hosts", [max(false_copies)], 0, [], None)
    named_by = [min(accusers)]
    met &= figures.least(
        f"hosts whose accusation names the poisoner, worst run; {what}", "hosts", named_by, 1, [], None
    )
    figures.told(f"time until the other seven hold it; {what}", "seconds", seconds, [], None)
    return met


def _run(place: Arena, side: Longshore) -> tuple[float, int, int]:
    """(seconds, false copies, hosts that named the poisoner)."""
    fleet, poisoner = side.fleet, place.network.host(_POISONER).name
    fleet.start()
    push(fleet.client, Reference.parse("acme/blob:1"), wrap(place.blob), lambda _digest, _held: None)
    others = [number for number in place.network.numbers() if number != _POISONER]
    side.request_on("acme/blob:1", [_POISONER], "poisoned")
    _wait(side, [_POISONER])
    time.sleep(3.0)  # it is a seed by then
    _poison(side)
    started = time.monotonic()
    side.request_on("acme/blob:1", others, "blob")
    _wait(side, others)
    seconds = time.monotonic() - started
    false = sum(digest_of(side.copy(number)) != place.blob.digest for number in others)
    return seconds, false, len(_accusers(side, poisoner))


def _poison(side: Longshore) -> None:
    """In place: the torrent's file is the same inode, and what a host gave before is not read again."""
    with side.copy(_POISONER).open("r+b") as file:
        size = file.seek(0, 2)
        for offset in range(_BLOCK // 2, size, _BLOCK):
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))


def _accusers(side: Longshore, poisoner: str) -> set[str]:
    """Hosts that name it, once anybody does, or by the deadline."""
    deadline = time.monotonic() + _TOLD_WITHIN_SECONDS
    while True:
        rows: list[dict[str, Any]] = side.fleet.client.every("/api/v1/swarm/offences")
        named = {row["accuser"] for row in rows if row["accused_name"].endswith(f"/{poisoner}")}
        if named or time.monotonic() > deadline:
            return named
        time.sleep(0.5)


def _wait(side: Longshore, numbers: list[int]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while missing := [number for number in numbers if not side.holds(number)]:
        if time.monotonic() > deadline:
            raise Failure(f"hosts {missing} are not done after {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.02)
