"""One simulated agent: what common/attachment.py and agent/session.py do on the wire, without a host beneath.

It says Hello, beats with 10 % of jitter, pings when it has read nothing for 30 s, keeps the desired state by generation
(a gap ends the stream), reports what it was told once as being fetched and a little later as running, one batch at a
time until it is acknowledged, and comes back with the real agents' patience.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fleet.http2 import CallBroken
from benchmarks.fleet.link import REFUSED, Link, Wiring
from common.backoff import jittered
from common.patience import NotWelcomed, Patience, RoundEnded
from proto.agent.v1 import agent_pb2

_ATTACH = "/longshore.agent.v1.Agent/Attach"
_PING_SECONDS = 30.0
_MOST_REASONS = 20
_NOT_WELCOMED = "not welcomed in time"


@dataclass
class Tally:
    """What all agents of a process saw."""

    attached: int = 0
    attached_at: float = 0.0  # when the last one that came was told its full set
    rounds_ended: int = 0
    refused: int = 0  # connections that nobody took
    heartbeats: int = 0
    acknowledged: int = 0
    gaps: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    receipts: dict[int, float] = field(default_factory=dict)  # by agent: when its desired state last changed

    def ended(self, reason: str) -> None:
        if reason == REFUSED:
            self.refused += 1
        elif reason in self.reasons or len(self.reasons) < _MOST_REASONS:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1


@dataclass(frozen=True)
class World:
    """What the agents of a process share."""

    wiring: Wiring
    random: random.Random
    tally: Tally
    facts: agent_pb2.HostFacts


class Agent:
    def __init__(self, number: int, identity: Path, world: World) -> None:
        self._number = number
        self._identity = identity
        self._world = world
        self._process_id = f"bench-{number}-{world.random.getrandbits(64):x}"
        self._patience = Patience(world.random.random)
        self._link: Link | None = None
        self._host, self._port = "", 0
        self._timers: set[asyncio.TimerHandle] = set()
        self._began = self._heard = 0.0
        self._welcomed = self._attached = False
        self._book = Book()

    def attach(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._connect()

    def grow_old(self) -> None:
        """As if it had been attached for long: a round of a minute makes its patience new."""
        self._began = float("-inf")

    def cut(self) -> None:
        """As if the network had gone: no goodbye."""
        if self._link is not None:
            self._link.close("cut")

    def _connect(self) -> None:
        self._began = time.monotonic()
        self._after(self._patience.welcome_seconds, self._give_up)
        self._link = Link(self._world.wiring, self, self._host, self._port, _ATTACH, self._identity)

    def _give_up(self) -> None:
        if not self._welcomed and self._link is not None:
            self._link.close(_NOT_WELCOMED)

    # What the link tells.

    def opened(self) -> None:
        hello = agent_pb2.Hello(
            process_id=self._process_id,
            version="bench",
            facts=self._world.facts,
            generation=self._book.generation,
            image_tokens=True,
        )
        self._say(agent_pb2.AgentMessage(hello=hello))

    def received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        message = agent_pb2.PlaneMessage.FromString(data)
        body = message.WhichOneof("body")
        if body == "welcome":
            self._welcomed = True
            self._book.begin_round()
            self._beat_later(message.welcome.heartbeat_seconds)
            self._after(_PING_SECONDS, self._ping)
        elif body == "set":
            self._told(self._book.replace(message.set))
            self._now_attached()
        elif body == "changes":
            self._told(self._change(message.changes))
        elif body == "reports_ack":
            self._world.tally.acknowledged += self._book.acknowledged(message.reports_ack.sequence)
            self._report()
        elif body == "probe":
            reply = agent_pb2.ProbeReply(nonce=message.probe.nonce)
            self._say(agent_pb2.AgentMessage(probe_reply=reply))

    def ended(self, reason: str) -> None:
        tally = self._world.tally
        self._link = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._welcomed = False
        if self._attached:
            self._attached = False
            tally.attached -= 1
            tally.rounds_ended += 1
        tally.ended(reason)
        failure = NotWelcomed(reason) if reason == _NOT_WELCOMED else RoundEnded(reason)
        delay = self._patience.after(failure, time.monotonic() - self._began)
        self._after(delay, self._connect)

    # What it does of itself.

    def _now_attached(self) -> None:
        if not self._attached:
            self._attached = True
            self._world.tally.attached += 1
            self._world.tally.attached_at = time.monotonic()
        self._report()

    def _change(self, told: agent_pb2.AssignmentChanges) -> list[agent_pb2.Assignment]:
        if told.applies_to != self._book.generation:
            self._world.tally.gaps += 1
            raise CallBroken("gap")
        return self._book.change(told)

    def _told(self, news: list[agent_pb2.Assignment]) -> None:
        """Real agents say at once that they fetch, and some seconds later that it runs."""
        if not news:
            return
        self._world.tally.receipts[self._number] = time.monotonic()
        self._book.note(news, agent_pb2.PHASE_FETCHING)
        self._after(1 + 2 * self._world.random.random(), lambda: self._done(news))
        self._report()

    def _done(self, news: Iterable[agent_pb2.Assignment]) -> None:
        self._book.note(news, agent_pb2.PHASE_RUNNING)
        self._report()

    def _report(self) -> None:
        reports = self._book.next_reports() if self._attached else None
        if reports is not None:
            self._say(agent_pb2.AgentMessage(reports=reports))

    def _beat_later(self, period: float) -> None:
        self._after(jittered(period, 0.1, self._world.random.random), lambda: self._beat(period))

    def _beat(self, period: float) -> None:
        self._world.tally.heartbeats += 1
        self._beat_later(period)
        beat = agent_pb2.Heartbeat(sequence=self._world.tally.heartbeats, generation=self._book.generation)
        self._say(agent_pb2.AgentMessage(heartbeat=beat))

    def _ping(self) -> None:
        silent = time.monotonic() - self._heard
        if silent >= _PING_SECONDS and self._link is not None:
            self._link.ping()
            silent = 0.0
        self._after(_PING_SECONDS - silent, self._ping)

    def _say(self, message: agent_pb2.AgentMessage) -> None:
        if self._link is not None:
            self._link.send(message.SerializeToString())

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(handle)
            action()

        handle = self._world.wiring.loop.call_later(seconds, due)
        self._timers.add(handle)


class Book:
    """Desired state as it was told, and what of it the control plane has heard back."""

    def __init__(self) -> None:
        self.generation = 0
        self._assigned: dict[str, agent_pb2.Assignment] = {}
        self._said: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, agent_pb2.InstanceReport] = {}
        self._sent: dict[str, agent_pb2.InstanceReport] = {}
        self._sequence = 0

    def begin_round(self) -> None:
        self._waiting = {**self._sent, **self._waiting}
        self._sent = {}

    def replace(self, told: agent_pb2.AssignmentSet) -> list[agent_pb2.Assignment]:
        """What is news among it."""
        self.generation = told.results_in
        self._assigned = {one.instance_id: one for one in told.assignments}
        return [one for one in told.assignments if self._said.get(one.instance_id) != _finished(one)]

    def change(self, told: agent_pb2.AssignmentChanges) -> list[agent_pb2.Assignment]:
        self.generation = told.results_in
        for instance_id in told.removed:
            self._assigned.pop(instance_id, None)
            self._said.pop(instance_id, None)
        self._assigned.update((one.instance_id, one) for one in told.changed)
        return list(told.changed)

    def note(self, news: Iterable[agent_pb2.Assignment], phase: agent_pb2.Phase.ValueType) -> None:
        for one in news:
            if one.instance_id not in self._assigned:
                continue
            gone = one.desired_state == agent_pb2.DESIRED_STATE_REMOVED
            self._said[one.instance_id] = (one.generation, phase)
            self._waiting[one.instance_id] = agent_pb2.InstanceReport(
                instance_id=one.instance_id,
                generation=one.generation,
                phase=agent_pb2.PHASE_REMOVED if gone else phase,
                health=agent_pb2.HEALTH_NONE,
                runtime_id="bench",
            )

    def next_reports(self) -> agent_pb2.Reports | None:
        """None while some are not acknowledged, or none wait."""
        if self._sent or not self._waiting:
            return None
        self._sequence += 1
        self._sent, self._waiting = self._waiting, {}
        reports = agent_pb2.Reports(sequence=self._sequence, instances=self._sent.values())
        for instance_id, report in self._sent.items():
            if report.phase == agent_pb2.PHASE_RUNNING and instance_id in self._assigned:
                reports.contents.extend(_held(self._assigned[instance_id]))
        return reports

    def acknowledged(self, sequence: int) -> bool:
        if sequence != self._sequence or not self._sent:
            return False
        self._sent = {}
        return True


def _finished(one: agent_pb2.Assignment) -> tuple[int, int]:
    return one.generation, agent_pb2.PHASE_RUNNING


def _held(assignment: agent_pb2.Assignment) -> list[agent_pb2.ContentReport]:
    return [
        agent_pb2.ContentReport(
            digest=content.digest,
            tenant_id=assignment.tenant_id,
            size_bytes=content.size_bytes,
            held_bytes=content.size_bytes,
            verified=True,
        )
        for content in (assignment.image.manifest, *assignment.image.contents)
    ]
