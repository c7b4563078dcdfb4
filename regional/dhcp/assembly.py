"""DHCP put together for the composition root: the file, the leases from disk, the sockets, the server."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import structlog

from common.clock import Clock
from common.lifecycle import Lifecycle
from regional.alarms import Alarms
from regional.boot_targets import BootMap
from regional.dhcp.advertising import advertise, open_advertiser
from regional.dhcp.choosing import Boots
from regional.dhcp.committing import Committer
from regional.dhcp.configuration import DhcpConfigurationInvalid, DhcpFile, load_file, proxy_on
from regional.dhcp.events import DhcpSeen, Watch, nobody_watches
from regional.dhcp.handler import Handler
from regional.dhcp.lease_store import LeaseStore
from regional.dhcp.leases import LeaseBook
from regional.dhcp.overhearing import Ear, open_ear, overhear, told
from regional.dhcp.probing import NetworkProbe
from regional.dhcp.replies import PROXY_PORT, SERVER_PORT
from regional.dhcp.rivals import Rivals
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
    alarms: Alarms | None = None,
) -> None:
    """If it is enabled. `watch` is told what was answered to whom; it must neither wait nor raise. `alarms` are told of
    other servers, and of leases that find no disk. Raises `DhcpConfigurationInvalid`, `DhcpPortUnusable`,
    `LeasesNotStored`.
    """
    if settings.enable_dhcp:
        serving = _serving(settings, clock, lifecycle.spawn, metrics, api_port, watch, choose, alarms or Alarms())
        await lifecycle.enter(serving)


@asynccontextmanager
async def _serving(
    settings: RegionalSettings,
    clock: Clock,
    spawn: Spawn,
    metrics: Metrics,
    api_port: int,
    watch: Watch,
    choose: Choose,
    alarms: Alarms,
) -> AsyncIterator[None]:
    file = await _file(settings)
    subnets = file.subnet_set(_own_address(settings))
    store = LeaseStore(settings.data / "dhcp" / "leases", clock, await asyncio.to_thread(_boot_id))
    book = LeaseBook(subnets)
    loaded = await asyncio.to_thread(store.load)
    running = book.restore(loaded.leases, clock.monotonic())
    boot = choose(file.boot_map(f"http://{settings.server_ip}:{api_port}"))
    handler = Handler(subnets, book, boot, file.limits.of_newcomers)
    committer, rivals = Committer(store), Rivals(subnets, file.ask_for_others_seconds)

    def seen(event: DhcpSeen) -> None:
        if event.server is not None:
            told(rivals.chosen(event.interface, int(IPv4Address(event.server)), clock.monotonic()))
        watch(event)

    server = DhcpServer(
        handler, book, committer, NetworkProbe(), clock, spawn,
        lambda verdict: metrics.dhcp.labels(verdict).inc(), file.limits.of_client, file.limits.of_interface,
        seen,
    )  # fmt: skip
    metrics.gauge("dhcp_leases", "Addresses that are offered, leased or in quarantine", lambda: float(len(book)))
    _alarm(alarms, metrics, committer, rivals, clock)
    lines: list[Line] = []
    advertisers: list[socket.socket] = []
    ears: list[Ear] = []
    try:
        for interface in subnets.interfaces or (settings.interface,):
            lines += [open_line(interface, port) for port in (SERVER_PORT, PROXY_PORT)]
        quiet = [each.interface for each in subnets.every if each.answer_ipv6 and each.interface]
        advertisers = [found for interface in quiet if (found := open_advertiser(interface)) is not None]
        spawn("dhcp", server.serve(lines))
        spawn("dhcp ipv6", advertise(advertisers, clock))
        ears = [ear for each in dict.fromkeys(line.interface for line in lines) if (ear := open_ear(each)) is not None]
        asked = overhear(ears, rivals, file.ask_for_others_seconds, clock, random.SystemRandom().random)
        spawn("dhcp rivals", asked)
        log.info("dhcp listening", interfaces=subnets.interfaces, subnets=len(subnets.every), leases=running)
        yield
    finally:
        for line in lines:
            line.close()
        for each in advertisers:
            each.close()
        for ear in ears:
            ear.frames.close()
        await asyncio.to_thread(store.close)


def _alarm(alarms: Alarms, metrics: Metrics, committer: Committer, rivals: Rivals, clock: Clock) -> None:
    def others() -> list[str]:
        return [rival.words for rival in rivals.present(clock.monotonic())]

    alarms.watch(others)
    alarms.watch(lambda: [f"no lease is granted: {committer.trouble}"] if committer.trouble else [])
    metrics.gauge(
        "dhcp_rivals", "Other DHCP servers that were heard and that nobody named", lambda: float(len(others()))
    )


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
