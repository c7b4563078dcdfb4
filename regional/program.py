"""`longshore-regional`: the service of one IDC. The options stand with `run` or without it; beside it `check`, which
plays a machine that boots, and `publish`, which puts a file in place at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from common.errors import Failure
from common.logging_setup import configure_logging
from regional import daemon
from regional.check.command import app as check_app
from regional.publication import publish as publish_file
from regional.settings import RegionalSettings, load_settings

log = structlog.get_logger()

_FAILED, _USAGE = 1, 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


# Kept here so that the command below stays readable.
_Mirrors = Annotated[str | None, typer.Option(help="Repositories read through: debian/12=http://host/debian[,...].")]
_Networks = Annotated[str | None, typer.Option(help="Networks that may use HTTP, 10.0.0.0/8[,...]. [everybody]")]
_RegistryPort = Annotated[
    int | None, typer.Option(help="HTTPS port of the registry /v2, for engines of the IDC; 0: a free one. [0]")
]
_Data = Annotated[
    Path | None, typer.Option(help="Directory for identity, cache and journal. [/var/lib/longshore-regional]")
]


@app.command()
def run(
    context: typer.Context,
    idc: Annotated[str | None, typer.Option(help="Name of the data centre (required).")] = None,
    server: Annotated[str | None, typer.Option(help="URL of the control plane; none: files only.")] = None,
    data: _Data = None,
    server_ip: Annotated[
        str | None, typer.Option(help="Address to listen on, and that agents and machines dial. [127.0.0.1]")
    ] = None,
    api_port: Annotated[int | None, typer.Option(help="HTTP port of files and tracker; 0: a free one. [8081]")] = None,
    content_port: Annotated[int | None, typer.Option(help="HTTPS port of contents; 0: a free one. [0]")] = None,
    registry_port: _RegistryPort = None,
    registry_logins: Annotated[
        str | None, typer.Option(help="Where clients of /v2 get tokens: centre, or edge (through here). [centre]")
    ] = None,
    names: Annotated[str | None, typer.Option(help="DNS names for the certificate, name[,name...].")] = None,
    peer_port: Annotated[int | None, typer.Option(help="BitTorrent port; 0: a free one. [0]")] = None,
    static_root: Annotated[
        Path | None, typer.Option(help="Directory of /static/ and /repos/, created if need be. [/tftpboot]")
    ] = None,
    mirrors: _Mirrors = None,
    allow_clients: _Networks = None,
    tls_cert_file: Annotated[Path | None, typer.Option(help="Certificate for HTTPS beside HTTP. [no HTTPS]")] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="Its key. [in the same file]")] = None,
    tls_port: Annotated[int | None, typer.Option(help="HTTPS port of the same files; 0: a free one. [8443]")] = None,
    join_token: Annotated[str | None, typer.Option(help="One-time token for the first start.")] = None,
    join_token_file: Annotated[Path | None, typer.Option(help="File with the join token.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of this regional. [regional-<idc>]")] = None,
    etcd: Annotated[str | None, typer.Option(help="etcd endpoints, host:port[,host:port...].")] = None,
    enable_dhcp: Annotated[bool, typer.Option("--enable-dhcp", help="Answer DHCP and PXE requests.")] = False,
    dhcp_config: Annotated[
        Path | None, typer.Option(help="TOML file of networks; none: boot files only (proxyDHCP) on the interface.")
    ] = None,
    enable_tftp: Annotated[bool, typer.Option("--enable-tftp", help="Static root by TFTP, read only.")] = False,
    interface: Annotated[
        str | None, typer.Option(help="Network interface of proxyDHCP, where no --dhcp-config says more. [eth1]")
    ] = None,
    bmc_network: Annotated[
        str | None, typer.Option(help="Networks of machines' BMCs, by which their power is switched. [none]")
    ] = None,
    cache_limit_bytes: Annotated[
        int | None, typer.Option(help="Most bytes of contents to hold; 0: what the disk takes. [0]")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [info]")] = None,
    log_style: Annotated[str | None, typer.Option(help="console or json. [console]")] = None,
) -> None:
    """Serve one data centre: content cache, swarm tracker and seed, boot files.

    Further commands: `longshore-regional check` and `longshore-regional publish`; each has its own --help.

    Every option can be set in the environment: LONGSHORE_REGIONAL_<OPTION>.
    """
    given = dict(context.params)
    given["enable_tftp"] = enable_tftp or None
    given["enable_dhcp"] = enable_dhcp or None
    try:
        settings = load_settings(given)
    except Failure as failure:
        _fail(str(failure))
    _serve(settings)


def _serve(settings: RegionalSettings) -> None:
    configure_logging("regional", level=settings.log_level, style=settings.log_style)
    structlog.contextvars.bind_contextvars(idc=settings.idc)
    try:
        asyncio.run(daemon.run(settings))
    except Failure as failure:
        log.error("regional ended", error=str(failure), code=failure.code)
        raise typer.Exit(_FAILED) from None


def _fail(message: str) -> NoReturn:
    typer.echo(f"longshore-regional: {message}", err=True)
    raise typer.Exit(_USAGE)


publish_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@publish_app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="What to copy.")],
    path: Annotated[str, typer.Argument(help="Where to: static/... or repos/... below the static root.")],
    static_root: Annotated[
        Path, typer.Option(envvar="LONGSHORE_REGIONAL_STATIC_ROOT", help="That of the regional.")
    ] = Path("/tftpboot"),
) -> None:
    """Put a file where machines find it, all at once: nobody is ever served a part of it."""
    try:
        typer.echo(publish_file(file, static_root, path))
    except Failure as failure:
        _fail(str(failure))


_COMMANDS = {"run": app, "check": check_app, "publish": publish_app}


def main() -> None:
    arguments = sys.argv[1:]
    command = arguments[0] if arguments[:1] and arguments[0] in _COMMANDS else ""
    chosen = _COMMANDS.get(command, app)
    chosen(args=arguments[1:] if command else arguments, prog_name=f"longshore-regional {command}".strip())
