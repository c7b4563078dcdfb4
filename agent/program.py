"""`longshore-agent`: the daemon of one host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import structlog
import typer

from agent import daemon
from agent.settings import data_directory, load_settings
from agent.updates import supervising
from common.errors import Failure
from common.logging_setup import configure_logging

log = structlog.get_logger()

_FAILED, _USAGE = 1, 2
_Level = Literal["debug", "info", "warning", "error"]
_Style = Literal["console", "json"]

# No markup: brackets in our help are defaults, not tags.
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def agent() -> None:
    """The daemon on each host: holds contents, runs containers, reports."""


@app.command()
def run(
    server: Annotated[str | None, typer.Option(help="URL of the control plane (required).")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Directory for identity, contents and journal. [/var/lib/longshore-agent]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of this host. [its host name]")] = None,
    join_token: Annotated[str | None, typer.Option(help="One-time token for the first start.")] = None,
    join_token_file: Annotated[Path | None, typer.Option(help="File with the join token.")] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, docker, lxd, docker+lxd, memory, none. [auto]")] = None,
    docker_host: Annotated[
        str | None, typer.Option(help="URL of the Docker engine. [unix:///var/run/docker.sock]")
    ] = None,
    docker_network: Annotated[
        str | None, typer.Option(help="Docker's network mode for containers. [the default bridge]")
    ] = None,
    lxd_socket: Annotated[str | None, typer.Option(help="LXD's unix socket. [of its snap or package]")] = None,
    listen_host: Annotated[str | None, typer.Option(help="Address for BitTorrent peers. [127.0.0.1]")] = None,
    peer_port: Annotated[int | None, typer.Option(help="BitTorrent port; 0: a free one. [0]")] = None,
    mirror_port: Annotated[
        int | None, typer.Option(help="Port of the mirror on loopback, for the engine; 0: a free one. [0]")
    ] = None,
    etcd: Annotated[str | None, typer.Option(help="etcd endpoints, host:port[,host:port...].")] = None,
    cache_limit_bytes: Annotated[
        int | None, typer.Option(help="Most bytes of contents to hold; 0: what the disk takes. [0]")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [info]")] = None,
    log_style: Annotated[str | None, typer.Option(help="console or json. [console]")] = None,
) -> None:
    """Run until SIGTERM; containers go on running.

    Every option can be set in the environment: LONGSHORE_AGENT_<OPTION>.
    """
    options = {
        "server": server,
        "data": data,
        "name": name,
        "join_token": join_token,
        "join_token_file": join_token_file,
        "runtime": runtime,
        "docker_host": docker_host,
        "docker_network": docker_network,
        "lxd_socket": lxd_socket,
        "listen_host": listen_host,
        "peer_port": peer_port,
        "mirror_port": mirror_port,
        "etcd": etcd,
        "cache_limit_bytes": cache_limit_bytes,
        "log_level": log_level,
        "log_style": log_style,
    }
    try:
        settings = load_settings(options)
    except Failure as failure:
        _fail(str(failure))
    configure_logging("agent", level=settings.log_level, style=settings.log_style)
    try:
        asyncio.run(daemon.run(settings))
    except Failure as failure:
        log.error("agent ended", error=str(failure), code=failure.code)
        raise typer.Exit(_FAILED) from None


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def supervise(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="As of `run`. [/var/lib/longshore-agent]")] = None,
    log_level: Annotated[_Level, typer.Option(help="Of both processes.")] = "info",
    log_style: Annotated[_Style, typer.Option(help="Of both processes.")] = "console",
) -> None:
    """Run the agent as a child, and its newer versions after it: tried first, and replaced by the former if they fail.

    Takes the options of `run`. Runs until SIGTERM; containers go on running.
    """
    configure_logging("agent-supervisor", level=log_level, style=log_style)
    directory = data_directory(data).absolute()
    arguments = ["run", f"--data={directory}", f"--log-level={log_level}", f"--log-style={log_style}", *context.args]
    try:
        asyncio.run(supervising.run(directory, arguments))
    except (Failure, OSError) as failure:
        log.error("supervisor ended", error=str(failure))
        raise typer.Exit(_FAILED) from None


def _fail(message: str) -> NoReturn:
    typer.echo(f"longshore-agent: {message}", err=True)
    raise typer.Exit(_USAGE)


def main() -> None:
    app(prog_name="longshore-agent")
