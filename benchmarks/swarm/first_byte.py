"""While a blob arrives at eight hosts, how soon an engine that asks a host's mirror for it gets the first byte of it.

Two hosts are asked again and again over loopback, a new connection each time, from the moment of the request until
the blob is held: `asking.py` runs in the host's namespace. Answers that came before the host knew of the blob (404) do
not count; the first that counts is told apart, because nothing is there yet: a piece of 1 MiB needs 84 ms at 100
Mbit/s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks.swarm import plan as figures
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.plan import Plan, note
from benchmarks.swarm.race import arena, make_blob
from benchmarks.swarm.spreads import FLAT8
from common.errors import Failure

_GOAL_MILLISECONDS = 50.0
_ASKED = (2, 7)
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class _Waits:
    """Milliseconds."""

    first: list[float]
    later: list[float]


def measure(plan: Plan) -> bool:
    found = _Waits([], [])
    size = plan.size(FLAT8.mebibytes) << 20
    for number in range(1, plan.runs + 1):
        path = plan.folder / "blob"
        blob = make_blob(path, size)
        with arena(FLAT8.shape, plan.folder, blob, path) as place:
            side = Longshore(place, logs=plan.logs / f"first-byte-{number}" if plan.logs else None)
            try:
                waits = _asked_while_it_arrives(side)
            finally:
                side.close()
        note(
            f"first-byte {number}: first {', '.join(f'{wait:.0f}' for wait in waits.first)} ms,"
            f" then {len(waits.later)} times: median {sorted(waits.later)[len(waits.later) // 2]:.1f},"
            f" worst {max(waits.later):.1f} ms"
        )
        found.first.extend(waits.first)
        found.later.extend(waits.later)
    what = "first body byte from the mirror while the blob arrives at 8 hosts, 100 Mbit/s"
    met = figures.most(f"{what}: p50", "ms", found.later, _GOAL_MILLISECONDS, [], None)
    figures.told(f"{what}: p95", "ms", [sorted(found.later)[int(len(found.later) * 0.95)]], [], None)
    figures.told(f"{what}: asked before a byte of it is there", "ms", found.first, [], None)
    return met


def _asked_while_it_arrives(side: Longshore) -> _Waits:
    side.prepare()
    network, digest = side.arena.network, side.arena.blob.digest
    asking = {}
    for number in _ASKED:
        host = network.host(number)
        url = f"http://127.0.0.1:{side.fleet.services[host.name].facts['mirror']}/v2/acme/blob/blobs/{digest}"
        command = [*host.prefix, sys.executable, "-m", "benchmarks.swarm.asking", url]
        asking[number] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    held: dict[int, float] = {}
    try:
        side.go()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(held) < len(_ASKED):
            held.update({number: time.monotonic() for number in _ASKED if number not in held and side.holds(number)})
            if time.monotonic() > deadline:
                raise Failure("the blob did not arrive")
            time.sleep(0.01)
        answers = {number: process.communicate(b"\n", timeout=30)[0] for number, process in asking.items()}
    finally:
        for process in asking.values():
            process.kill()
            process.wait(10)
    waits = _Waits([], [])
    for number, answer in answers.items():
        here = [seconds * 1e3 for asked_at, seconds in json.loads(answer) if asked_at + seconds < held[number]]
        waits.first.extend(here[:1])
        waits.later.extend(here[1:])
    return waits
