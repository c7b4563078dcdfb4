"""The running control plane: listeners and background work under one lifecycle, `ready.json` when it all listens.

Invariant: what a start opened is closed in reverse order, also when the start fails half-way. gRPC streams end first,
so that agents attach elsewhere at once; HTTP finishes what it is sending within its grace time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog
import uvicorn
import uvloop

from common.clock import Clock, SystemClock
from common.durable import write_file
from common.errors import Conflict, Unavailable
from common.gathering import STEP_SECONDS
from common.lifecycle import Lifecycle
from control_plane.app import ControlPlane, build
from control_plane.backing import Backing, open_backing
from control_plane.collecting import set_aside
from control_plane.database.relay import one_after_another, relay_forever
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.host_looks import HostLooks
from control_plane.fleet.leases import follow_leases
from control_plane.fleet.service import Places
from control_plane.heap import keep_little
from control_plane.http_api import build_http
from control_plane.migrations.apart import upgraded
from control_plane.settings import Settings
from control_plane.web.zero_copy import ZeroCopyProtocol

log = structlog.get_logger()
_GRACE_SECONDS = 5
# Longer than proxies and clients keep an idle connection (nginx 60 s, Go 90 s): who is about to send should be the one
# that closes, or a request meets a closing connection.
_IDLE_SECONDS = 120
_LARGEST_FRAME = 256 << 10


class AddressTaken(Conflict):
    code = "address_taken"


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    ready = _started(settings, "ready.json")
    uvloop.run(_serve(settings, ready))
    ready.unlink(missing_ok=True)


def work(settings: Settings) -> None:
    """Run background work only, beside servers that share the same database and Redis."""
    ready = _started(settings, "worker-ready.json")
    uvloop.run(_work_alone(settings, ready))
    ready.unlink(missing_ok=True)


def _started(settings: Settings, ready: str) -> Path:
    """What comes before threads and loops; where the process is to say that it is ready."""
    keep_little()
    path = settings.data / ready
    _prepare(settings.data, path)
    upgraded(settings.database_url)
    return path


async def _serve(settings: Settings, ready: Path) -> None:
    async with Lifecycle() as lifecycle:
        plane = await _opened(lifecycle, settings, SystemClock())
        password = await plane.tenancy.accounts.ensure_platform_admin()
        addresses = await _listen(lifecycle, plane)
        _work(lifecycle, plane, jobs=settings.jobs.embedded)
        if password is not None:
            # Printed, not logged: this is the only time that anybody can read it.
            print(f"admin password: {password}", flush=True)  # noqa: T201
        set_aside()
        write_file(ready, json.dumps({"pid": os.getpid(), **addresses}).encode(), 0o644)
        log.info("control plane ready", **addresses)
        await lifecycle.run_until_stopped()


async def _work_alone(settings: Settings, ready: Path) -> None:
    async with Lifecycle() as lifecycle:
        plane = await _opened(lifecycle, settings, SystemClock())
        _work(lifecycle, plane, jobs=True)
        write_file(ready, json.dumps({"pid": os.getpid()}).encode(), 0o644)
        log.info("worker ready")
        await lifecycle.run_until_stopped()


def _prepare(data: Path, ready: Path) -> None:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Blobs, database and keys are nobody else's business, also in a directory that an operator made readable. Who lets
    # nginx send the blobs (X-Accel) runs its workers as our user.
    os.umask(0o077)
    ready.unlink(missing_ok=True)


async def _opened(lifecycle: Lifecycle, settings: Settings, clock: Clock) -> ControlPlane:
    backing = open_backing(settings, clock)
    await lifecycle.enter(_closing(backing))
    return await build(settings, clock, backing)


@contextlib.asynccontextmanager
async def _closing(backing: Backing) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await backing.close()


async def _listen(lifecycle: Lifecycle, plane: ControlPlane) -> dict[str, str]:
    settings = plane.settings
    public = (settings.public.host, *settings.public.names) if settings.public.host else settings.public.names
    if settings.channels.address is not None:
        public = (*public, settings.channels.address.rpartition(":")[0].strip("[]"))
    places = Places(
        settings.listeners.enrolment,
        settings.listeners.attach,
        public,
        settings.public.url or "",
        settings.swarm.smallest_bytes,
    )
    enrolment, attach = plane.fleet.listeners(
        places,
        LayeredAssignments(plane.backing.database, plane.agent_rollouts.assignments, STEP_SECONDS),
        plane.swarm.service,
        plane.swarm.tokens.verifying_keys,
        plane.swarm.bad_peers.accept,
        (*plane.edge_desk.services, plane.channels.register),
        HostLooks(plane.backing.database, plane.backing.cache),
        plane.commands.service.accept,
        plane.moves.assignments.accept_moves,
        plane.machines.targets,
    )
    lifecycle.spawn("fleet", plane.fleet.watch.run())
    lifecycle.spawn("returns", plane.edge_desk.messenger.run())
    lifecycle.spawn("channels", plane.channels.run())
    lifecycle.spawn("commands", plane.commands.messenger.run())
    lifecycle.spawn("live machines", plane.machines.live.run())
    if settings.etcd.endpoints:
        lifecycle.spawn("directory", follow_leases(plane.backing.directory, plane.fleet.sessions))
    await lifecycle.enter(enrolment)
    await lifecycle.enter(attach)

    def advertised(address: str) -> str:
        return f"{settings.public.host}:{address.rpartition(':')[2]}" if settings.public.host else address

    await lifecycle.enter(_flushed_at_the_end(plane))
    await lifecycle.enter(plane.auditing.drained())
    await lifecycle.enter(plane.mirroring.pull_through)
    http = build_http(plane, lambda: advertised(enrolment.address), lambda: advertised(attach.address))
    address = await lifecycle.enter(_http_listener(settings.listeners.http, http, plane))
    plane.channels.service.address = lambda: settings.channels.address or advertised(attach.address)
    await lifecycle.enter(plane.fleet)
    await lifecycle.enter(plane.channels)  # ended first, and told so
    return {"http": address, "enrolment": enrolment.address, "attach": attach.address}


def _work(lifecycle: Lifecycle, plane: ControlPlane, *, jobs: bool) -> None:
    backing = plane.backing
    ahead = [plane.swarm.ahead] if plane.swarm.ahead is not None else []
    noticing = plane.deployments.noticing
    tap = one_after_another(plane.webhooks.tap, plane.policies.replication.tap, noticing.tap, *ahead)
    lifecycle.spawn("outbox relay", relay_forever(backing.database, backing.events, tap=tap))
    if jobs:
        lifecycle.spawn("jobs", plane.worker.run())
        lifecycle.spawn("webhooks", plane.webhooks.dispatcher.run())
        lifecycle.spawn("replication", plane.policies.replication.runner.run())
        lifecycle.spawn("deployments", plane.deployments.converging.run())
        lifecycle.spawn("moves", plane.moves.carrying.run())
        lifecycle.spawn("draining", plane.moves.draining.run())
    lifecycle.spawn("noticing", noticing.run())
    lifecycle.spawn("periodic", plane.periodic.run())
    lifecycle.spawn("audit trail", plane.auditing.trail.run(random.random))
    lifecycle.spawn("audit sealer", plane.auditing.sealer.run(random.random))
    lifecycle.spawn("content keys", plane.swarm.keys.run())
    lifecycle.spawn("egress", plane.swarm.egress.run())
    lifecycle.spawn("pull times", plane.policies.retention.pulls.run())
    lifecycle.spawn("copies", plane.stores.notes.run())


@contextlib.asynccontextmanager
async def _flushed_at_the_end(plane: ControlPlane) -> AsyncIterator[None]:
    # Entered before the listener, so left after it: what the last answers sent is counted too.
    yield
    with contextlib.suppress(Unavailable):
        await plane.swarm.egress.flush()
        await plane.policies.retention.pulls.flush()
        await plane.stores.notes.flush()


class _Server(uvicorn.Server):
    """Signals belong to our lifecycle; `listening` is set once requests are taken."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextlib.asynccontextmanager
async def _http_listener(address: str, application: object, plane: ControlPlane) -> AsyncIterator[str]:
    listener = _bound(address)
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        http=ZeroCopyProtocol,
        # Channels are the only WebSockets: small frames, and what they carry is not to be compressed beside secrets.
        ws="websockets-sansio",
        ws_max_size=_LARGEST_FRAME,
        ws_per_message_deflate=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        # A proxy in front is believed only if it is told to us by `public.url`; X-Forwarded-* is not.
        proxy_headers=False,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]), name="http")
        try:
            await server.listening.wait()
            yield f"{host}:{port}"
        finally:
            server.should_exit = True


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        # No SO_REUSEPORT: two control planes on one port would each see half of the requests.
        return socket.create_server(
            (host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise AddressTaken(
            f"the http listener cannot use {address}: {error.strerror}",
            action="stop what uses the port, or choose another address",
        ) from error
