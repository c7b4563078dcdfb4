"""A real dockerd with its own state and socket, and the image `busybox:local`, so that nothing is pulled from outside.

Ways to run it:
- in a network namespace of its own, or of a host of hosts.py (bridge, NAT and published ports work; the machine's
  firewall is untouched). What it shall pull from must then listen inside too: start that with
  `DockerEngine.command_prefix`.
- in the machine's namespace without bridge and iptables: it reaches every loopback server of the tests, and its
  containers use the network `none` or `host`.

One dockerd per network namespace: a second one, even without a bridge, deletes the first one's docker0.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
from docker.errors import DockerException

from tests.engines import EngineCannotRun
from tests.engines.busybox import root_file_system
from tests.engines.namespaces import Network, network_namespace, same_network
from tests.engines.processes import Process, find_program, wait_until
from tests.engines.scratch import is_running, remove, scratch_directory

IMAGE = "busybox:local"
_READY_SECONDS = 60
# A dockerd in the machine's namespace is lent to one test process at a time.
_HOST_LOCK = Path("/tmp/lse-dockerd.lock")
_HOST_LOCK_SECONDS = 100


class DockerEngine:
    """`host` is the DOCKER_HOST URL. `network` is entered anew by every start."""

    def __init__(self, directory: Path, network: Network | None, options: Sequence[str] = ()) -> None:
        self._directory = directory
        self._options = tuple(options)
        self._exec_root = directory / "exec"
        self._network = network
        self.host = f"unix://{directory}/docker.sock"
        self.log = directory / "log"
        self._program = find_program("dockerd", "docker")
        find_program("iptables", "docker")
        (directory / "daemon.json").write_text(json.dumps({"insecure-registries": ["127.0.0.0/8"]}))
        self.process = self._launch()
        try:
            self._import_image()
        except BaseException:
            self.stop()
            raise

    @property
    def netns(self) -> Path | None:
        """The namespace file; None in the machine's own network."""
        return self._network.netns if self._network else None

    @property
    def command_prefix(self) -> tuple[str, ...]:
        return self._network.command_prefix if self._network else ()

    def client(self) -> docker.DockerClient:
        """A client of the caller's, to be closed by the caller."""
        return docker.DockerClient(base_url=self.host, timeout=30)

    def stop(self, seconds: float = 30) -> None:
        """Cleanly: dockerd stops its containers; those with a restart policy come back with `start`."""
        self.process.stop(seconds)
        self._end_leftovers()

    def kill(self) -> None:
        """SIGKILL: containerd dies too, containers live on until the next `start`, which ends them."""
        self.process.kill()

    def lose_power(self) -> None:
        """dockerd, containerd and all containers are gone at once, and what is kept in memory; the disk and `start`
        remain.
        """
        self.process.kill()
        self._end_leftovers()
        remove(self._exec_root)

    def start(self) -> None:
        self.process = self._launch()

    def restart(self) -> None:
        """A clean stop and start."""
        self.stop()
        self.start()

    def remove_containers(self) -> None:
        """Every container, running or not: what tests left behind."""
        with contextlib.closing(self.client()) as client:
            for container in client.containers.list(all=True):
                with contextlib.suppress(DockerException):
                    container.remove(force=True, v=True)

    def close(self) -> None:
        if self.process.running:
            with contextlib.suppress(DockerException, OSError):
                self.remove_containers()
        self.stop()

    def _launch(self) -> Process:
        self._forget_dead_daemons()
        state = ["--config-file", str(self._directory / "daemon.json"), "--pidfile", str(self._directory / "pid")]
        state += ["--data-root", str(self._directory / "data"), "--exec-root", str(self._exec_root)]
        process = Process(
            [self._program, *state, "-H", self.host, "--log-level", "warn", *self._options],
            self.log,
            parent_death_signal="TERM",
            prefix=self.command_prefix,
        )
        process.wait_ready(self._answers, _READY_SECONDS)
        return process

    def _answers(self) -> bool:
        # Our pid file proves that it is our daemon that answers on the socket.
        try:
            if int((self._directory / "pid").read_text()) not in _family(os.getpid()):
                return False
            with contextlib.closing(self.client()) as client:
                return bool(client.ping())
        except (OSError, ValueError, DockerException):
            return False

    def _import_image(self) -> None:
        with contextlib.closing(self.client()) as client:
            client.api.import_image_from_data(
                root_file_system(), repository="busybox", tag="local", changes=['CMD ["/bin/sh"]']
            )
            client.images.get(IMAGE)

    def _forget_dead_daemons(self) -> None:
        """dockerd takes the pid file of a dead containerd for a running one and gives up after 50 s."""
        (self._directory / "pid").unlink(missing_ok=True)
        folder = self._exec_root / "containerd"
        pid_file = folder / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            wait_until(lambda: not is_running(int(pid_file.read_text())), 2)
        for leftover in (pid_file, *folder.glob("*.sock*")):
            leftover.unlink(missing_ok=True)

    def _end_leftovers(self) -> None:
        """Shims outlive a killed dockerd, and with them the containers: end those that name our exec root."""
        for pid in _processes_naming(str(self._exec_root)):
            for child in _family(pid) - {pid}:
                _kill(child)
            _kill(pid)


def _processes_naming(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid() and is_running(pid)]


def _family(pid: int) -> set[int]:
    """`pid` and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit():
                parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = set(), [pid]
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting.extend(children.get(current, []))
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """In a network namespace of its own."""
    _require_root()
    with network_namespace() as namespace, scratch_directory("docker") as directory:
        engine = DockerEngine(directory, namespace)
        try:
            yield engine
        finally:
            engine.close()


@contextlib.contextmanager
def docker_host_engine() -> Iterator[DockerEngine]:
    """In the machine's own network, which it leaves as it is."""
    _require_root()
    with _turn(), scratch_directory("docker") as directory:
        if others := [pid for pid in _dockerds() if same_network(pid, os.getpid())]:
            raise EngineCannotRun(f"dockerd {others[0]} lives in this network already, and two disturb each other")
        quiet = ("--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false", "--ip-masq=false")
        engine = DockerEngine(directory, None, quiet)
        try:
            yield engine
        finally:
            engine.close()


def _require_root() -> None:
    if os.geteuid() != 0:
        raise EngineCannotRun("only root can run dockerd")


def _dockerds() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "dockerd":
                found.append(int(entry.name))
    return [pid for pid in found if is_running(pid)]


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until no other test process has a dockerd in the machine's network; the kernel frees a dead one's turn."""
    with _HOST_LOCK.open("a") as lock:

        def taken() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

        if not wait_until(taken, _HOST_LOCK_SECONDS, 0.1):
            raise EngineCannotRun(f"another test run had dockerd in this network for {_HOST_LOCK_SECONDS} s")
        yield
