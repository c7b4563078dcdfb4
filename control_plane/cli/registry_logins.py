"""`longshore registry-login ...`: what `docker login` and the like keep in place of a password."""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

registry_login = typer.Typer(
    help="Logins that docker and other registry clients keep in place of a password.", no_args_is_help=True
)


@registry_login.command("list")
def registry_login_list(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Whose; for the platform admin.")] = None,
) -> None:
    """Those that have not expired, newest first."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/registry-logins", user=user),
        {"id": "ID", "client": "CLIENT", "created_at": "CREATED", "last_used_at": "LAST USED", "expires_at": "EXPIRES"},
    )


@registry_login.command("end")
def registry_login_end(context: typer.Context, login_id: str) -> None:
    """End one: the client has to log in again, fifteen minutes later at most."""
    session = session_of(context)
    session.client.delete(f"/api/v1/registry-logins/{path_of(login_id)}")
    session.output.item({"id": login_id, "ended": True}, f"Registry login {login_id} ended.")
