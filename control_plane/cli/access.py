"""`longshore access ...`: who may pull, push and delete in a repository beside the members of its tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.client import path_of
from control_plane.cli.context import session_of
from control_plane.cli.robots import Expires, moment

access = typer.Typer(help="Who may use a repository beside the members of its tenant.", no_args_is_help=True)

Repository = Annotated[str, typer.Argument(help="tenant/repository")]
Kind = Annotated[str, typer.Argument(help="user, group or tenant")]
Name = Annotated[str, typer.Argument(help="Its name; a group is one of the repository's tenant.")]


@access.command("show")
def access_show(context: typer.Context, repository: Repository) -> None:
    """Whether it is public, and what you may."""
    session = session_of(context)
    session.output.details(session.client.get(f"{_path(repository)}/access")["data"])


@access.command("public")
def access_public(context: typer.Context, repository: Repository) -> None:
    """Let everybody pull, also without login."""
    _set(context, repository, "public")


@access.command("private")
def access_private(context: typer.Context, repository: Repository) -> None:
    """Let only those pull whom roles and grants let in."""
    _set(context, repository, "private")


@access.command("list")
def access_list(context: typer.Context, repository: Repository) -> None:
    """What is granted beside roles."""
    session = session_of(context)
    rows = session.client.every(f"{_path(repository)}/grants")
    session.output.rows(
        rows,
        {"kind": "KIND", "name": "NAME", "level": "LEVEL", "expires_at": "EXPIRES", "granted_by": "GRANTED BY"},
    )


@access.command("grant")
def access_grant(
    context: typer.Context,
    repository: Repository,
    kind: Kind,
    name: Name,
    level: Annotated[str, typer.Argument(help="read, write or admin")],
    expires: Expires = None,
) -> None:
    """Grant read, write or admin, in place of what was granted before."""
    session = session_of(context)
    body = {"level": level, "expires_at": moment(expires)}
    made = session.client.put(f"{_path(repository)}/grants/{path_of(kind)}/{path_of(name)}", body)["data"]
    session.output.item(made, f"The {kind} {name} has {level} on {repository}.")


@access.command("revoke")
def access_revoke(context: typer.Context, repository: Repository, kind: Kind, name: Name) -> None:
    """Take a grant away; counts at once."""
    session = session_of(context)
    session.client.delete(f"{_path(repository)}/grants/{path_of(kind)}/{path_of(name)}")
    session.output.item(
        {"repository": repository, "kind": kind, "name": name, "revoked": True},
        f"The {kind} {name} has no grant on {repository} any more.",
    )


def _set(context: typer.Context, repository: str, visibility: str) -> None:
    session = session_of(context)
    changed = session.client.call("PATCH", f"{_path(repository)}/access", body={"visibility": visibility})["data"]
    session.output.item(changed, f"{repository} is {visibility}.")


def _path(repository: str) -> str:
    return f"/api/v1/repositories/{path_of(repository)}/-"
