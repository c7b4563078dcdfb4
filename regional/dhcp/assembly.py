"""DHCP put together for the composition root: the file, the leases from disk, the sockets, the server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import structlog

from common.clock import Clock
from common.lifecycle import Lifecycle
from regional.boot_targets import BootMap
from regional.dhcp.advertising import advertise, open_advertiser
from regional.dhcp.choosing import Boots
from regional.dhcp.committing import Committer
from regional.dhcp.configuration import DhcpConfigurationInvalid, DhcpFile, load_file, proxy_on
from regional.dhcp.events import Watch, nobody_watches
from regional.dhcp.handler import Handler
from regional.dhcp.lease_store import LeaseStore
from regional.dhcp.leases import LeaseBook
from regional.dhcp.probing import NetworkProbe
from regional.dhcp.replies import PROXY_PORT, SERVER_PORT
from regional.dhcp.server import DhcpServer, Spawn
from regional.dhcp.wire import Line, open_line
from regional.metrics import Metrics
from regional.settings import RegionalSettings

log = structlog.get_logger()
# From what the file says to what the answers say: whoever knows single machines stands in between.
Choose = Callable[[BootMap], Boots]
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def start_dhcp(
    settings: RegionalSettings,
    lifecycle: Lifecycle,
    clock: Clock,
    metrics: Metrics,
    api_port: int,
    watch: Watch = nobody_watches,
    choose: Choose = lambda said: said,
) -> None:
    """If it is enabled. `watch` is told what was answered to whom; it must neither wait nor raise. Raises
    `DhcpConfigurationInvalid`, `DhcpPortUnusable`, `LeasesNotStored`.
    """
    if settings.enable_dhcp:
        await lifecycle.enter(_serving(settings, clock, lifecycle.spawn, metrics, api_port, watch, choose))


@asynccontextmanager
async def _serving(
    settings: RegionalSettings,
    clock: Clock,
    spawn: Spawn,
    metrics: Metrics,
    api_port: int,
    watch: Watch,
    choose: Choose,
) -> AsyncIterator[None]:
    file = await _file(settings)
    subnets = file.subnet_set(_own_address(settings))
    store = LeaseStore(settings.data / "dhcp" / "leases", clock, await asyncio.to_thread(_boot_id))
    book = LeaseBook(subnets)
    loaded = await asyncio.to_thread(store.load)
    running = book.restore(loaded.leases, clock.monotonic())
    boot = choose(file.boot_map(f"http://{settings.server_ip}:{api_port}"))
    handler = Handler(subnets, book, boot, file.limits.of_newcomers)
    server = DhcpServer(
        handler, book, Committer(store), NetworkProbe(), clock, spawn,
        lambda verdict: metrics.dhcp.labels(verdict).inc(), file.limits.of_client, file.limits.of_interface,
        watch,
    )  # fmt: skip
    metrics.gauge("dhcp_leases", "Addresses that are offered, leased or in quarantine", lambda: float(len(book)))
    lines: list[Line] = []
    advertisers: list[socket.socket] = []
    try:
        for interface in subnets.interfaces or (settings.interface,):
            lines += [open_line(interface, port) for port in (SERVER_PORT, PROXY_PORT)]
        quiet = [each.interface for each in subnets.every if each.answer_ipv6 and each.interface]
        advertisers = [found for interface in quiet if (found := open_advertiser(interface)) is not None]
        spawn("dhcp", server.serve(lines))
        spawn("dhcp ipv6", advertise(advertisers, clock))
        log.info("dhcp listening", interfaces=subnets.interfaces, subnets=len(subnets.every), leases=running)
        yield
    finally:
        for line in lines:
            line.close()
        for each in advertisers:
            each.close()
        await asyncio.to_thread(store.close)


def _own_address(settings: RegionalSettings) -> IPv4Address:
    """Raises `DhcpConfigurationInvalid` if machines could not reach what the answers name."""
    address = ip_address(settings.server_ip)
    if isinstance(address, IPv4Address) and not address.is_loopback:
        return address
    raise DhcpConfigurationInvalid(
        f"DHCP cannot send machines to {address}", action="name this computer's IPv4 address there with --server-ip"
    )


async def _file(settings: RegionalSettings) -> DhcpFile:
    if settings.dhcp_config is None:
        return proxy_on(settings.interface)
    return await asyncio.to_thread(load_file, settings.dhcp_config)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        # Then wall time counts: right unless the clock is set while we are away.
        return ""
