"""`longshore mirror ...`: repositories that show what another registry has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

mirror = typer.Typer(help="Repositories that show what another registry has.", no_args_is_help=True)

Username = Annotated[str | None, typer.Option("--username", "-u", help="At the upstream; with --password-stdin.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password or token from stdin.")]
Ttl = Annotated[int | None, typer.Option("--tag-ttl", help="Seconds that a tag is served without asking upstream.")]


@mirror.command("create")
def mirror_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="tenant/name; every repository beneath belongs to it")],
    upstream: Annotated[str, typer.Argument(help="host[:port][/path], like docker.io/library or quay.io")],
    username: Username = None,
    password_stdin: PasswordStdin = False,
    tag_ttl: Ttl = None,
    ca_file: Annotated[Path | None, typer.Option(help="Certificate authority of the upstream, PEM.")] = None,
    auth_host: Annotated[
        list[str] | None, typer.Option(help="Host of its token service, if it is another one; may be repeated.")
    ] = None,
) -> None:
    """Mirror an upstream: what is pulled beneath NAME is fetched from there once, and kept."""
    session = session_of(context)
    body: dict[str, Any] = {"name": name, "upstream": upstream, "auth_hosts": auth_host or []}
    body |= _changes(username, password_stdin, tag_ttl)
    if ca_file is not None:
        body["ca_pem"] = ca_file.read_text()
    made = session.client.post("/api/v1/mirrors", body)["data"]
    session.output.item(made, f"{made['name']} mirrors {made['upstream']}.")


@mirror.command("list")
def mirror_list(
    context: typer.Context, tenant: Annotated[str | None, typer.Option(help="Only its mirrors.")] = None
) -> None:
    """Mirrors, by name."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/mirrors", tenant=tenant),
        {"name": "NAME", "upstream": "UPSTREAM", "username": "USER", "tag_ttl_seconds": "TAG TTL"},
    )


@mirror.command("show")
def mirror_show(context: typer.Context, name: str) -> None:
    """One mirror, without its password."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/mirrors/{path_of(name)}")["data"])


@mirror.command("update")
def mirror_update(
    context: typer.Context,
    name: str,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    tag_ttl: Ttl = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Forget the credentials.")] = False,
) -> None:
    """Give a mirror other credentials or another freshness."""
    session = session_of(context)
    body = _changes(username, password_stdin, tag_ttl)
    if anonymous:
        body["credentials"] = {"username": "", "password": ""}
    if not body:
        raise Invalid("there is nothing to change", action="give --username and --password-stdin, or --tag-ttl")
    changed = session.client.call("PATCH", f"/api/v1/mirrors/{path_of(name)}", body=body)["data"]
    session.output.item(changed, f"Mirror {name} changed.")


@mirror.command("check")
def mirror_check(context: typer.Context, name: str) -> None:
    """Ask the upstream whether it lets the mirror in."""
    session = session_of(context)
    checked = session.client.post(f"/api/v1/mirrors/{path_of(name)}/-/check")["data"]
    session.output.item(checked, f"{checked['upstream_url']} lets {name} in.")


@mirror.command("rm")
def mirror_rm(context: typer.Context, name: str) -> None:
    """End a mirror. What it holds stays, as repositories like any other."""
    session = session_of(context)
    session.client.delete(f"/api/v1/mirrors/{path_of(name)}")
    session.output.item({"name": name, "removed": True}, f"Mirror {name} removed; what it holds stays.")


def _changes(username: str | None, password_stdin: bool, tag_ttl: int | None) -> dict[str, Any]:
    if (username is not None) != password_stdin:
        raise Invalid("credentials are a user name and a password", action="give --username and --password-stdin")
    body: dict[str, Any] = {}
    if username is not None:
        body["credentials"] = {"username": username, "password": sys.stdin.readline().rstrip("\n")}
    if tag_ttl is not None:
        body["tag_ttl_seconds"] = tag_ttl
    return body
