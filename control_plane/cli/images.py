"""`longshore image push|pull|copy|list|rm`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from common.digest import Digest
from common.reference import Reference, check_repository_name
from control_plane.cli.context import Session, session_of
from control_plane.cli.copying import Copying
from control_plane.cli.docker_engine import save_image
from control_plane.cli.failures import failure_of
from control_plane.cli.image_source import open_image
from control_plane.cli.pull import pull
from control_plane.cli.push import push

image = typer.Typer(help="Images: what a tenant pushed.", no_args_is_help=True)


@image.command("push")
def image_push(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="OCI layout, docker save archive, or an image of the local Docker.")],
    reference: Annotated[str, typer.Argument(help="tenant/repository:tag")],
) -> None:
    """Push an image; what the registry holds already is not sent again."""
    session = session_of(context)
    target = Reference.parse(reference)
    with tempfile.TemporaryDirectory(prefix="longshore-push-") as folder:
        scratch = Path(folder)
        path = Path(source)
        if not path.exists():
            path = scratch / "docker-save.tar"
            save_image(source, path)
        opened = open_image(path, scratch)
        sizes = {blob.digest: blob.size for blob in opened.all_blobs()}
        with session.output.progress() as progress:
            digest = push(session.client, target, opened, bars(progress, sizes))
    session.output.item(
        {"reference": str(target), "digest": str(digest), "size_bytes": sum(sizes.values()), "blobs": len(sizes)},
        f"{target} pushed: {digest}",
    )


@image.command("pull")
def image_pull(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="tenant/repository[:tag][@digest]")],
    directory: Annotated[Path, typer.Argument(help="Becomes an OCI image layout.")],
) -> None:
    """Pull an image into an OCI layout; run it again to go on after a broken connection."""
    session = session_of(context)
    source = Reference.parse(reference)
    with session.output.progress() as progress:
        digest = pull(session.client, source, directory, bars(progress, {}))
    session.output.item({"reference": str(source), "digest": str(digest)}, f"{source} pulled to {directory}: {digest}")


@image.command("copy")
def image_copy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="tenant/repository[:tag][@digest]")],
    target: Annotated[str, typer.Argument(help="tenant/repository:tag; the same repository: another tag")],
    attached: Annotated[bool, typer.Option(help="With signatures, SBOMs and whatever else refers to it.")] = True,
) -> None:
    """Copy an image within the registry, without moving its layers."""
    session = session_of(context)
    origin, destination = Reference.parse(source), Reference.parse(target)
    copying = Copying(session.client, origin.repository, destination.repository, attached)
    digest = copying.copy(origin, destination.tag or "")
    row = {"source": str(origin), "target": str(destination), "digest": str(digest)}
    session.output.item({**row, "manifests": len(copying.manifests)}, f"{origin} copied to {destination}: {digest}")


@image.command("list")
def image_list(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    name: Annotated[str | None, typer.Option(help="Only names that contain this.")] = None,
    visibility: Annotated[str | None, typer.Option(help="Only public or only private ones.")] = None,
    sort: Annotated[str | None, typer.Option(help="name or created_at, with :asc or :desc.")] = None,
) -> None:
    """Repositories that you may pull from, with their tags."""
    session = session_of(context)
    rows = session.client.every("/api/v1/images", tenant=tenant, name=name, visibility=visibility, sort=sort)
    if session.output.as_json:
        session.output.rows(rows, {})
        return
    lines = [{"repository": row["repository"], **tag} for row in rows for tag in row["tags"]]
    session.output.rows(
        lines,
        {"repository": "REPOSITORY", "name": "TAG", "digest": "DIGEST", "size_bytes": "SIZE", "updated_at": "UPDATED"},
    )


@image.command("rm")
def image_rm(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="tenant/repository:tag")],
    every: Annotated[bool, typer.Option("--all", help="All images of the repository, and what it grants.")] = False,
) -> None:
    """Remove a tag, or a manifest when a digest is given; all of a repository with --all."""
    session = session_of(context)
    if every:
        _remove_all(session, check_repository_name(reference))
        return
    target = Reference.parse(reference)
    name = str(target.digest or target.tag)
    answer = session.client.raw("DELETE", f"/v2/{target.repository}/manifests/{name}")
    if answer.status != 202:
        raise failure_of(answer.status, answer.data, f"removing {target}")
    session.output.item({"reference": str(target), "removed": True}, f"{target} removed.")


def _remove_all(session: Session, repository: str) -> None:
    removed, done = 0, False
    while not done:
        answer = session.client.call("DELETE", f"/api/v1/repositories/{repository}/-/images")["data"]
        removed, done = removed + answer["removed"], answer["finished"] or not answer["removed"]
    row = {"repository": repository, "removed": removed, "kept": answer["kept"]}
    kept = "".join(f"\n{each['digest']} stays: {each['reason']}" for each in answer["kept"])
    session.output.item(row, f"{repository}: {removed} images removed.{kept}")


def bars(progress: Progress, sizes: dict[Digest, int]) -> Callable[[Digest, int], None]:
    tasks = {digest: progress.add_task(digest.hex[:12], total=size, start=False) for digest, size in sizes.items()}

    def advance(digest: Digest, held: int) -> None:
        if digest not in tasks:
            tasks[digest] = progress.add_task(digest.hex[:12], total=None, start=False)
        if held == 0:
            progress.start_task(tasks[digest])
        progress.update(tasks[digest], completed=held)

    return advance
