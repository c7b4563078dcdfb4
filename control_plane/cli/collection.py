"""`longshore image trash|undelete|purge` for what was deleted, `longshore collection ...` for the platform's admin."""

from __future__ import annotations

from typing import Annotated

import typer

from common.reference import Reference
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of
from control_plane.cli.output import size_text

collection = typer.Typer(help="Garbage collection: what goes, what went, what is missing.", no_args_is_help=True)

Repository = Annotated[str, typer.Argument(help="tenant/repository")]


def image_trash(context: typer.Context, repository: Repository) -> None:
    """What was deleted from a repository and can be undeleted."""
    session = session_of(context)
    rows = session.client.every(_trash(repository))
    columns = {
        "digest": "DIGEST",
        "tags": "TAGS",
        "size_bytes": "SIZE",
        "deleted_at": "DELETED",
        "deleted_by": "BY",
        "purge_after": "KEPT UNTIL",
    }
    shown = rows if session.output.as_json else [{**row, "tags": ", ".join(row["tags"])} for row in rows]
    session.output.rows(shown, columns)


def image_undelete(
    context: typer.Context, reference: Annotated[str, typer.Argument(help="tenant/repository:tag or ...@digest")]
) -> None:
    """Bring back a deleted image with its tags; a tag that means something else by now is left alone."""
    session = session_of(context)
    target = Reference.parse(reference)
    name = str(target.digest or target.tag)
    restored = session.client.post(f"{_trash(target.repository)}/undelete", {"reference": name})["data"]
    back = ", ".join([*restored["tags"], *restored["manifests"]]) or "nothing"
    skipped = ", ".join(restored["skipped"])
    left = f" {skipped} means something else by now and was left alone." if skipped else ""
    session.output.item(restored, f"{target.repository}: {back} restored.{left}")


def image_purge(
    context: typer.Context,
    repository: Repository,
    digest: Annotated[str | None, typer.Option(help="Only this deleted manifest.")] = None,
) -> None:
    """Give up what is in a repository's trash before its time. There is no way back."""
    session = session_of(context)
    purged = session.client.delete(_trash(repository), digest=digest)["data"]
    session.output.item(purged, f"{repository}: {purged['purged']} given up; its space is free within hours.")


@collection.command("preview")
def preview(
    context: typer.Context,
    within_hours: Annotated[float, typer.Option(min=0, help="As of so much later.")] = 0,
    limit: Annotated[int, typer.Option(min=0, max=1000, help="How many candidates are named.")] = 100,
) -> None:
    """What a run would remove, and why. Nothing is changed."""
    session = session_of(context)
    found = session.client.get("/api/v1/registry/collection/preview", within_hours=within_hours, limit=limit)["data"]
    if session.output.as_json:
        session.output.item(found, "")
        return
    columns = {
        "verdict": "WOULD",
        "repository": "REPOSITORY",
        "digest": "DIGEST",
        "size_bytes": "SIZE",
        "reason": "REASON",
        "due_at": "DUE",
    }
    session.output.rows(found["candidates"], columns)
    freed, stored = size_text(found["links_bytes"]), size_text(found["blobs_bytes"])
    session.output.remark(
        f"{found['purges']} deleted manifests given up, {found['links']} links ended ({freed}), "
        f"{found['condemned']} blobs condemned, {found['blobs']} deleted ({stored}); {found['kept']} kept."
    )


@collection.command("run")
def run(
    context: typer.Context,
    sweep: Annotated[bool, typer.Option(help="Compare the whole store with the records.")] = False,
) -> None:
    """Begin now instead of at the next tick; returns at once."""
    session = session_of(context)
    kind = "sweep" if sweep else "review"
    started = session.client.post("/api/v1/registry/collection/runs", {"kind": kind})["data"]
    session.output.item(started, f"Started as job {started['job']}.")


@collection.command("runs")
def runs(context: typer.Context) -> None:
    """What was done, the newest first."""
    session = session_of(context)
    columns = {
        "kind": "KIND",
        "started_at": "STARTED",
        "finished_at": "FINISHED",
        "examined": "EXAMINED",
        "purged": "PURGED",
        "unlinked": "UNLINKED",
        "deleted": "DELETED",
        "deleted_bytes": "FREED BYTES",
        "failures": "FAILURES",
    }
    session.output.rows(session.client.get("/api/v1/registry/collection/runs", page_size=50)["data"], columns)


@collection.command("removals")
def removals(
    context: typer.Context, digest: Annotated[str | None, typer.Option(help="Only of this blob.")] = None
) -> None:
    """Which blobs were removed, when and why, the newest first."""
    session = session_of(context)
    columns = {"digest": "DIGEST", "size_bytes": "SIZE", "reason": "REASON", "removed_at": "REMOVED", "run": "RUN"}
    rows = session.client.get("/api/v1/registry/collection/removals", page_size=200, digest=digest)["data"]
    session.output.rows(rows, columns)


@collection.command("missing")
def missing(context: typer.Context) -> None:
    """Blobs that repositories hold and whose bytes the last sweep did not find."""
    session = session_of(context)
    columns = {"digest": "DIGEST", "size_bytes": "SIZE", "repositories": "REPOSITORIES", "found_at": "FOUND"}
    session.output.rows(session.client.every("/api/v1/registry/collection/missing"), columns)


def add_to(image: typer.Typer) -> None:
    """The commands that belong to `longshore image`."""
    image.command("trash")(image_trash)
    image.command("undelete")(image_undelete)
    image.command("purge")(image_purge)


def _trash(repository: str) -> str:
    return f"/api/v1/repositories/{path_of(repository)}/-/trash"
