"""`longshore command host|instance|list|show|cancel`: what a host is asked to do once."""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated, Any

import typer

from common.errors import Failure, Unavailable
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of
from control_plane.cli.fleet import Member

command = typer.Typer(help="What a host is asked to do once.", no_args_is_help=True)

_OPEN = {"queued", "offered", "accepted"}
_COLUMNS = {
    "id": "ID",
    "verb": "VERB",
    "host": "HOST",
    "instance_id": "INSTANCE",
    "state": "STATE",
    "requested_by": "BY",
    "created_at": "ASKED",
    "detail": "DETAIL",
}
_Wait = Annotated[float, typer.Option(help="Wait so many seconds for the outcome.")]
_Within = Annotated[int, typer.Option(help="Not begun later than so many seconds from now.")]


class CommandFailed(Failure):
    code = "command_failed"


@command.command("host")
def command_host(
    context: typer.Context,
    name: Member,
    verb: Annotated[str, typer.Argument(help="prune_cache or collect_diagnostics")],
    wait: _Wait = 0,
    within: _Within = 3600,
) -> None:
    """Ask a host once."""
    _ask(session_of(context), f"/api/v1/hosts/{path_of(name)}/commands", verb, wait, within)


@command.command("instance")
def command_instance(
    context: typer.Context,
    instance_id: str,
    verb: Annotated[str, typer.Argument(help="restart or refetch")],
    wait: _Wait = 0,
    within: _Within = 3600,
) -> None:
    """Ask an instance's host once. `longshore instance restart` is for what shall be so whatever happens."""
    _ask(session_of(context), f"/api/v1/instances/{path_of(instance_id)}/commands", verb, wait, within)


@command.command("list")
def command_list(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="id or idc/name")] = None,
    instance: Annotated[str | None, typer.Option(help="id")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those without an outcome.")] = False,
) -> None:
    """Newest first; outcomes are kept for 30 days."""
    session = session_of(context)
    rows = session.client.every(
        "/api/v1/commands", host=host, instance=instance, open_only="true" if open_only else None
    )
    session.output.rows(rows, _COLUMNS)


@command.command("show")
def command_show(context: typer.Context, command_id: str) -> None:
    """One command and what came of it."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/commands/{path_of(command_id)}")["data"])


@command.command("cancel")
def command_cancel(context: typer.Context, command_id: str) -> None:
    """Not to be begun any more; the host has the last word if it was told."""
    session = session_of(context)
    made = session.client.post(f"/api/v1/commands/{path_of(command_id)}/cancel")["data"]
    session.output.item(made, f"Command {command_id}: {made['state']}.")


def _ask(session: Session, path: str, verb: str, wait: float, within: int) -> None:
    # An id of our own: a request that is repeated after a broken connection is still one command.
    body = {"verb": verb, "id": str(uuid.uuid4()), "begin_within_seconds": within}
    made = session.client.post(path, body)["data"]
    if wait:
        made = ended(session, made, wait)
    result = f"\n{json.dumps(json.loads(made['result']), indent=2)}" if made["result"] else ""
    session.output.item(made, f"Command {made['id']}: {made['state']}.{result}")


def ended(session: Session, made: dict[str, Any], seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while made["state"] in _OPEN:
        if time.monotonic() > deadline:
            raise Unavailable(f"the command is {made['state']}", action=f"see `longshore command show {made['id']}`")
        time.sleep(0.3)
        made = session.client.get(f"/api/v1/commands/{made['id']}")["data"]
    if made["state"] != "done":
        raise CommandFailed(f"{made['state']}: {made['detail']}", action=f"see `longshore command show {made['id']}`")
    return made
