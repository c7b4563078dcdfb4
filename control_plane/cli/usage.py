"""`longshore host metrics`, `longshore instance stats`: how busy they were within the last minutes."""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

Host = Annotated[str, typer.Argument(help="id or idc/name")]
Instance = Annotated[str, typer.Argument(help="its id")]


def add_to_hosts(hosts: typer.Typer) -> None:
    hosts.command("metrics")(host_metrics)


def add_to_instances(instances: typer.Typer) -> None:
    instances.command("stats")(instance_stats)


def host_metrics(context: typer.Context, name: Host) -> None:
    """Processors, memory, disk and network of a host, as it said within the last minutes."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/hosts/{path_of(name)}/metrics")["data"])


def instance_stats(context: typer.Context, instance_id: Instance) -> None:
    """What an instance used, as its host said within the last minutes."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/instances/{path_of(instance_id)}/stats")["data"])
