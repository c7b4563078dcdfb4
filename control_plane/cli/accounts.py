"""`longshore login|logout|whoami`, `longshore tenant ...`, `longshore user ...`, `longshore api-key ...`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

tenant = typer.Typer(help="Tenants and their members.", no_args_is_help=True)
user = typer.Typer(help="People who may log in.", no_args_is_help=True)
api_key = typer.Typer(help="Keys for programs.", no_args_is_help=True)

PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")]


def login(
    context: typer.Context,
    username: Annotated[str, typer.Option("--username", "-u", help="Asked for if it is absent.")] = "",
    password_stdin: PasswordStdin = False,
) -> None:
    """Log in; the tokens are kept in a file that only you can read."""
    session = session_of(context)
    name = username or str(typer.prompt("Username", err=True))
    password = _password(password_stdin, confirm=False)
    data = session.client.login(name, password)
    session.output.item(
        {"server": session.client.server, "username": name, "expires_in": data["expires_in"]},
        f"Logged in to {session.client.server} as {name}.",
    )


def _password(from_stdin: bool, *, confirm: bool) -> str:
    # The question goes to standard error: standard output holds results only.
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
    if not password:
        raise Invalid("the password is empty", action="type it, or pipe it in with --password-stdin")
    return password


def logout(context: typer.Context) -> None:
    """End the login here and at the server."""
    session = session_of(context)
    session.client.logout()
    session.output.item({"server": session.client.server}, f"Logged out of {session.client.server}.")


def whoami(context: typer.Context) -> None:
    """Who the server takes you for, and your roles."""
    session = session_of(context)
    me = session.client.get("/api/v1/auth/me")["data"]
    roles = ", ".join(f"{role} of {name}" for name, role in me.get("roles", {}).items())
    kind = "platform admin" if me.get("platform_admin") else roles or "no roles"
    session.output.item(me, f"{me['name']} ({kind})")


@tenant.command("create")
def tenant_create(context: typer.Context, name: str, display_name: str = "") -> None:
    """Make a tenant; its repositories are named NAME/..."""
    session = session_of(context)
    made = session.client.post("/api/v1/tenants", {"name": name, "display_name": display_name or name})["data"]
    session.output.item(made, f"Tenant {made['name']} created.")


@tenant.command("list")
def tenant_list(context: typer.Context) -> None:
    """The tenants that you may see."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/tenants"),
        {"name": "NAME", "display_name": "DISPLAY NAME", "created_at": "CREATED"},
    )


@tenant.command("rm")
def tenant_rm(context: typer.Context, name: str) -> None:
    """Remove an empty tenant."""
    session = session_of(context)
    session.client.delete(f"/api/v1/tenants/{path_of(name)}")
    session.output.item({"name": name, "removed": True}, f"Tenant {name} removed.")


@tenant.command("members")
def tenant_members(context: typer.Context, name: str) -> None:
    """Who belongs to the tenant."""
    session = session_of(context)
    rows = session.client.every(f"/api/v1/tenants/{path_of(name)}/members")
    session.output.rows(rows, {"user": "USER", "role": "ROLE"})


@tenant.command("grant")
def tenant_grant(context: typer.Context, name: str, username: str, role: str) -> None:
    """Give USERNAME the role admin, operator or viewer in the tenant."""
    session = session_of(context)
    session.client.put(f"/api/v1/tenants/{path_of(name)}/members/{path_of(username)}", {"role": role})
    session.output.item({"tenant": name, "user": username, "role": role}, f"{username} is now {role} of {name}.")


@tenant.command("revoke")
def tenant_revoke(context: typer.Context, name: str, username: str) -> None:
    """Take USERNAME's role in the tenant away."""
    session = session_of(context)
    session.client.delete(f"/api/v1/tenants/{path_of(name)}/members/{path_of(username)}")
    session.output.item({"tenant": name, "user": username}, f"{username} is no longer a member of {name}.")


@user.command("create")
def user_create(
    context: typer.Context,
    username: str,
    password_stdin: PasswordStdin = False,
) -> None:
    """Make a user; it may nothing until `tenant grant` gives it a role."""
    session = session_of(context)
    password = _password(password_stdin, confirm=True)
    made = session.client.post("/api/v1/users", {"username": username, "password": password})["data"]
    session.output.item(made, f"User {username} created.")


@user.command("list")
def user_list(context: typer.Context) -> None:
    """Everybody who may log in, or might."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/users"),
        {"username": "NAME", "platform_admin": "PLATFORM ADMIN", "disabled": "DISABLED", "created_at": "CREATED"},
    )


@api_key.command("create")
def api_key_create(
    context: typer.Context,
    name: str,
    tenant_name: Annotated[str | None, typer.Option("--tenant", help="Limit the key to one tenant.")] = None,
    role: Annotated[str | None, typer.Option(help="Limit the key to a role in it.")] = None,
) -> None:
    """Make a key for a program. It is shown now and never again."""
    session = session_of(context)
    body = {"name": name, "tenant": tenant_name, "role": role}
    made = session.client.post("/api/v1/api-keys", {key: value for key, value in body.items() if value})["data"]
    session.output.item(made, made["key"])


@api_key.command("list")
def api_key_list(context: typer.Context) -> None:
    """Your keys that were not revoked."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/api-keys"),
        {
            "id": "ID",
            "name": "NAME",
            "tenant": "TENANT",
            "role": "ROLE",
            "expires_at": "EXPIRES",
            "last_used_at": "LAST USED",
        },
    )


@api_key.command("rm")
def api_key_rm(context: typer.Context, key_id: str) -> None:
    """End a key at once."""
    session = session_of(context)
    session.client.delete(f"/api/v1/api-keys/{path_of(key_id)}")
    session.output.item({"id": key_id, "revoked": True}, f"API key {key_id} revoked.")
