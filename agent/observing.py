"""How this agent shows itself, wired: its metrics, samples of the host, what the host is, and its own version. What the
composition root asks for.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.cache import ContentCache
from agent.desired import DesiredBook
from agent.eviction import Eviction
from agent.inventory import Inventory
from agent.inventory_wire import facts_message, sample_message
from agent.journal import Disk, LocalDisk
from agent.ledger import Ledger
from agent.metrics import MeteredDisk, Metrics
from agent.metrics_server import serving
from agent.reporter import Reporter
from agent.runtimes.choice import RuntimeChoice
from agent.sampling import Sampler
from agent.session import Session
from agent.settings import AgentSettings
from agent.updates.layout import Layout
from agent.updates.model import BUILT_IN
from agent.updates.updater import Standing, Updater, standing
from common.clock import Clock
from common.lifecycle import Lifecycle
from proto.agent.v1 import agent_pb2


class Observing:
    """Made before anything else of the agent, so that everything can be counted."""

    def __init__(self, settings: AgentSettings, lifecycle: Lifecycle, clock: Clock) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._clock = clock
        self._layout = Layout(settings.data / "agent")
        self.metrics = Metrics(clock)
        self.standing: Standing = standing(self._layout)

    def disk(self) -> Disk:
        """For the journal."""
        return MeteredDisk(LocalDisk(), self.metrics, self._clock)

    async def inventory(self, runtime: RuntimeChoice, session: Session) -> Inventory:
        digest = f"sha256:{self.standing.artifact}" if self.standing.artifact != BUILT_IN else ""
        inventory = Inventory(self._settings.data, runtime, self._clock, digest)
        inventory.tell = lambda facts: session.say(agent_pb2.AgentMessage(facts=facts_message(facts)))
        await inventory.look()
        self._lifecycle.spawn("inventory", inventory.look_forever())
        self.metrics.counter(
            "engine_away_seconds",
            "Time in which the engine of this host did not answer",
            lambda: inventory.away_seconds,
        )
        return inventory

    async def listen(self, session: Session, last_port: int) -> int:
        """The port of `/metrics`."""
        metrics, settings = self.metrics, self._settings
        metrics.gauge("attached", "1 while the control plane is attached", lambda: float(session.attached))
        metrics.counter("attachments", "Streams to the control plane that began", lambda: session.rounds)
        unknown = session.not_understood
        metrics.counter("not_understood", "Messages in words of a newer control plane", lambda: unknown.count)
        return await self._lifecycle.enter(
            serving(metrics, lambda: session.attached, settings.metrics_host, settings.metrics_port, last_port)
        )

    def contents(self, cache: ContentCache, eviction: Eviction, ledger: Ledger) -> None:
        self.metrics.gauge("cache_bytes", "Contents held", lambda: cache.used_bytes)
        self.metrics.gauge("cache_contents", "How many contents are held", lambda: len(cache.held))
        self.metrics.counter("cache_evicted_bytes", "Contents that gave way", lambda: eviction.evicted_bytes)
        self.metrics.counter_by(
            "content_bytes",
            "Payload of contents that came here, by source",
            "source",
            lambda: {
                "centre": ledger.totals.from_centre_bytes,
                "regional": ledger.totals.from_regional_bytes,
                "peers": ledger.totals.from_peers_bytes,
                "reused": ledger.totals.reused_bytes,
            },
        )

    def sample(
        self, runtime: RuntimeChoice, cache: ContentCache, session: Session, random: Callable[[], float]
    ) -> None:
        sampler = Sampler(self._settings.data, runtime.driver, lambda: cache.used_bytes, self._clock, random)
        sampler.tell = lambda sample: session.say(agent_pb2.AgentMessage(sample=sample_message(sample)))
        self.metrics.host(sampler.counters)
        self.metrics.instances(lambda: sampler.latest)
        self._lifecycle.spawn("samples", sampler.run())

    def updates(self, book: DesiredBook, cache: ContentCache, session: Session, reporter: Reporter) -> None:
        updater = Updater(
            self._layout,
            self.standing,
            lambda: book.current,
            cache,
            lambda: session.attached,
            self._clock,
            self._lifecycle.stopping.set,
        )
        reporter.amend = updater.amend
        self._lifecycle.spawn("updates", updater.run())
