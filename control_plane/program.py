"""`longshore-server`: serve, worker, migrate, create-admin, collect-garbage."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from common.clock import SystemClock
from common.errors import Failure, NotFound
from common.logging_setup import configure_logging
from control_plane.app import build
from control_plane.backing import open_backing
from control_plane.migrations.apart import upgraded
from control_plane.migrations.revision import current
from control_plane.process import serve, work
from control_plane.registry.collection.console import collect_garbage
from control_plane.settings import Settings, load_settings

app = typer.Typer(
    name="longshore-server",
    help="The central control plane.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Config = Annotated[Path | None, typer.Option("--config", help="TOML file; see docs/operations/configuration.md.")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory of everything that is embedded. [longshore-data]")]


@app.command("serve")
def serve_command(
    config: Config = None,
    data: Data = None,
    http: Annotated[str | None, typer.Option(help="host:port of API and registry. [127.0.0.1:8080]")] = None,
    enrolment: Annotated[str | None, typer.Option(help="host:port of gRPC for newcomers. [127.0.0.1:8443]")] = None,
    attach: Annotated[str | None, typer.Option(help="host:port of gRPC with mutual TLS. [127.0.0.1:8444]")] = None,
) -> None:
    """Run the control plane. The first start prints the admin's password once."""
    listeners = {"http": http, "enrolment": enrolment, "attach": attach}
    settings = _settings(config, data, {"listeners": {k: v for k, v in listeners.items() if v is not None}})
    serve(settings)


@app.command("worker")
def worker_command(config: Config = None, data: Data = None) -> None:
    """Run background jobs only, beside servers that share the database and Redis."""
    work(_settings(config, data, {}))


@app.command("migrate")
def migrate_command(config: Config = None, data: Data = None) -> None:
    """Bring the database to the version of this program."""
    settings = _settings(config, data, {})
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    typer.echo(f"database is at {upgraded(settings.database_url)}")


@app.command("collect-garbage")
def collect_garbage_command(
    config: Config = None,
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and why; change nothing.")] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Compare the whole store with the records, too.")] = False,
) -> None:
    """Collect what nobody needs and whose grace is over, now. The server does so by itself; both may run at once."""
    settings = _settings(config, data, {})
    for line in asyncio.run(_collect(settings, dry_run=dry_run, sweep=sweep)):
        typer.echo(line)


@app.command("create-admin")
def create_admin_command(config: Config = None, data: Data = None) -> None:
    """Give the platform admin a new password and print it; for when the first one was lost."""
    settings = _settings(config, data, {})
    typer.echo(f"admin password: {asyncio.run(_reset_admin(settings))}")


async def _reset_admin(settings: Settings) -> str:
    await _check_database(settings)
    clock = SystemClock()
    backing = open_backing(settings, clock)
    try:
        plane = await build(settings, clock, backing)
        return (
            await plane.tenancy.accounts.ensure_platform_admin() or await plane.tenancy.accounts.reset_platform_admin()
        )
    finally:
        await backing.close()


async def _collect(settings: Settings, *, dry_run: bool, sweep: bool) -> Sequence[str]:
    await _check_database(settings)
    clock = SystemClock()
    backing = open_backing(settings, clock)
    try:
        plane = await build(settings, clock, backing)
        return await collect_garbage(plane.collection.service, dry_run=dry_run, sweep=sweep)
    finally:
        await backing.close()


async def _check_database(settings: Settings) -> None:
    # In a wrong directory a new database would be made, and its password would open nothing.
    embedded = settings.database.url is None
    if (embedded and not (settings.data / "longshore.db").exists()) or await current(settings.database_url) is None:
        where = f"in {settings.data.absolute()}" if embedded else "at database.url"
        raise NotFound(
            f"there is no Longshore database {where}",
            action="check --data and the settings; `longshore-server migrate` or a first start makes one",
        )


def _settings(config: Path | None, data: Path | None, options: dict[str, Any]) -> Settings:
    settings = load_settings(config, options | ({"data": data} if data is not None else {}))
    configure_logging("control-plane", level=settings.logging.level, style=settings.logging.style)
    return settings


def main() -> None:
    try:
        app(prog_name="longshore-server")
    except Failure as failure:
        print(f"longshore-server: {failure.detail}", file=sys.stderr)  # noqa: T201
        if failure.action:
            print(f"  {failure.action}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
