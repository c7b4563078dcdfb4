"""Hosts on one computer: each a machine of its own as far as the kernel can pretend one, with dockerd and LXD beside
each other, joined by a switch.

    this machine --- leg --- switch namespace (bridge) --- p1 --- eth0 of host 1
                                                       --- p2 --- eth0 of host 2

A host is the machine of its LXD (a network, a mount and a process namespace, see lxd.py); dockerd and whatever else
shall run there enter its network with `command_prefix`. Files are the computer's own.

Invariant: the switch, the hosts and all links go with the processes that hold their namespaces, so that nothing is left
of a run that was ended by SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engines import EngineCannotRun
from tests.engines.dockerd import DockerEngine
from tests.engines.lxd import LxdEngine
from tests.engines.namespaces import Namespace, network_namespace
from tests.engines.processes import find_program
from tests.engines.scratch import scratch_directory


class Switch:
    """`address`: of this machine on it. Hosts get those that follow."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._ip = find_program("ip", "tools")
        self._net = self._free_net()
        self.address = f"{self._net}.1"
        leg = f"lsh{os.getpid() % 100_000}"
        self._run("link", "add", "br0", "type", "bridge")
        self._run("link", "set", "br0", "up")
        self._run("link", "add", "leg", "type", "veth", "peer", "name", leg, "netns", str(os.getpid()))
        self._run("link", "set", "leg", "master", "br0", "up")
        _run(self._ip, "addr", "add", f"{self.address}/24", "dev", leg)
        _run(self._ip, "link", "set", leg, "up")

    def address_of(self, number: int) -> str:
        return f"{self._net}.{10 + number}"

    def plug(self, number: int, machine: LxdEngine) -> None:
        """Give a machine that was just booted its cable."""
        port, inside = f"p{number}", [*machine.command_prefix, self._ip]
        # A card keeps its address over a boot: others would go on asking for the old one, for seconds.
        peer = ["peer", "name", "eth0", "address", f"02:00:00:00:00:{number:02x}", "netns", str(machine.first_process)]
        with contextlib.suppress(EngineCannotRun):
            self._run("link", "del", port)  # of the machine's last life; the kernel is slow to take it away
        self._run("link", "add", port, "type", "veth", *peer)
        self._run("link", "set", port, "master", "br0", "up")
        _run(*inside, "addr", "add", f"{self.address_of(number)}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")

    def cut(self, number: int) -> None:
        """Pull the cable: connections hang, nobody refuses them."""
        self._run("link", "set", f"p{number}", "down")

    def heal(self, number: int) -> None:
        self._run("link", "set", f"p{number}", "up")

    def _run(self, *arguments: str) -> str:
        return _run(*self._namespace.command_prefix, self._ip, *arguments)

    def _free_net(self) -> str:
        """The first three bytes of addresses of our own: two runs on one machine must not answer each other."""
        links = json.loads(_run(self._ip, "-j", "-4", "addr", "show"))
        taken = {one["local"].rpartition(".")[0] for link in links for one in link["addr_info"]}
        nets = [f"10.213.{(os.getpid() + step) % 256}" for step in range(256)]
        return next(net for net in nets if net not in taken)


class HostMachine:
    """Docker and LXD run when this is made. `address`: on the switch."""

    def __init__(self, number: int, switch: Switch, directory: Path, docker_directory: Path) -> None:
        self._number = number
        self._switch = switch
        self.address = switch.address_of(number)
        self.lxd = LxdEngine(directory)
        try:
            switch.plug(number, self.lxd)
            self.docker = DockerEngine(docker_directory, self.lxd)
        except BaseException:
            self.lxd.close()
            raise

    @property
    def command_prefix(self) -> tuple[str, ...]:
        """Put before a command, this runs it in the host's network; another one after each boot."""
        return self.lxd.command_prefix

    def cut(self) -> None:
        self._switch.cut(self._number)

    def heal(self) -> None:
        self._switch.heal(self._number)

    def lose_power(self) -> None:
        """Every process is gone at once; the machine is booted again, and nothing but its network is there."""
        self.docker.lose_power()
        self.lxd.reboot()
        self._switch.plug(self._number, self.lxd)

    def start_engines(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            for started in [pool.submit(self.docker.start), pool.submit(self.lxd.start)]:
                started.result()

    def close(self) -> None:
        try:
            self.docker.close()
        finally:
            self.lxd.close()


@contextlib.contextmanager
def host_machines(count: int) -> Iterator[tuple[Switch, Sequence[HostMachine]]]:
    """Raises `EngineCannotRun` where one of the engines, or namespaces, cannot run."""
    if os.geteuid() != 0:
        raise EngineCannotRun("only root can run dockerd and lxd")
    with contextlib.ExitStack() as stack:
        switch = Switch(stack.enter_context(network_namespace()))
        places = [
            (stack.enter_context(scratch_directory("lxd", in_memory=True)), stack.enter_context(scratch_directory("d")))
            for _ in range(count)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(count))
        made = [pool.submit(HostMachine, number, switch, *place) for number, place in enumerate(places, 1)]
        # All at once: dockerd and lxd take a second or two each.
        stack.callback(lambda: list(pool.map(HostMachine.close, [one.result() for one in made if not one.exception()])))
        yield switch, [one.result() for one in made]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise EngineCannotRun(f"{' '.join(command[-8:])}: {done.stderr.strip()[-300:]}")
    return done.stdout
