"""Hosts on shaped links: a namespace each, a switch for each site, a narrow link from the first site to every other.

    source --- switch 1 === wan === switch 2 --- hosts          every link shaped by tbf in both directions
                  |                     |
                hosts              relay, hosts

The control plane and the first site's regional stand on the source: between them is its loopback, which is not shaped.
We ourselves reach the source by a link of our own, so that neither pushing nor asking is counted or slowed down.

Bytes are read from the kernel's counters on the switches, so no program can embellish them. Invariant: `close` ends
every process within and removes every namespace; what a kill keeps it from removing, `leftovers` removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.swarm import leftovers
from deploy.demo.fleet import Node

_LATENCY = "50ms"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Shape:
    """Rates in Mbit/s. `sites`: how many hosts stand at each; the source is at the first."""

    sites: tuple[int, ...] = (8,)
    source_up: int = 100
    host_up: int = 100
    down: int = 1000
    wan: int = 50

    @property
    def hosts(self) -> int:
        return sum(self.sites)

    def bound_seconds(self, size: int) -> float:
        """D_min (Kumar and Ross, HOTWEB 2006): no way of spreading `size` bytes to all hosts is faster."""
        megabits = size * 8 / 1e6
        together = self.hosts * megabits / (self.source_up + self.hosts * self.host_up)
        far = megabits / self.wan if len(self.sites) > 1 else 0.0
        return max(megabits / self.source_up, megabits / self.down, together, far)

    def __str__(self) -> str:
        where = " + ".join(map(str, self.sites))
        wan = f", WAN {self.wan}" if len(self.sites) > 1 else ""
        return f"{where} hosts, {self.source_up}/{self.host_up}/{self.down} Mbit/s{wan}"


class Network:
    """`host(n)` counts from 1 over all sites; `relay(site)` is a place for the regional of a site after the first."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._prefix = leftovers.prefix()
        self._device = f"lsw{os.getpid() % 10**8}"
        self._net = f"10.{_free_number()}"
        self.source = Node("source", f"{self._net}.1.1", self._enter("source"))

    def host(self, number: int) -> Node:
        site = self.site_of(number)
        return Node(f"host-{number}", f"{self._net}.{site + 1}.{number + 10}", self._enter(f"h{number}"))

    def relay(self, site: int) -> Node:
        return Node(f"relay-{site}", f"{self._net}.{site + 1}.2", self._enter(f"r{site}"))

    def numbers(self) -> range:
        return range(1, self.shape.hosts + 1)

    def site_of(self, number: int) -> int:
        before = 0
        for site, hosts in enumerate(self.shape.sites):
            before += hosts
            if number <= before:
                return site
        raise IndexError(f"there is no host {number}")

    def build(self) -> None:
        for site in range(len(self.shape.sites)):
            self._switch(site)
        self._attach(0, "source", self.source, self.shape.source_up)
        for site in range(1, len(self.shape.sites)):
            self._wan(site)
            self._attach(site, f"r{site}", self.relay(site), self.shape.host_up)
        for number in self.numbers():
            self._attach(self.site_of(number), f"h{number}", self.host(number), self.shape.host_up)
        self._attach_here()

    def source_bytes(self) -> int:
        """What the source has sent, with headers."""
        return self._received(0, "psource")

    def wan_bytes(self, site: int) -> int:
        """What has entered the site."""
        return self._received(site, "wan")

    def host_bytes(self, number: int) -> int:
        """What that host has sent."""
        return self._received(self.site_of(number), f"ph{number}")

    def pids(self) -> set[int]:
        """Of everything that runs in its namespaces."""
        return leftovers.pids_within(self._prefix)

    def close(self) -> None:
        # The kernel removes a namespace's links some time after its name; this one stands in ours and goes at once.
        subprocess.run(["ip", "link", "del", self._device], check=False, capture_output=True)
        leftovers.remove_namespaces(self._prefix)

    def _received(self, site: int, device: str) -> int:
        shown = json.loads(run("ip", "-n", self._name(f"s{site}"), "-s", "-j", "link", "show", "dev", device))
        return int(shown[0]["stats64"]["rx"]["bytes"])

    def _name(self, short: str) -> str:
        return f"{self._prefix}{short}"

    def _enter(self, short: str) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self._name(short)}")

    def _namespace(self, short: str) -> None:
        run("ip", "netns", "add", self._name(short))
        run("ip", "-n", self._name(short), "link", "set", "lo", "up")

    def _switch(self, site: int) -> None:
        name = f"s{site}"
        self._namespace(name)
        run("ip", "-n", self._name(name), "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self._name(name), "link", "set", "br0", "up")

    def _attach(self, site: int, short: str, node: Node, up: int) -> None:
        switch, port = f"s{site}", f"p{short}"
        self._namespace(short)
        peer = ["peer", "name", "eth0", "netns", self._name(short)]
        run("ip", "-n", self._name(switch), "link", "add", port, "type", "veth", *peer)
        run("ip", "-n", self._name(switch), "link", "set", port, "master", "br0", "up")
        # One flat /16 over all sites: switches need no routes.
        run("ip", "-n", self._name(short), "addr", "add", f"{node.address}/16", "dev", "eth0")
        run("ip", "-n", self._name(short), "link", "set", "eth0", "up")
        self._limit(short, "eth0", up)
        self._limit(switch, port, self.shape.down)

    def _wan(self, site: int) -> None:
        peer = ["peer", "name", "wan", "netns", self._name(f"s{site}")]
        run("ip", "-n", self._name("s0"), "link", "add", f"wan{site}", "type", "veth", *peer)
        for switch, device in (("s0", f"wan{site}"), (f"s{site}", "wan")):
            run("ip", "-n", self._name(switch), "link", "set", device, "master", "br0", "up")
            self._limit(switch, device, self.shape.wan)

    def _attach_here(self) -> None:
        here, there = f"{self._net}.255.1/30", f"{self._net}.255.2/30"
        source = self._name("source")
        run("ip", "link", "add", self._device, "type", "veth", "peer", "name", "control", "netns", source)
        run("ip", "-n", source, "addr", "add", there, "dev", "control")
        run("ip", "-n", source, "link", "set", "control", "up")
        run("ip", "addr", "add", here, "dev", self._device)
        run("ip", "link", "set", self._device, "up")
        run("ip", "route", "add", f"{self.source.address}/32", "via", there.partition("/")[0])

    def _limit(self, short: str, device: str, mbit: int) -> None:
        # 4 ms of the rate: less, and the kernel's timer cannot keep it up; more, and the first seconds are a gift.
        burst = max(128, mbit * 1000 // 8 * 4 // 1000)
        rate = ["rate", f"{mbit}mbit", "burst", f"{burst}kb", "latency", _LATENCY]
        run("tc", "-n", self._name(short), "qdisc", "add", "dev", device, "root", "tbf", *rate)


def _free_number() -> int:
    """Second part of our addresses: the link to the source stands in the common namespace, other runs have theirs."""
    shown = json.loads(run("ip", "-j", "-4", "addr", "show"))
    taken = {address["local"] for device in shown for address in device["addr_info"]}
    return next(number for number in range(64, 128) if f"10.{number}.255.1" not in taken)


@contextlib.contextmanager
def shaped_network(shape: Shape) -> Iterator[Network]:
    network = Network(shape)
    held = {signal.SIGINT, signal.SIGTERM}
    try:
        network.build()
        yield network
    finally:
        # A second Ctrl-C must not stop the clearing away.
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            network.close()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
