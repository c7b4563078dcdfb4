"""An edge process, as far as the control plane can tell: enrols, attaches and holds what it is told."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from common.attachment import Attachment, Dialect, Sender, attach_forever
from common.clock import SystemClock
from common.enrolment import enrol
from common.errors import Failure
from common.generations import HeldSet
from common.plane import PlaneLocator
from common.tls import Identity
from proto.agent.v1 import agent_pb2, agent_pb2_grpc
from proto.regional.v1 import regional_pb2, regional_pb2_grpc
from tests.compatibility.descriptors import Protocol
from tests.control_plane.fleet.plane import Plane

PATIENCE_SECONDS = 20.0


async def eventually(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait for `condition` to hold: polled, because what it looks at belongs to several tasks and processes."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


def agent_dialect(
    process_id: str, held: HeldSet[str, Any], facts: agent_pb2.HostFacts, *, image_tokens: bool = False
) -> Dialect[Any, Any]:
    return Dialect(
        open=lambda channel: agent_pb2_grpc.AgentStub(channel).Attach(),
        hello=lambda: agent_pb2.AgentMessage(
            hello=agent_pb2.Hello(
                process_id=process_id,
                version="1.2",
                facts=facts,
                generation=held.generation,
                image_tokens=image_tokens,
            )
        ),
        heartbeat=lambda sequence: agent_pb2.AgentMessage(
            heartbeat=agent_pb2.Heartbeat(sequence=sequence, generation=held.generation)
        ),
        probe_reply=lambda nonce: agent_pb2.AgentMessage(probe_reply=agent_pb2.ProbeReply(nonce=nonce)),
        heartbeat_seconds=lambda down: down.welcome.heartbeat_seconds if down.HasField("welcome") else None,
        probe_nonce=lambda down: down.probe.nonce if down.HasField("probe") else None,
    )


def regional_dialect(process_id: str, content_url: str, *, image_tokens: bool = False) -> Dialect[Any, Any]:
    return Dialect(
        open=lambda channel: regional_pb2_grpc.RegionalStub(channel).Attach(),
        hello=lambda: regional_pb2.RegionalMessage(
            hello=regional_pb2.Hello(
                process_id=process_id, version="1.2", content_url=content_url, image_tokens=image_tokens
            )
        ),
        heartbeat=lambda sequence: regional_pb2.RegionalMessage(heartbeat=regional_pb2.Heartbeat(sequence=sequence)),
        probe_reply=lambda nonce: regional_pb2.RegionalMessage(probe_reply=regional_pb2.ProbeReply(nonce=nonce)),
        heartbeat_seconds=lambda down: down.welcome.heartbeat_seconds if down.HasField("welcome") else None,
        probe_nonce=lambda down: down.probe.nonce if down.HasField("probe") else None,
    )


@dataclass
class Edge:
    """One process with an identity. `received` is every message but Probe, in order; `failures` is why rounds ended."""

    plane: Plane
    directory: Path
    kind: Any = "host"
    content_url: str = "https://127.0.0.1:9443"
    process_id: str = field(default_factory=lambda: secrets.token_hex(8))
    held: HeldSet[Any, Any] = field(default_factory=HeldSet)
    received: list[Any] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sender: Sender[Any] | None = None
    facts: agent_pb2.HostFacts = field(default_factory=agent_pb2.HostFacts)
    dialect: Dialect[Any, Any] | None = None
    gate: asyncio.Event | None = None
    image_tokens: bool = False

    async def enrol(self, token: str, name: str = "e1", **more: Any) -> Identity:
        async with aiohttp.ClientSession() as http:
            wanted = {"kind": self.kind, "name": name, "identity_dir": self.directory, "version": "1.2", **more}
            return await enrol(self.plane.url, token, http=http, **wanted)

    @property
    def id(self) -> str:
        identity = Identity.load(self.directory)
        assert identity is not None
        return identity.name.id

    # Handler of common.attachment

    async def welcomed(self, welcome: Any, sender: Sender[Any]) -> None:
        self.received.append(welcome)
        self.sender = sender

    async def received_set(self, message: Any) -> None:
        if self.kind == "host":
            self.held.replace(message.results_in, {found.instance_id: found for found in message.assignments})
        else:
            self.held.replace(message.results_in, dict(enumerate(message.orders)))

    async def ended(self) -> None:
        self.sender = None

    def attachment(self, http: aiohttp.ClientSession) -> Attachment[Any, Any]:
        dialect = self.dialect or (
            agent_dialect(self.process_id, self.held, self.facts, image_tokens=self.image_tokens)
            if self.kind == "host"
            else regional_dialect(self.process_id, self.content_url, image_tokens=self.image_tokens)
        )
        locator = PlaneLocator(self.plane.url, self.directory, http)
        handler: Any = _Handler(self)
        return Attachment(
            dialect, handler, self.directory, locator.attach_address, SystemClock(), random.Random(3).random
        )

    async def round(self) -> Failure:
        """One round of attachment; why it ended."""
        async with aiohttp.ClientSession() as http:
            try:
                await self.attachment(http).run_round()
            except Failure as failure:
                self.failures.append(failure)
                return failure

    @asynccontextmanager
    async def attached(self, *, forever: bool = False) -> AsyncIterator[Edge]:
        """Attached until the block ends, for one round or for all."""
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            work = attach_forever(self.attachment(http), SystemClock()) if forever else self.round()
            running = group.create_task(work)  # type: ignore[arg-type]
            await eventually(lambda: self.held.generation or running.done(), "attached with a full set")
            try:
                yield self
            finally:
                running.cancel()

    def bodies(self) -> list[str]:
        return [message.WhichOneof("body") for message in self.received]

    def report(self, sequence: int, *instance_ids: str) -> None:
        assert self.sender is not None
        reports = [agent_pb2.InstanceReport(instance_id=instance_id) for instance_id in instance_ids]
        self.sender.send(agent_pb2.AgentMessage(reports=agent_pb2.Reports(sequence=sequence, instances=reports)))

    def acknowledged(self) -> list[int]:
        return [found.reports_ack.sequence for found in self.received if found.HasField("reports_ack")]

    def regionals(self) -> list[str] | None:
        """The content URLs told last."""
        told = [found.regionals for found in self.received if found.WhichOneof("body") == "regionals"]
        return [endpoint.content_url for endpoint in told[-1].endpoints] if told else None


@dataclass
class _Handler:
    edge: Edge

    async def welcomed(self, welcome: Any, sender: Sender[Any]) -> None:
        await self.edge.welcomed(welcome, sender)

    async def received(self, message: Any) -> None:
        if self.edge.gate is not None:
            await self.edge.gate.wait()
        self.edge.received.append(message)
        body = message.WhichOneof("body")
        if body == "set":
            await self.edge.received_set(message.set)
        elif body == "changes" and self.edge.kind == "host":
            changes = message.changes
            changed = {found.instance_id: found for found in changes.changed}
            self.edge.held.apply(changes.applies_to, changes.results_in, changed, changes.removed)

    async def ended(self) -> None:
        await self.edge.ended()


def speaking(agent: Edge, protocol: Protocol, **hello: Any) -> Any:
    """The agent's words in another version's classes."""
    up = protocol.message("AgentMessage")
    words = agent_dialect(agent.process_id, agent.held, agent_pb2.HostFacts())
    return replace(
        words,
        open=protocol.attach,
        hello=lambda: up(hello={"process_id": agent.process_id, "version": "other", **hello}),
        heartbeat=lambda sequence: up(heartbeat={"sequence": sequence}),
        probe_reply=lambda nonce: up(probe_reply={"nonce": nonce}),
        protocol_version=lambda down: getattr(down.welcome, "protocol_version", 0),
    )
