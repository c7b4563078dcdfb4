"""`longshore robot ...` and `longshore group ...`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

robot = typer.Typer(help="Accounts of a tenant for programs that push and pull.", no_args_is_help=True)
group = typer.Typer(help="Members of a tenant, to whom repositories can be granted together.", no_args_is_help=True)

Expires = Annotated[str | None, typer.Option("--expires", help="When it ends, as 2027-01-31 or 2027-01-31T12:00:00Z.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="tenant/name:pull,push,delete; * stands for any characters. May be given often."),
]
_ACTIONS = ("pull", "push", "delete")


@robot.command("create")
def robot_create(
    context: typer.Context,
    tenant: str,
    name: str,
    scope: Scopes = None,
    description: str = "",
    expires: Expires = None,
) -> None:
    """Make a robot. Its key is shown now and never again; the name for `docker login` is robot/TENANT/NAME."""
    session = session_of(context)
    body = {
        "name": name,
        "description": description,
        "scopes": [_scope(each) for each in scope or [f"{tenant}/*:pull"]],
        "expires_at": moment(expires),
    }
    made = session.client.post(f"/api/v1/tenants/{path_of(tenant)}/robots", body)["data"]
    session.output.remark(f"Robot {made['login']} created. Its key:")
    session.output.item(made, made["key"])


@robot.command("list")
def robot_list(context: typer.Context, tenant: str) -> None:
    """The tenant's robots."""
    session = session_of(context)
    rows = session.client.every(f"/api/v1/tenants/{path_of(tenant)}/robots")
    if not session.output.as_json:
        for row in rows:
            row["scopes"] = [f"{each['repository']}:{','.join(each['actions'])}" for each in row["scopes"]]
    session.output.rows(
        rows,
        {
            "name": "NAME",
            "login": "LOGIN",
            "scopes": "SCOPES",
            "disabled": "DISABLED",
            "expires_at": "EXPIRES",
            "last_used_at": "LAST USED",
        },
    )


@robot.command("scope")
def robot_scope(context: typer.Context, tenant: str, name: str, scope: Scopes = None) -> None:
    """Replace what a robot may; counts at once."""
    if not scope:
        raise Invalid("no scope was given", action="give --scope once or more")
    _change(context, tenant, name, {"scopes": [_scope(each) for each in scope]}, "has other scopes now")


@robot.command("disable")
def robot_disable(context: typer.Context, tenant: str, name: str) -> None:
    """Lock a robot out at once, until it is enabled again."""
    _change(context, tenant, name, {"disabled": True}, "is disabled")


@robot.command("enable")
def robot_enable(context: typer.Context, tenant: str, name: str) -> None:
    """Let a disabled robot in again, with the keys it has."""
    _change(context, tenant, name, {"disabled": False}, "is enabled")


@robot.command("rotate")
def robot_rotate(
    context: typer.Context,
    tenant: str,
    name: str,
    overlap_hours: Annotated[float, typer.Option(help="How long the keys before go on working.")] = 0,
) -> None:
    """Make another key; it is shown now and never again. The ones before end."""
    session = session_of(context)
    made = session.client.post(f"{_path(tenant, name)}/keys", {"overlap_hours": overlap_hours})["data"]
    session.output.item(made, made["key"])


@robot.command("delete")
def robot_delete(context: typer.Context, tenant: str, name: str) -> None:
    """End a robot and everything that was issued to it."""
    session = session_of(context)
    session.client.delete(_path(tenant, name))
    session.output.item({"tenant": tenant, "name": name, "deleted": True}, f"Robot {name} of {tenant} deleted.")


@group.command("create")
def group_create(context: typer.Context, tenant: str, name: str) -> None:
    """Make a group in the tenant."""
    session = session_of(context)
    made = session.client.post(f"/api/v1/tenants/{path_of(tenant)}/groups", {"name": name})["data"]
    session.output.item(made, f"Group {name} of {tenant} created.")


@group.command("list")
def group_list(context: typer.Context, tenant: str) -> None:
    """The tenant's groups with their members."""
    session = session_of(context)
    rows = session.client.every(f"/api/v1/tenants/{path_of(tenant)}/groups")
    session.output.rows(rows, {"name": "NAME", "members": "MEMBERS"})


@group.command("add")
def group_add(context: typer.Context, tenant: str, name: str, username: str) -> None:
    """Put a member of the tenant into the group."""
    session = session_of(context)
    changed = session.client.put(f"{_group_path(tenant, name)}/members/{path_of(username)}")["data"]
    session.output.item(changed, f"{username} is in the group {name} of {tenant}.")


@group.command("remove")
def group_remove(context: typer.Context, tenant: str, name: str, username: str) -> None:
    """Take somebody out of the group."""
    session = session_of(context)
    session.client.delete(f"{_group_path(tenant, name)}/members/{path_of(username)}")
    session.output.item({"group": name, "user": username}, f"{username} is no longer in the group {name} of {tenant}.")


@group.command("delete")
def group_delete(context: typer.Context, tenant: str, name: str) -> None:
    """Remove a group; what was granted to it is granted to nobody then."""
    session = session_of(context)
    session.client.delete(_group_path(tenant, name))
    session.output.item({"tenant": tenant, "name": name, "deleted": True}, f"Group {name} of {tenant} deleted.")


def moment(text: str | None) -> str | None:
    """A day or a moment as the server takes it; without a time zone it is UTC."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no moment", action="write 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).isoformat()


def _scope(text: str) -> dict[str, object]:
    repository, colon, actions = text.rpartition(":")
    asked = actions.split(",")
    if not colon or not set(asked) <= set(_ACTIONS):
        raise Invalid(f"{text!r} is no scope", action="write tenant/name:pull,push,delete")
    return {"repository": repository, "actions": asked}


def _change(context: typer.Context, tenant: str, name: str, body: dict[str, object], done: str) -> None:
    session = session_of(context)
    changed = session.client.call("PATCH", _path(tenant, name), body=body)["data"]
    session.output.item(changed, f"Robot {name} of {tenant} {done}.")


def _path(tenant: str, name: str) -> str:
    return f"/api/v1/tenants/{path_of(tenant)}/robots/{path_of(name)}"


def _group_path(tenant: str, name: str) -> str:
    return f"/api/v1/tenants/{path_of(tenant)}/groups/{path_of(name)}"
