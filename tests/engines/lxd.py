"""A real LXD with its own state, network and processes, a directory pool and a bridge; images come from lxd_image.py.

It lives in a machine of its own, as far as the kernel can pretend one: a network (bridges and firewall harm nobody), a
mount and a process namespace. The latter is why nothing outlives a test run: instances survive their LXD, also one that
was killed, and end with the process that holds the namespace.

Facts: LXD reads /sys/class/net, so /sys must be mounted in the namespace, and the cgroups be bound into it again; TERM
or kill -9 of lxd leaves instances running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import requests
from pylxd import Client
from pylxd.exceptions import ClientConnectionFailed, LXDAPIException

from tests.engines import EngineCannotRun
from tests.engines.processes import SEARCH_PATH, Process, find_program, stands_still, wait_until
from tests.engines.scratch import is_running, scratch_directory

_GROUP = "lxd"
_READY_SECONDS = 60
_OPERATION_SECONDS = 60
POOL, NETWORK = "default", "lxdbr0"
_NETWORK = {"ipv4.address": "10.61.0.1/24", "ipv4.nat": "false", "ipv4.dhcp": "false", "ipv6.address": "none"}
# The first process of the namespace: it makes /sys its own and reaps whoever loses a parent.
_HOLD = """
set -e
ip link set lo up
cgroups=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$cgroups"
mount -t sysfs sysfs /sys
mount --rbind "$cgroups" /sys/fs/cgroup
umount -l "$cgroups"
rmdir "$cgroups"
touch "$1"
while :; do sleep 3600 & wait $! || true; done
"""


class LxdEngine:
    """`socket`: where LXD listens. `netns`: the network that it and the ports of its instances are in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lxd = find_program("lxd", _GROUP)
        for program in ("unshare", "nsenter", "ip", "newuidmap", "unsquashfs", "dnsmasq"):
            find_program(program, "tools" if program in ("unshare", "nsenter", "ip") else _GROUP)
        self.state = directory / "lxd"
        self.state.mkdir()
        self.socket = self.state / "unix.socket"
        self._machine = self._boot()
        try:
            self._process = self._launch()
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def first_process(self) -> int:
        """Of the machine, as processes outside of it count; another one after `reboot`."""
        return self._first_process

    @property
    def netns(self) -> Path:
        return Path(f"/proc/{self._first_process}/ns/net")

    @property
    def running(self) -> bool:
        return self._process.running and is_running(self.pid)

    @property
    def command_prefix(self) -> tuple[str, ...]:
        """Put before a command, this runs it in LXD's network; files and processes are the machine's."""
        return (find_program("nsenter", "tools"), f"--net={self.netns}")

    def client(self) -> Client:
        """A client of the caller's."""
        return Client(endpoint=str(self.socket), timeout=_OPERATION_SECONDS)

    def kill(self) -> None:
        """SIGKILL of lxd alone: its instances live on."""
        self._signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> None:
        """SIGTERM of lxd alone: its instances live on."""
        self._signal(signal.SIGTERM)
        self._gone()

    def start(self) -> None:
        self._process = self._launch()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """It hangs: connections are accepted by the kernel and nobody answers."""
        self._signal(signal.SIGSTOP)
        stands_still(self.pid)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def reboot(self) -> None:
        """As when the power failed: lxd and all instances are gone at once; the disk and `start` remain."""
        self._machine.kill()
        self._gone()
        self._machine = self._boot()

    def heal(self) -> None:
        """It runs and answers, whatever a test did to it."""
        if self.running:
            self.resume()
        else:
            self.start()

    def remove_everything(self) -> None:
        """Instances, custom volumes, profiles and images: what tests left behind."""
        client = self.client()
        instances = [client.api.instances[name] for name in self._names(client, "instances")]
        stop = {"action": "stop", "force": True, "timeout": 0}
        self._all(client, [partial(path.state.put, json=stop) for path in instances])
        self._all(client, [path.delete for path in instances])
        for name in self._names(client, "storage-pools", POOL, "volumes", "custom"):
            client.api.storage_pools[POOL].volumes.custom[name].delete()
        for name in set(self._names(client, "profiles")) - {"default"}:
            client.api.profiles[name].delete()
        for name in self._names(client, "images"):
            self.wait(client, client.api.images[name].delete())

    @staticmethod
    def wait(client: Client, answer: requests.Response) -> dict[str, Any]:
        """The metadata of the operation that `answer` began. Raises `LXDAPIException` if it failed."""
        operation = answer.json().get("operation")
        return dict(client.operations.wait_for_operation(operation).metadata or {}) if operation else {}

    def close(self) -> None:
        with contextlib.suppress(AttributeError, OSError, LXDAPIException, ClientConnectionFailed):
            self.resume()
            self.remove_everything()  # LXD takes away the cgroups too, which a namespace does not
        self._machine.kill()
        with contextlib.suppress(AttributeError):
            self._process.stop(5)

    def _boot(self) -> Process:
        ready = self._directory / "ready"
        ready.unlink(missing_ok=True)
        namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"]
        command = [find_program("unshare", "tools"), *namespaces, "sh", "-c", _HOLD, "sh", str(ready)]
        machine = Process(command, self._directory / "machine.log")
        machine.wait_ready(ready.exists, 10)
        self._first_process = _only_child(machine.pid)
        return machine

    def _launch(self) -> Process:
        self.socket.unlink(missing_ok=True)
        into = [find_program("nsenter", "tools"), f"--target={self._first_process}", "--net", "--mount", "--pid"]
        log = self._directory / "lxd.out"
        command = [self._lxd, "--group", "root", "--logfile", str(self._directory / "lxd.log")]
        process = Process(command, log, environment={"LXD_DIR": str(self.state)}, prefix=into)
        process.wait_ready(self.socket.exists, _READY_SECONDS)
        self.pid = _only_child(process.pid)
        self._command("waitready", f"--timeout={_READY_SECONDS}")
        return process

    def _prepare(self) -> None:
        client = self.client()
        client.api.put(json={"config": {"images.auto_update_interval": "0"}})
        client.api.storage_pools.post(json={"name": POOL, "driver": "dir"})
        client.api.networks.post(json={"name": NETWORK, "type": "bridge", "config": _NETWORK})
        devices = {
            "root": {"type": "disk", "path": "/", "pool": POOL},
            "eth0": {"type": "nic", "network": NETWORK, "name": "eth0"},
        }
        client.api.profiles["default"].put(json={"config": {}, "description": "", "devices": devices})

    def _command(self, *arguments: str) -> None:
        environment = {"PATH": SEARCH_PATH, "LXD_DIR": str(self.state)}
        done = subprocess.run(
            [self._lxd, *arguments], env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        if done.returncode:
            raise EngineCannotRun(f"lxd {arguments[0]}: {done.stderr.strip()[-400:]}")

    def _signal(self, number: signal.Signals) -> None:
        if is_running(self.pid):
            os.kill(self.pid, number)

    def _gone(self) -> None:
        if not wait_until(lambda: not is_running(self.pid), 20):
            raise EngineCannotRun(f"lxd {self.pid} does not end: {self._process.log_tail()}")
        self._process.stop(5)

    def _all(self, client: Client, orders: Sequence[Callable[[], requests.Response]]) -> None:
        """Side by side; what fails, fails."""
        begun = []
        for order in orders:
            with contextlib.suppress(LXDAPIException):
                begun.append(order())
        for answer in begun:
            with contextlib.suppress(LXDAPIException):
                self.wait(client, answer)

    @staticmethod
    def _names(client: Client, *path: str) -> list[str]:
        node = client.api
        for part in path:
            node = node[part]
        return [str(one).rpartition("/")[2] for one in node.get().json()["metadata"]]


def _only_child(pid: int) -> int:
    """Of a process that has just forked into another process namespace."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    found: list[str] = []

    def forked() -> bool:
        found[:] = path.read_text().split()
        return len(found) == 1

    if not wait_until(forked, 5):
        raise EngineCannotRun(f"process {pid} has not forked")
    return int(found[0])


@contextlib.contextmanager
def lxd_engine() -> Iterator[LxdEngine]:
    if os.geteuid() != 0:
        raise EngineCannotRun("only root can run lxd")
    with scratch_directory("lxd", in_memory=True) as directory:
        engine = LxdEngine(directory)
        try:
            yield engine
        finally:
            engine.close()
