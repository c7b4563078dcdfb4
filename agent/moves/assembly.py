"""Both ends of moves, wired; what the composition root asks for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from agent.desired import DesiredBook
from agent.inventory_model import HostFacts
from agent.moves.handing import Handing
from agent.moves.taking import Taking
from agent.reporter import Reporter
from agent.runtimes import RuntimeDriver
from agent.settings import AgentSettings
from common.clock import Clock


def open_moves(
    settings: AgentSettings,
    book: DesiredBook,
    driver: Callable[[], RuntimeDriver | None],
    reporter: Reporter,
    clock: Clock,
    facts: Callable[[], HostFacts],
    spawn: Callable[[str, Coroutine[Any, Any, None]], object],
) -> Taking:
    """Runs both ends; the target's is for the reconciler."""

    def addresses(port: int) -> Sequence[str]:
        return reachable(settings.listen_host, port, facts())

    directory = settings.identity_dir
    handing = Handing(book, driver, reporter, clock, directory, settings.listen_host, settings.move_port, addresses)
    taking = Taking(book, driver, reporter, clock, directory)
    spawn("handing over", handing.run())
    spawn("leftovers of moves", taking.run())
    return taking


def reachable(listen_host: str, port: int, facts: HostFacts) -> list[str]:
    """Of a host that listens everywhere, all addresses that it has; those of no network (link-local) reach nobody."""
    if not ipaddress.ip_address(listen_host).is_unspecified:
        return [_with_port(listen_host, port)]
    found = [ipaddress.ip_interface(one).ip for each in facts.machine.interfaces if each.up for one in each.addresses]
    usable = [one for one in found if not (one.is_loopback or one.is_link_local or one.is_multicast)]
    return [_with_port(str(one), port) for one in sorted(usable, key=lambda one: one.version)]


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
