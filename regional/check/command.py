"""The command line of the check: one line a finding; the exit code is 0 if nothing is wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from typing import Annotated

import aiohttp
import typer

from regional.check.asking import Broadcast
from regional.check.clients import USUAL, Kind
from regional.check.loading import Loading
from regional.check.model import Finding, Level
from regional.check.play import play
from regional.check.rights import table

_WRONG = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def check(
    interface: Annotated[str, typer.Option(help="Where machines are: DHCP is asked for here.")] = "eth1",
    address: Annotated[
        str | None, typer.Option(help="Leave DHCP out, and ask the regional at this address. Needs no rights.")
    ] = None,
    api_port: Annotated[int, typer.Option(min=1, max=65535, help="Its HTTP port, with --address.")] = 8081,
    tftp_port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port of TFTP.")] = 69,
    firmware: Annotated[
        list[Kind] | None, typer.Option(help="What to play; can be repeated. [bios, uefi, uefi-http, ipxe]")
    ] = None,
    wait: Annotated[float, typer.Option(min=0.1, max=60.0, help="Seconds to wait for each answer.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a finding.")] = False,
    ports: Annotated[bool, typer.Option("--ports", help="Only list ports, and the rights that they need.")] = False,
) -> None:
    """Play a machine that boots from the network, and say what would keep it from booting.

    Run it on a computer in the machines' network. It takes no address for good, and installs nothing.
    """
    if ports:
        typer.echo(table())
        return
    kinds = tuple(dict.fromkeys(firmware or USUAL))
    base = None if address is None else f"http://{f'[{address}]' if ':' in address else address}:{api_port}"
    asker = Broadcast(interface, wait) if address is None else None
    # tftpy tells about each packet.
    logging.getLogger("tftpy").setLevel(logging.CRITICAL)
    if asyncio.run(_told(asker, kinds, base, wait, tftp_port, as_json=as_json)):
        raise typer.Exit(_WRONG)


async def _told(
    asker: Broadcast | None, kinds: tuple[Kind, ...], base: str | None, wait: float, tftp_port: int, *, as_json: bool
) -> int:
    """How many findings are wrong."""
    counts = dict.fromkeys(Level, 0)
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        async for finding in play(asker, Loading(http, wait, tftp_port), kinds, base):
            counts[finding.level] += 1
            typer.echo(_shown(finding, as_json=as_json))
    if not as_json:
        typer.echo(f"{counts[Level.WRONG]} wrong, {counts[Level.WARNING]} to look at, {counts[Level.OK]} well")
    return counts[Level.WRONG]


def _shown(finding: Finding, *, as_json: bool) -> str:
    return json.dumps(dataclasses.asdict(finding)) if as_json else finding.line()
