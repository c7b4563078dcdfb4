"""Hosts with shaped links on one machine: a network namespace each, switches per IDC, a narrow link between IDC and
centre.

    centre ns --- core switch --- wan veth (shaped both ways) --- IDC switch --- host ns (shaped both ways)

Rates by tbf on both ends. Bytes are read from the kernel's counters of the WAN link, so they hold headers and
retransmissions and cannot be embellished. Invariant: `close` removes every namespace it made. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploy.demo.fleet import Node

_BURST = "128kb"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Plan:
    """Rates in Mbit/s, both directions. Each IDC has one node for the regional and `hosts` more."""

    idcs: Sequence[str] = ("east", "west")
    hosts: int = 4
    wan_mbit: int = 50
    lan_mbit: int = 100
    centre_mbit: int = 1000


class Links:
    """`node(idc, n)`: n 0 is the regional's place, 1.. the hosts'. `centre` is where the control plane runs."""

    def __init__(self, plan: Plan, prefix: str = "lsb") -> None:
        self.plan = plan
        self._prefix = f"{prefix}{os.getpid() % 10000}"
        self._net = _free_net()
        self._namespaces: list[str] = []
        self.centre = Node("centre", f"{self._net}.0.1", self._enter("c"))

    def node(self, idc: str, number: int) -> Node:
        name = f"regional-{idc}" if number == 0 else f"{idc}-{number}"
        index = self.plan.idcs.index(idc) + 1
        return Node(name, f"{self._net}.{index}.{number + 1}", self._enter(f"{index}n{number}"))

    def build(self) -> None:
        self._namespace("core")
        self._bridge("core")
        self._attach("core", "c", self.centre.address, self.plan.centre_mbit)
        self._attach_here()
        for index, idc in enumerate(self.plan.idcs, 1):
            switch = f"s{index}"
            self._namespace(switch)
            self._bridge(switch)
            self._wan(switch, index)
            for number in range(self.plan.hosts + 1):
                self._attach(switch, f"{index}n{number}", self.node(idc, number).address, self.plan.lan_mbit)

    def wan_bytes(self, idc: str) -> int:
        """Bytes that entered the IDC over its WAN link since it was built."""
        index = self.plan.idcs.index(idc) + 1
        shown = json.loads(run("ip", "-n", self._name(f"s{index}"), "-s", "-j", "link", "show", "dev", "wan"))
        return int(shown[0]["stats64"]["rx"]["bytes"])

    def close(self) -> None:
        # The kernel removes a namespace's links some time after its name; this one stands in ours and goes at once.
        subprocess.run(["ip", "link", "del", f"{self._prefix}m"], check=False, capture_output=True)
        for namespace in reversed(self._namespaces):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def _name(self, short: str) -> str:
        return f"{self._prefix}{short}"

    def _enter(self, short: str) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self._name(short)}")

    def _namespace(self, short: str) -> None:
        run("ip", "netns", "add", self._name(short))
        self._namespaces.append(self._name(short))
        run("ip", "-n", self._name(short), "link", "set", "lo", "up")

    def _bridge(self, short: str) -> None:
        run("ip", "-n", self._name(short), "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self._name(short), "link", "set", "br0", "up")

    def _attach(self, switch: str, short: str, address: str, mbit: int) -> None:
        self._namespace(short)
        port = f"p{short}"
        peer = ["peer", "name", "eth0", "netns", self._name(short)]
        run("ip", "-n", self._name(switch), "link", "add", port, "type", "veth", *peer)
        run("ip", "-n", self._name(switch), "link", "set", port, "master", "br0", "up")
        # One flat /16: the switches are joined by the shaped WAN links, so no routing is needed.
        run("ip", "-n", self._name(short), "addr", "add", f"{address}/16", "dev", "eth0")
        run("ip", "-n", self._name(short), "link", "set", "eth0", "up")
        self._shape(switch, port, mbit)
        self._shape(short, "eth0", mbit)

    def _attach_here(self) -> None:
        # A leg for the benchmark itself, which asks the control plane how far it is; it goes with the core namespace.
        here = f"{self._prefix}m"
        run("ip", "link", "add", here, "type", "veth", "peer", "name", "here", "netns", self._name("core"))
        run("ip", "-n", self._name("core"), "link", "set", "here", "master", "br0", "up")
        run("ip", "addr", "add", f"{self._net}.255.1/16", "dev", here)
        run("ip", "link", "set", here, "up")

    def _wan(self, switch: str, index: int) -> None:
        peer = ["peer", "name", "wan", "netns", self._name(switch)]
        run("ip", "-n", self._name("core"), "link", "add", f"wan{index}", "type", "veth", *peer)
        for namespace, device in (("core", f"wan{index}"), (switch, "wan")):
            run("ip", "-n", self._name(namespace), "link", "set", device, "master", "br0", "up")
            self._shape(namespace, device, self.plan.wan_mbit)

    def _shape(self, short: str, device: str, mbit: int) -> None:
        rate = ["rate", f"{mbit}mbit", "burst", _BURST, "latency", "50ms"]
        run("tc", "-n", self._name(short), "qdisc", "add", "dev", device, "root", "tbf", *rate)


def _free_net() -> str:
    """The first two bytes of addresses of our own: two runs on one machine must not answer each other."""
    taken = run("ip", "-o", "-4", "addr", "show")
    first = os.getpid() % 64
    nets = [f"10.{64 + (first + step) % 64}" for step in range(64)]
    return next(net for net in nets if f" {net}." not in taken)


@contextlib.contextmanager
def shaped_links(plan: Plan, prefix: str = "lsb") -> Iterator[Links]:
    links = Links(plan, prefix)
    try:
        links.build()
        yield links
    finally:
        links.close()
