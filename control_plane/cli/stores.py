"""`longshore store list` and `longshore scrub ...`, for the platform's admin."""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.context import session_of
from control_plane.cli.output import size_text

store = typer.Typer(help="Where the bytes of images are.", no_args_is_help=True)
scrub = typer.Typer(help="Reading every copy again and again, and healing what is damaged.", no_args_is_help=True)


@store.command("list")
def list_stores(context: typer.Context) -> None:
    """The stores, their room, and the copies in them."""
    session = session_of(context)
    rows = session.client.get("/api/v1/stores")["data"]
    columns = {
        "name": "NAME",
        "tier": "TIER",
        "location": "LOCATION",
        "reach": "STATE",
        "free": "FREE",
        "copies": "COPIES",
        "stored": "STORED",
        "damaged_copies": "DAMAGED",
        "missing_copies": "MISSING",
    }
    shown = [
        {
            **row,
            "free": "" if row["free_bytes"] is None else size_text(row["free_bytes"]),
            "copies": row["present"]["copies"],
            "stored": size_text(row["present"]["bytes"]),
            "damaged_copies": row["damaged"]["copies"],
            "missing_copies": row["missing"]["copies"],
        }
        for row in rows
    ]
    session.output.rows(rows if session.output.as_json else shown, columns)


@scrub.command("status")
def status(context: typer.Context) -> None:
    """How far the copies have been read, and what was found."""
    session = session_of(context)
    found = session.client.get("/api/v1/stores/scrub")["data"]
    few = found["possible_copies"] < max(found["wanted_copies"], found["wanted_public_copies"])
    lines = [
        f"{found['copies']} copies, each read every {found['every_days']:g} days; {found['due']} wait to be read.",
        f"{found['damaged']} damaged, {found['missing']} missing, {found['lost']} blobs lost, "
        f"{found['short']} blobs with fewer copies than wanted ({found['wanted_copies']}, "
        f"{found['wanted_public_copies']} of public ones).",
        *(["There are fewer stores than copies wanted."] if few else []),
    ]
    session.output.item(found, "\n".join(lines))


@scrub.command("run")
def run(
    context: typer.Context,
    digest: Annotated[str | None, typer.Option(help="Copies of this blob.")] = None,
    repository: Annotated[str | None, typer.Option(help="Copies of all blobs of this repository.")] = None,
) -> None:
    """Read copies now: of one blob, of a repository, or whatever is due; returns at once."""
    session = session_of(context)
    body = {name: value for name, value in {"digest": digest, "repository": repository}.items() if value is not None}
    started = session.client.post("/api/v1/stores/scrub", body)["data"]
    session.output.item(started, f"Started as job {started['job']}.")


@scrub.command("lost")
def lost(context: typer.Context) -> None:
    """Blobs that repositories need and of which nobody has the bytes. Pushing one again heals it."""
    session = session_of(context)
    rows = session.client.every("/api/v1/stores/lost")
    columns = {
        "digest": "DIGEST",
        "size_bytes": "SIZE",
        "found_at": "FOUND",
        "reason": "REASON",
        "repositories": "NEEDED BY",
    }
    shown = (
        rows if session.output.as_json else [{**row, "repositories": ", ".join(row["repositories"])} for row in rows]
    )
    session.output.rows(shown, columns)
