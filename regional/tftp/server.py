"""The listening socket, the sockets of all transfers, their limits and timers.

Every transfer has a port of its own (RFC 1350, section 4), or all share the listener's (`single_port`, for clients
behind a firewall). One epoll holds all sockets and is itself watched by the loop: one wake-up serves up to 256 of them,
where a callback each costs the loop as much as the transfer itself. Invariants: no datagram ends the server or another
client's transfer; transfers, requests in work and memory are bounded. Over a limit a request is not answered: firmware
asks again after a second or more, and an ERROR would end its boot.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog

from common.clock import Clock
from common.errors import Denied, Failure, NotFound, Unavailable
from regional.tftp.boot_files import BootFiles
from regional.tftp.events import TftpSeen, Watch, nobody_watches
from regional.tftp.metrics import TftpMetrics
from regional.tftp.opening import Opener
from regional.tftp.packet import ErrorCode, PacketMalformed, Refusal, Request, decode
from regional.tftp.session import Address, Session
from regional.tftp.sockets import answer, bound, make_room, pair, refuse_stranger, widen
from regional.tftp.sources import Library
from regional.tftp.terms import ServerLimits
from regional.tftp.transfer import Transfer
from regional.watching import careful

log = structlog.get_logger()

_TICK_SECONDS = 0.05
_OPENERS = 16
_BATCH = 256
_RECEIVE_BYTES = 1024
_TURN_SECONDS = 0.002


class TftpListenFailed(Unavailable):
    code = "tftp_listen_failed"


class TftpServer:
    """Use `serving`."""

    def __init__(
        self,
        files: BootFiles,
        limits: ServerLimits,
        clock: Clock,
        random: Callable[[], float],
        metrics: TftpMetrics,
        watch: Watch = nobody_watches,
    ) -> None:
        self._limits, self._clock, self._random, self._metrics = limits, clock, random, metrics
        self._watch = careful(watch)
        self._library = Library()
        self._opener = Opener(files, self._library, limits.terms)
        self._poll = select.epoll()
        # What to do when there is something to read.
        self._handlers: dict[int, Callable[[float], None]] = {}
        self._sessions: dict[Address, Session] = {}
        self._opening: dict[Address, Request] = {}
        self._per_client: Counter[str] = Counter()
        self._requests: asyncio.Queue[tuple[Address, Request]] = asyncio.Queue(limits.transfers)
        self._listener: socket.socket | None = None
        metrics.watch(lambda: len(self._sessions))

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def active(self) -> int:
        return len(self._sessions)

    @property
    def _socket(self) -> socket.socket:
        assert self._listener is not None, "the server does not listen"  # noqa: S101
        return self._listener

    def listen(self, host: str, port: int) -> None:
        """Raises `TftpListenFailed`."""
        make_room(self._limits.transfers)
        try:
            self._listener = bound(host, port)
        except OSError as error:
            raise TftpListenFailed(
                f"{host}:{port}/udp cannot be listened on: {error.strerror or error}",
                action="stop what listens there, choose another --tftp-port, or give the right to ports under 1024",
            ) from error
        widen(self._listener)
        self._handlers[self._listener.fileno()] = self._listen_once
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        asyncio.get_running_loop().add_reader(self._poll.fileno(), self._readable)

    def work(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What must run while it listens."""
        openers = [(f"tftp opener {number}", self._open_forever()) for number in range(_OPENERS)]
        return [("tftp timers", self._tick_forever()), *openers]

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._poll.fileno())
        now = self._clock.monotonic()
        for session in list(self._sessions.values()):
            session.tell(ErrorCode.UNDEFINED, "the server stops")
            session.end("stopped", now)
        self._poll.close()
        if self._listener is not None:
            self._listener.close()
        await asyncio.to_thread(self._library.close)

    def _readable(self) -> None:
        now = began = self._clock.monotonic()
        # Clients answer while others are served: looking again is cheaper than another turn of the loop. What the epoll
        # has told must be served: it tells of a packet once.
        while now - began < _TURN_SECONDS and (ready := self._poll.poll(0, _BATCH)):
            self._serve(ready, now)
            now = self._clock.monotonic()

    def _serve(self, ready: list[tuple[int, int]], now: float) -> None:
        handlers = self._handlers
        for descriptor, _ in ready:
            try:
                handlers[descriptor](now)
            except (OSError, KeyError):  # nothing there any more, or its transfer has just ended
                continue
            except Exception:  # one client's defect must not become everybody's
                log.exception("tftp packet broke")

    def _stranger(self, strangers: socket.socket, _: float) -> None:
        packet, sender = strangers.recvfrom(_RECEIVE_BYTES)
        self._metrics.errors.labels("foreign").inc()
        refuse_stranger(strangers, packet, sender)

    def _listen_once(self, now: float) -> None:
        for _ in range(_BATCH):
            packet, sender = self._socket.recvfrom(_RECEIVE_BYTES)
            session = self._sessions.get(sender)
            if session is not None and self._limits.single_port and packet[:1] == b"\0" and packet[1:2] not in b"\1\2":
                session.packet(packet, now)
            else:
                self._heard(packet, sender, now)

    def _heard(self, packet: bytes, sender: Address, now: float) -> None:
        try:
            request = decode(packet)
        except PacketMalformed as malformed:
            self._refuse(sender, ErrorCode.ILLEGAL, malformed.detail, "malformed")
            return
        if isinstance(request, Request):
            self._requested(request, sender, now)
        elif not isinstance(request, Refusal):
            self._metrics.errors.labels("foreign").inc()
            refuse_stranger(self._socket, packet, sender)

    def _requested(self, request: Request, client: Address, now: float) -> None:
        if request.writes:
            self._refuse(client, ErrorCode.ACCESS, "this server is read only", "write")
            return
        if request.mode not in ("octet", "netascii"):
            self._refuse(client, ErrorCode.ILLEGAL, "the modes are octet and netascii", "mode")
            return
        session = self._sessions.get(client)
        if client in self._opening or (
            session is not None and session.request == request and session.heard_lately(now)
        ):
            return  # a copy of a request that is being served: timers resend what was lost
        if session is not None:
            session.end("replaced", now)
        if (
            len(self._sessions) + len(self._opening) >= self._limits.transfers
            or self._per_client[client[0]] >= self._limits.per_client
        ):
            self._metrics.errors.labels("crowded").inc()
            self._watch(TftpSeen(client[0], request.shown, "crowded"))
            log.debug("tftp request not taken", client=client[0], file=request.shown, transfers=len(self._sessions))
            return
        self._opening[client] = request
        self._per_client[client[0]] += 1
        self._requests.put_nowait((client, request))  # never full: `_opening` is bounded as it is

    async def _open_forever(self) -> None:
        while True:
            client, request = await self._requests.get()
            begun = False
            try:
                begun = await self._begin(client, request)
            except Exception:
                log.exception("tftp request broke", file=request.shown)
                self._refuse(client, ErrorCode.UNDEFINED, "a defect ended this request", "broken")
            finally:
                self._opening.pop(client, None)
                if not begun:
                    self._forget(client)

    async def _begin(self, client: Address, request: Request) -> bool:
        """Find the file, agree, send the first packet. False: it was refused."""
        sessions: list[Session] = []

        def ready(failure: Failure | None) -> None:
            for session in sessions:
                session.resume(failure, self._clock.monotonic())

        try:
            source, terms = await self._opener.open(request, client[0], ready)
        except Failure as failure:
            self._not_found(client, request, failure)
            return False
        try:
            endpoint, strangers = self._sockets(client)
        except OSError as error:
            source.close()
            self._metrics.errors.labels("crowded").inc()
            log.warning("tftp transfer has no socket", error=str(error), action="raise the limit of open files")
            return False
        now = self._clock.monotonic()
        transfer = Transfer(terms, self._limits.terms, now, self._random)
        session = Session(endpoint, strangers, client, request, source, transfer, now, self._ended)
        sessions.append(session)
        del self._opening[client]
        self._sessions[client] = session
        if strangers is not None:
            self._handlers[endpoint.fileno()] = session.readable
            self._handlers[strangers.fileno()] = partial(self._stranger, strangers)
            # Told once of what comes, the kernel need not look again at each socket after each packet.
            self._poll.register(endpoint.fileno(), select.EPOLLIN | select.EPOLLET)
            self._poll.register(strangers.fileno(), select.EPOLLIN)
        self._watch(TftpSeen(client[0], request.shown, "began", options=transfer.terms.answered))
        session.pump(now)
        return True

    def _sockets(self, client: Address) -> tuple[socket.socket, socket.socket | None]:
        return (self._socket, None) if self._limits.single_port else pair(self._socket.getsockname()[0], client)

    def _ended(self, session: Session, outcome: str, seconds: float) -> None:
        self._metrics.transfers.labels(outcome).inc()
        self._metrics.sent.inc(session.acknowledged_bytes)
        self._metrics.resent.inc(session.transfer.resent)
        if self._sessions.get(session.client) is session:
            del self._sessions[session.client]
        self._forget(session.client)
        if session.strangers is not None:
            for each in (session.endpoint, session.strangers):
                self._handlers.pop(each.fileno(), None)
                each.close()  # which takes it out of the epoll
        self._watch(
            TftpSeen(
                session.client[0], session.request.shown, outcome, session.acknowledged_bytes, session.transfer.resent,
                seconds, session.transfer.terms.answered,
            )
        )  # fmt: skip

    def _forget(self, client: Address) -> None:
        self._per_client[client[0]] -= 1
        if self._per_client[client[0]] <= 0:
            del self._per_client[client[0]]

    def _not_found(self, client: Address, request: Request, failure: Failure) -> None:
        error, reason = ErrorCode.UNDEFINED, "broken"
        if isinstance(failure, Denied):
            error, reason = ErrorCode.ACCESS, "denied"
        elif isinstance(failure, NotFound):
            error, reason = ErrorCode.NOT_FOUND, "missing"
        self._refuse(client, error, failure.detail, reason)
        self._watch(TftpSeen(client[0], request.shown, reason))
        log.info("tftp request refused", client=client[0], file=request.shown, reason=str(failure))

    def _refuse(self, client: Address, error: ErrorCode, message: str, reason: str) -> None:
        self._metrics.errors.labels(reason).inc()
        answer(self._socket, client, error, message)

    async def _tick_forever(self) -> None:
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            now = self._clock.monotonic()
            for session in list(self._sessions.values()):
                session.tick(now)


@asynccontextmanager
async def serving(server: TftpServer, host: str, port: int, spawn: Callable[..., Any]) -> AsyncIterator[int]:
    """Listen until the context is left; gives the port. `spawn(name, coroutine)` owns the server's tasks."""
    server.listen(host, port)
    try:
        for name, work in server.work():
            spawn(name, work)
        yield server.port
    finally:
        await server.close()
