"""`longshore idc|host|regional|join-token ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

idc = typer.Typer(help="Data centres.", no_args_is_help=True)
host = typer.Typer(help="Machines that run instances.", no_args_is_help=True)
regional = typer.Typer(help="The services of the data centres.", no_args_is_help=True)
join_token = typer.Typer(help="One-time tokens that let a machine join.", no_args_is_help=True)


Member = Annotated[str, typer.Argument(help="id or idc/name")]


@idc.command("create")
def idc_create(context: typer.Context, name: str, display_name: str = "") -> None:
    """Name a data centre, so that machines can join in it."""
    session = session_of(context)
    made = session.client.post("/api/v1/idcs", {"name": name, "display_name": display_name or name})["data"]
    session.output.item(made, f"IDC {made['name']} created.")


@idc.command("list")
def idc_list(context: typer.Context) -> None:
    """All data centres."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/idcs"),
        {"name": "NAME", "display_name": "DISPLAY NAME", "created_at": "CREATED"},
    )


@idc.command("show")
def idc_show(context: typer.Context, name: str) -> None:
    """One data centre."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/idcs/{path_of(name)}")["data"])


@idc.command("rm")
def idc_rm(context: typer.Context, name: str) -> None:
    """Remove a data centre that holds nothing any more."""
    session = session_of(context)
    session.client.delete(f"/api/v1/idcs/{path_of(name)}")
    session.output.item({"name": name, "removed": True}, f"IDC {name} removed.")


@host.command("list")
def host_list(
    context: typer.Context,
    idc_name: Annotated[str | None, typer.Option("--idc")] = None,
    state: Annotated[str | None, typer.Option(help="online, offline, conflict or revoked")] = None,
) -> None:
    """Machines that joined; revoked ones only with --state revoked."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/hosts", idc=idc_name, state=state),
        {
            "name": "NAME",
            "idc": "IDC",
            "state": "STATE",
            "facts.architecture": "ARCH",
            "facts.engines": "ENGINES",
            "version": "VERSION",
            "last_seen_at": "LAST SEEN",
            "id": "ID",
        },
    )


@host.command("show")
def host_show(context: typer.Context, name: Member) -> None:
    """One host, with what it says of itself."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/hosts/{path_of(name)}")["data"])


@host.command("label")
def host_label(
    context: typer.Context,
    name: Member,
    labels: Annotated[list[str], typer.Argument(help="KEY=VALUE to set, KEY- to take away")],
) -> None:
    """Say what a host is, so that preheats can choose by it."""
    session = session_of(context)
    path = f"/api/v1/hosts/{path_of(name)}"
    wanted: dict[str, str] = dict(session.client.get(path)["data"]["labels"])
    for text in labels:
        key, equals, value = text.partition("=")
        if equals:
            wanted[key] = value
        elif text.endswith("-"):
            wanted.pop(text[:-1], None)
        else:
            raise Invalid(f"{text!r} is no label", action="write KEY=VALUE to set it, KEY- to take it away")
    made = session.client.put(f"{path}/labels", {"labels": wanted})["data"]
    session.output.item(made, f"Labels of {name}: {', '.join(f'{k}={v}' for k, v in wanted.items()) or 'none'}.")


@host.command("rm")
def host_rm(context: typer.Context, name: Member) -> None:
    """Revoke a host: its certificate is worth nothing from now on."""
    session = session_of(context)
    session.client.delete(f"/api/v1/hosts/{path_of(name)}")
    session.output.item({"host": name, "revoked": True}, f"Host {name} revoked.")


@regional.command("list")
def regional_list(context: typer.Context, idc_name: Annotated[str | None, typer.Option("--idc")] = None) -> None:
    """Regionals that joined."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/regionals", idc=idc_name),
        {
            "name": "NAME",
            "idc": "IDC",
            "state": "STATE",
            "content_url": "CONTENT",
            "last_seen_at": "LAST SEEN",
            "warnings": "WARNINGS",
        },
    )


@regional.command("show")
def regional_show(context: typer.Context, name: Member) -> None:
    """One regional, with the addresses that it is reached at."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/regionals/{path_of(name)}")["data"])


@regional.command("rm")
def regional_rm(context: typer.Context, name: Member) -> None:
    """Revoke a regional: its certificate is worth nothing from now on."""
    session = session_of(context)
    session.client.delete(f"/api/v1/regionals/{path_of(name)}")
    session.output.item({"regional": name, "revoked": True}, f"Regional {name} revoked.")


@join_token.command("create")
def join_token_create(
    context: typer.Context,
    idc_name: Annotated[str, typer.Option("--idc", help="The data centre the machine stands in.")],
    kind: Annotated[str, typer.Option(help="host or regional")] = "host",
    name: Annotated[str | None, typer.Option(help="Bind the token to this name.")] = None,
    ttl_seconds: Annotated[int, typer.Option(help="How long it may wait to be used.")] = 600,
) -> None:
    """Make a token for one machine. It is shown now and never again."""
    session = session_of(context)
    body = {"kind": kind, "idc": idc_name, "ttl_seconds": ttl_seconds} | ({"name": name} if name else {})
    made = session.client.post("/api/v1/join-tokens", body)["data"]
    session.output.item(made, made["token"])


@join_token.command("list")
def join_token_list(context: typer.Context) -> None:
    """Tokens, used ones too, without their secrets."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/join-tokens"),
        {"id": "ID", "kind": "KIND", "idc": "IDC", "name": "NAME", "expires_at": "EXPIRES", "used_at": "USED"},
    )


@join_token.command("rm")
def join_token_rm(context: typer.Context, token_id: str) -> None:
    """Remove a token; nobody joins with it any more."""
    session = session_of(context)
    session.client.delete(f"/api/v1/join-tokens/{path_of(token_id)}")
    session.output.item({"id": token_id, "removed": True}, f"Join token {token_id} removed.")
