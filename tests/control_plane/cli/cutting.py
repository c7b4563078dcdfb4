"""A proxy between `longshore` and the control plane that counts, pauses and cuts connections."""

import contextlib
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self
from urllib.parse import urlsplit

from tests.control_plane.cli.programs import Answer, Longshore

_CHUNK_BYTES = 64 << 10


class Cutter:
    """TCP to `url`. `cut_answer_after`, `cut_request_after`: bytes of one connection after which it is cut.

    `pause_request_after`: bytes of all requests after which everything stands still, with its connections, until
    `resume`.
    """

    def __init__(
        self,
        url: str,
        *,
        cut_answer_after: int | None = None,
        cut_request_after: int | None = None,
        pause_request_after: int | None = None,
    ) -> None:
        split = urlsplit(url)
        self._target = (split.hostname or "", split.port or 80)
        self._cut = {"answer": cut_answer_after, "request": cut_request_after}
        self._pause_after = pause_request_after
        self._go = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pool = ThreadPoolExecutor(32)
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent_bytes = self.received_bytes = self.cuts = 0
        self.paused = False

    def __enter__(self) -> Self:
        self._pool.submit(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            _close(connection)
        self._pool.shutdown()

    def background(self, program: Longshore, *words: object) -> "Future[Answer]":
        return self._pool.submit(lambda: program(*map(str, words)))

    def resume(self) -> None:
        self._go.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._pool.submit(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, 5)
        except OSError:
            _close(client)
            return
        self._open |= {client, server}
        self._pool.submit(self._pump, server, client, "answer")
        self._pump(client, server, "request")

    def _pump(self, source: socket.socket, target: socket.socket, kind: str) -> None:
        passed, most = 0, self._cut[kind]
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                passed += len(chunk)
                if most is not None and passed > most:
                    self.cuts += 1
                    break
                self._count(kind, len(chunk))
                target.sendall(chunk)
        _close(source)
        _close(target)

    def _count(self, kind: str, size: int) -> None:
        with self._lock:
            if kind == "answer":
                self.received_bytes += size
                return
            self.sent_bytes += size
            if self._pause_after is None or self.sent_bytes < self._pause_after:
                return
            self._pause_after = None
        self.paused = True
        self._go.wait(60)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
