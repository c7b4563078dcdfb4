"""`longshore swarm ...`: where bytes came from, what went over the WAN, and who sent false ones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from control_plane.cli.context import session_of
from control_plane.cli.output import size_text

swarm = typer.Typer(help="How contents reached the hosts.", no_args_is_help=True)

Idc = Annotated[str | None, typer.Option("--idc", help="Only this data centre.")]
Digest = Annotated[str | None, typer.Option(help="Only this content: sha256:...")]
_SOURCES = ("centre", "regional", "peers", "reused")


@swarm.command("provenance")
def swarm_provenance(context: typer.Context, idc_name: Idc = None, digest: Digest = None) -> None:
    """Where contents came from, summed over the hosts of each data centre."""
    session = session_of(context)
    rows = session.client.every("/api/v1/swarm/provenance", idc=idc_name, digest=digest)
    columns = {
        "idc": "IDC",
        "digest": "DIGEST",
        "tenant": "TENANT",
        "hosts_verified": "HOSTS",
        "size_bytes": "SIZE",
        "centre": "CENTRE",
        "regional": "REGIONAL",
        "peers": "PEERS",
        "reused": "REUSED",
        "wasted_bytes": "WASTED",
        "regional_from_centre_bytes": "REGIONAL FROM CENTRE",
    }
    session.output.rows(rows if session.output.as_json else [_shown(row) for row in rows], columns)


@swarm.command("contents")
def swarm_contents(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Only this host: id or idc/name.")] = None,
    idc_name: Idc = None,
    digest: Digest = None,
) -> None:
    """What each host holds, and where it had it from, in bytes."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/swarm/contents", host=host, idc=idc_name, digest=digest),
        {
            "idc": "IDC",
            "host": "HOST",
            "digest": "DIGEST",
            "tenant": "TENANT",
            "size_bytes": "SIZE",
            "held_bytes": "HELD",
            "verified": "VERIFIED",
            "from_centre_bytes": "CENTRE",
            "from_regional_bytes": "REGIONAL",
            "from_peers_bytes": "PEERS",
            "reused_bytes": "REUSED",
        },
    )


@swarm.command("egress")
def swarm_egress(context: typer.Context) -> None:
    """Bytes that left the centre, by data centre and content."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/swarm/egress"),
        {"idc": "IDC", "digest": "DIGEST", "size_bytes": "SIZE", "bytes": "BYTES"},
    )


@swarm.command("offences")
def swarm_offences(
    context: typer.Context,
    idc_name: Idc = None,
    accused: Annotated[str | None, typer.Option(help="host/<id>, regional/<id> or address:port.")] = None,
    digest: Digest = None,
) -> None:
    """Who sent false bytes in the last 30 days, as hosts say."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/swarm/offences", idc=idc_name, accused=accused, digest=digest),
        {
            "occurred_at": "WHEN",
            "kind": "WHAT",
            "source": "FROM",
            "accused_name": "WHO",
            "idc": "IDC",
            "accuser": "SAYS",
            "tenant": "TENANT",
            "digest": "DIGEST",
        },
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """For people: sizes with their units, each source in a column."""
    found = {one["source"]: size_text(one["bytes"]) for one in row["sources"]}
    sizes = {name: size_text(row[name]) for name in ("size_bytes", "wasted_bytes", "regional_from_centre_bytes")}
    return {**row, **sizes, **{name: found.get(name, "") for name in _SOURCES}}
