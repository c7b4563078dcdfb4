"""etcd on loopback: one node, or a cluster of three whose members can be killed and brought back.

Heartbeat 50 ms and election 500 ms: after the leader's death the next new write is accepted within about 0.6 s.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.engines import EngineCannotRun
from tests.engines.listeners import free_port, owns_port
from tests.engines.processes import Process, find_program
from tests.engines.scratch import scratch_directory

_READY_SECONDS = 20


class EtcdEngine:
    """Nodes are numbered from 0."""

    def __init__(self, directory: Path, count: int = 1, *, options: Sequence[str] = (), scheme: str = "http") -> None:
        """`options` are appended to every node's command line; `scheme` is that of the client listener."""
        self._program = find_program("etcd", "etcd")
        self._directory = directory
        self._options = tuple(options)
        self._scheme = scheme
        self.ports = [free_port() for _ in range(count)]
        self._peers = [free_port() for _ in range(count)]
        self._nodes: list[Process] = []
        try:
            for index in range(count):  # a member is healthy only with a quorum, so nobody is waited for yet
                self._nodes.append(self._launch(index))
            for index in range(count):
                self._await(index)
        except BaseException:
            self.stop()
            raise

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    def node(self, index: int = 0) -> Process:
        return self._nodes[index]

    def kill(self, index: int = 0) -> None:
        self._nodes[index].kill()

    def start(self, index: int = 0) -> None:
        """After `kill`: the same data on the same port; returns when it is healthy."""
        self._nodes[index] = self._launch(index)
        self._await(index)

    def leader(self) -> int:
        """The index of the node that leads now. Raises `EngineCannotRun` when nobody does."""
        for index, port in enumerate(self.ports):
            if self._nodes[index].running:
                status = self._call(port, "/v3/maintenance/status", b"{}")
                if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                    return index
        raise EngineCannotRun("no etcd node leads")

    def heal(self) -> None:
        """Bring every node back: resumed, restarted, healthy."""
        for index, node in enumerate(self._nodes):
            if node.running:
                node.resume()
            else:
                self._nodes[index] = self._launch(index)
        for index in range(len(self._nodes)):
            self._await(index)

    def forget(self) -> None:
        """Delete what every node knows; to be called while they are down."""
        for index in range(len(self._nodes)):
            shutil.rmtree(self._directory / f"n{index}", ignore_errors=True)

    def stop(self) -> None:
        for node in self._nodes:
            node.stop(1)  # the last member ignores SIGTERM: it has no quorum left

    def _launch(self, index: int) -> Process:
        peers = [f"n{number}=http://127.0.0.1:{port}" for number, port in enumerate(self._peers)]
        client, peer = f"{self._scheme}://127.0.0.1:{self.ports[index]}", f"http://127.0.0.1:{self._peers[index]}"
        command = [self._program, "--name", f"n{index}", "--data-dir", str(self._directory / f"n{index}")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", ",".join(peers), "--initial-cluster-state", "new", "--logger", "zap"]
        command += ["--heartbeat-interval", "50", "--election-timeout", "500"]
        if self._scheme == "https":  # /health without a client certificate
            command += ["--listen-metrics-urls", f"http://127.0.0.1:{self._metrics_port()}"]
        return Process([*command, *self._options], self._directory / f"n{index}.log")

    def _metrics_port(self) -> int:
        if not hasattr(self, "_health_port"):
            self._health_port = free_port()
        return self._health_port

    def _await(self, index: int) -> None:
        node = self._nodes[index]
        node.wait_ready(lambda: self._healthy(index), _READY_SECONDS)
        if not owns_port(node.pid, self.ports[index]):
            raise EngineCannotRun(f"our etcd does not own port {self.ports[index]}")

    def _healthy(self, index: int) -> bool:
        port = self._metrics_port() if self._scheme == "https" else self.ports[index]
        try:
            return self._call(port, "/health").get("health") == "true"
        except OSError:
            return False

    def _call(self, port: int, path: str, body: bytes | None = None) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body), timeout=1) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found


@contextlib.contextmanager
def etcd_engine(count: int = 1, *, options: Sequence[str] = (), scheme: str = "http") -> Iterator[EtcdEngine]:
    with scratch_directory("etcd", in_memory=True) as directory:
        engine = EtcdEngine(directory, count, options=options, scheme=scheme)
        try:
            yield engine
        finally:
            engine.stop()
