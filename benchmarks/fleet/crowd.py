"""`python -m benchmarks.fleet.crowd IDENTITIES FIRST COUNT`: a process of simulated agents that does what it is told.

A command is one JSON line on standard input, its answer one on standard output. Times are of CLOCK_MONOTONIC, which all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fleet.agent import Agent, Tally, World
from benchmarks.fleet.link import Wiring
from benchmarks.fleet.population import CA_FILE, facts_message, identity_file

_LAG_LOOK_SECONDS = 0.05


class Crowd:
    def __init__(self, loop: asyncio.AbstractEventLoop, identities: Path, first: int, count: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(identities / CA_FILE)
        context.set_alpn_protocols(["h2"])
        self._loop = loop
        self._tally = Tally()
        self._first = first
        self._lag = 0.0
        self.stopped = asyncio.Event()
        world = World(Wiring(loop, context), random.Random(first), self._tally, facts_message())
        self._agents = [
            Agent(number, identity_file(identities, number), world) for number in range(first, first + count)
        ]
        self._look_for_lag()

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "attach": self._attach,
            "cut": self._cut,
            "count": self._count,
            "receipts": self._receipts,
            "forget": self._forget,
            "grow old": self._grow_old,
        }
        return actions[command["do"]](command)

    def _attach(self, command: dict[str, Any]) -> dict[str, Any]:
        """All at once, or evenly over `seconds`; agents take the targets in turn, as a balancer would."""
        targets = [str(target).rpartition(":") for target in command["targets"]]
        gap = float(command["seconds"]) / len(self._agents)
        for number, agent in enumerate(self._agents):
            host, _, port = targets[(self._first + number) % len(targets)]
            self._loop.call_later(gap * number, agent.attach, host, int(port))
        return {"at": time.monotonic()}

    def _cut(self, _command: dict[str, Any]) -> dict[str, Any]:
        at = time.monotonic()
        for agent in self._agents:
            agent.cut()
        return {"at": at}

    def _count(self, _command: dict[str, Any]) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        said = asdict(self._tally)
        del said["receipts"]
        lag, self._lag = self._lag, 0.0
        return {**said, "lag": lag, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_kib": usage.ru_maxrss}

    def _receipts(self, _command: dict[str, Any]) -> dict[str, Any]:
        return {"times": list(self._tally.receipts.values())}

    def _forget(self, _command: dict[str, Any]) -> dict[str, Any]:
        # Between two rounds: within one, a full collection held up receipts by 0.07 to 0.15 s.
        gc.collect()
        gc.freeze()
        self._tally.receipts.clear()
        self._tally.reasons.clear()
        return {}

    def _grow_old(self, _command: dict[str, Any]) -> dict[str, Any]:
        for agent in self._agents:
            agent.grow_old()
        return {}

    def _look_for_lag(self) -> None:
        """How late this process itself is: times of receipts are no better than that."""
        due = self._loop.time() + _LAG_LOOK_SECONDS
        self._loop.call_at(due, self._looked, due)

    def _looked(self, due: float) -> None:
        self._lag = max(self._lag, self._loop.time() - due)
        self._look_for_lag()


async def _run(identities: Path, first: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    crowd = Crowd(loop, identities, first, count)

    def command() -> None:
        line = sys.stdin.readline()
        if not line:
            crowd.stopped.set()
            return
        print(json.dumps(crowd.do(json.loads(line))), flush=True)

    loop.add_reader(sys.stdin, command)
    print(json.dumps({"ready": count}), flush=True)
    await crowd.stopped.wait()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
