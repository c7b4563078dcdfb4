"""A throwaway Redis without persistence: ready in 20 ms, so that a test that breaks it may have its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.engines import EngineCannotRun
from tests.engines.listeners import free_port, owns_port
from tests.engines.processes import Process, find_program
from tests.engines.scratch import scratch_directory


class RedisEngine:
    """`stop` makes it refuse connections, `pause` makes it hang: two different failures."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._program = find_program("redis-server", "redis")
        self._directory = directory
        self._options = options
        self.port = free_port()
        self.process = self._launch()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        self.process.stop(2)

    def start(self) -> None:
        """After `stop`: empty, on the same port."""
        self.process = self._launch()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def command(self, *words: str) -> bytes:
        """The raw answer to one command, without any client library."""
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.sendall(request)
            return connection.recv(65536)

    def _launch(self) -> Process:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        process = Process(
            [*command, "--save", "", "--appendonly", "no", *self._options],
            self._directory / "log",
            parent_death_signal="KILL",
        )
        process.wait_ready(self._answers, 10)
        if not owns_port(process.pid, self.port):
            process.stop()
            raise EngineCannotRun(f"our Redis does not own port {self.port}")
        return process

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False


@contextlib.contextmanager
def redis_engine(*options: str) -> Iterator[RedisEngine]:
    """`options` as on Redis's command line, for example "--maxmemory", "50mb"."""
    with scratch_directory("redis") as directory:
        engine = RedisEngine(directory, *options)
        try:
            yield engine
        finally:
            engine.stop()
