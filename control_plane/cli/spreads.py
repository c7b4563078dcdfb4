"""`longshore swarm spreads|forecast`: how fast contents spread, and how fast the links let them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from control_plane.cli.context import session_of
from control_plane.cli.quota import size_of

_UNKNOWN = "unknown"


def add_to(group: typer.Typer) -> None:
    group.command("spreads")(swarm_spreads)
    group.command("forecast")(swarm_forecast)


def swarm_spreads(
    context: typer.Context,
    idc_name: Annotated[str | None, typer.Option("--idc", help="Only this data centre.")] = None,
    digest: Annotated[str | None, typer.Option(help="Only this content: sha256:...")] = None,
) -> None:
    """Contents on their way to the hosts of a data centre: the time it took, the least that the links allow, and which
    link sets that.
    """
    session = session_of(context)
    rows = session.client.every("/api/v1/swarm/spreads", idc=idc_name, digest=digest)
    session.output.rows(
        rows if session.output.as_json else [_shown(row) for row in rows],
        {
            "idc": "IDC",
            "digest": "DIGEST",
            "size_bytes": "SIZE",
            "hosts": "HOSTS",
            "hosts_done": "DONE",
            "seconds": "SECONDS",
            "minimum_seconds": "AT BEST",
            "efficiency": "EFFICIENCY",
            "binding": "SET BY",
        },
    )


def swarm_forecast(
    context: typer.Context,
    size: Annotated[str, typer.Argument(help="like 10GB or 700MiB")],
    idc: Annotated[list[str] | None, typer.Option("--idc", help="A data centre; may be repeated.")] = None,
    hosts: Annotated[int | None, typer.Option(help="In each data centre; else all that there are.")] = None,
) -> None:
    """The least time in which so many bytes can reach these hosts, and the link that sets it."""
    session = session_of(context)
    asked: dict[str, Any] = {"size_bytes": size_of(size), "idc": idc, "hosts": hosts}
    found = session.client.get("/api/v1/swarm/forecast", **{key: one for key, one in asked.items() if one is not None})
    data = found["data"]
    seconds = data["minimum_seconds"]
    text = f"{size} to {data['hosts']} hosts: {_time(seconds)}"
    session.output.item(data, text + (f"; bottleneck {data['binding']}" if seconds is not None else ""))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    efficiency = row["efficiency"]
    return {
        **row,
        "seconds": "" if row["seconds"] is None else f"{row['seconds']:.1f}",
        "minimum_seconds": "" if row["minimum_seconds"] is None else f"{row['minimum_seconds']:.1f}",
        "efficiency": "" if efficiency is None else f"{efficiency:.2f}",
    }


def _time(seconds: float | None) -> str:
    if seconds is None:
        return f"{_UNKNOWN}, because nothing is known of the links; give limits, or let something spread"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{seconds:.1f} s"
