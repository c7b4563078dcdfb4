"""One connection of a simulated agent: TCP, mutual TLS and one call, driven by the event loop's readiness.

Invariant: `ended` is called once for each `Link`, and nothing of its owner is called after it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.fleet.http2 import Call, CallBroken

_READ = 65_536
REFUSED = "refused"


class Owner(Protocol):
    def opened(self) -> None: ...

    def received(self, message: bytes) -> None:
        """May raise `CallBroken`, which ends the link."""
        ...

    def ended(self, reason: str) -> None: ...


@dataclass(frozen=True)
class Wiring:
    """What the links of a process share. `context` takes an agent's certificate just before its connection is made:
    OpenSSL copies it into the connection, and 5,000 contexts would be half a gigabyte.
    """

    loop: asyncio.AbstractEventLoop
    context: ssl.SSLContext


class Link:
    def __init__(self, wiring: Wiring, owner: Owner, host: str, port: int, method: str, identity: Path) -> None:
        self._wiring = wiring
        self._owner = owner
        self._host = host
        self._identity = identity
        self._call = Call(f"{host}:{port}", method)
        self._open = True
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect_ex((host, port))
        wiring.loop.add_writer(self._socket, self._guarded(self._connected))

    def send(self, message: bytes) -> None:
        self._guarded(lambda: self._call.send(message))()
        self._guarded(self._flush)()

    def ping(self) -> None:
        self._call.ping()
        self._guarded(self._flush)()

    def close(self, reason: str) -> None:
        """Without goodbye."""
        if not self._open:
            return
        self._open = False
        self._wiring.loop.remove_reader(self._socket)
        self._wiring.loop.remove_writer(self._socket)
        self._socket.close()
        self._owner.ended(reason)

    def _guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            if not self._open:
                return
            try:
                action()
            except ssl.SSLWantReadError:
                pass  # the loop calls again
            except (OSError, CallBroken) as error:
                self.close(str(error))

        return guarded

    def _connected(self) -> None:
        loop, plain = self._wiring.loop, self._socket
        loop.remove_writer(plain)
        if plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close(REFUSED)
            return
        self._wiring.context.load_cert_chain(self._identity)
        self._socket = self._wiring.context.wrap_socket(
            plain, server_hostname=self._host, do_handshake_on_connect=False
        )
        loop.add_reader(self._socket, self._guarded(self._shake_hands))
        self._shake_hands()

    def _shake_hands(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        self._socket.do_handshake()
        self._wiring.loop.add_reader(self._socket, self._guarded(self._readable))
        self._owner.opened()

    def _readable(self) -> None:
        data = self._socket.recv(_READ)
        if not data:
            raise CallBroken("the server closed the connection")
        for message in self._call.feed(data):
            if self._open:
                self._owner.received(message)
        if self._open:
            self._flush()

    def _flush(self) -> None:
        outgoing = self._call.to_send
        while outgoing:
            try:
                sent = self._socket.send(outgoing)
            except ssl.SSLWantWriteError:
                self._wiring.loop.add_writer(self._socket, self._guarded(self._writable))
                return
            del outgoing[:sent]

    def _writable(self) -> None:
        self._wiring.loop.remove_writer(self._socket)
        self._flush()
