"""`longshore instance logs|exec|console`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
import urllib3
from urllib3.exceptions import HTTPError

from common.clock import SystemClock
from common.errors import Failure, Invalid, NotFound, Unavailable
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of
from control_plane.cli.conversation import Conversation
from control_plane.cli.failures import failure_of

_NDJSON = "application/x-ndjson"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AGO = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_Instance = Annotated[str, typer.Argument(help="Name or id.")]
_Tenant = Annotated[str | None, typer.Option(help="Whose instance, if several have the name.")]
_Host = Annotated[str | None, typer.Option(help="idc/name or id of the host, if several run it.")]


class ChannelBroken(Failure):
    """What the other end said when it ended the channel."""

    code = "channel_broken"


def add_to(instance: typer.Typer) -> None:
    instance.command("logs")(instance_logs)
    # Options stand before the name, so that those of the command need no `--`.
    instance.command("exec", context_settings={"allow_interspersed_args": False})(instance_exec)
    instance.command("console")(instance_console)


def instance_logs(
    context: typer.Context,
    instance: _Instance,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the container ends.")] = False,
    since: Annotated[str | None, typer.Option(help="A time (2026-01-31T12:00:00Z), or how long ago (10m, 2h).")] = None,
    tail: Annotated[int | None, typer.Option("--tail", "-n", help="At most so many last lines.")] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Begin lines with their time.")] = False,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """What an instance wrote: its two outputs on ours."""
    session = session_of(context)
    row = found(session, instance, tenant, host)
    query = {"follow": str(follow).lower(), "since": _moment(since), "tail": tail}
    path = f"/api/v1/instances/{row['id']}/logs?" + urlencode({k: v for k, v in query.items() if v is not None})
    answer = session.client.raw("GET", path, headers={"Accept": _NDJSON}, stream=True, read_seconds=None)
    if answer.status >= 400:
        raise failure_of(answer.status, answer.read(), f"GET {path}")
    for document in _documents(answer, session.client.server):
        if session.output.as_json:
            print(json.dumps(document, ensure_ascii=False), flush=True)
        else:
            _print(document, timestamps)
        _stop_at_failure(document.get("end"))


def instance_exec(
    context: typer.Context,
    instance: _Instance,
    command: Annotated[list[str], typer.Argument(help="What to run, with its own options.")],
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Send our input to it.")] = False,
    terminal: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    user: Annotated[str, typer.Option("--user", "-u", help="name, uid or uid:gid.")] = "",
    workdir: Annotated[str, typer.Option("--workdir", "-w", help="Directory to start in.")] = "",
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """Run a command inside an instance; ends with the command's exit code."""
    session = session_of(context)
    row = found(session, instance, tenant, host)
    words = command[1:] if command[:1] == ["--"] else command
    if not words:
        raise Invalid("no command was named", action="write it after the name: longshore instance exec web -- ls")
    start: dict[str, Any] = {
        "type": "start",
        "command": words,
        "environment": dict(_pair(text) for text in env or ()),
        "user": user,
        "working_directory": workdir,
        "terminal": _size() if terminal else None,
        "input": interactive,
    }
    conversation = Conversation(start, interactive=interactive, terminal=terminal)
    raise typer.Exit(_run(session, conversation, f"/api/v1/instances/{row['id']}/exec"))


def instance_console(context: typer.Context, instance: _Instance, tenant: _Tenant = None, host: _Host = None) -> None:
    """The console of an instance that has one. Ctrl-] leaves it."""
    session = session_of(context)
    row = found(session, instance, tenant, host)
    print("Ctrl-] leaves the console.", file=sys.stderr)
    start = {"type": "start", "terminal": _size()}
    conversation = Conversation(start, interactive=True, terminal=True, leave=b"\x1d")
    raise typer.Exit(_run(session, conversation, f"/api/v1/instances/{row['id']}/console"))


def _run(session: Session, conversation: Conversation, path: str) -> int:
    client = session.client
    return asyncio.run(conversation.hold(f"{client.server}{path}", client.authorization))


def found(session: Session, wanted: str, tenant: str | None, host: str | None) -> dict[str, Any]:
    """The one instance of that name or id. Raises `NotFound`, `Invalid` if there are several."""
    if _ID.fullmatch(wanted):
        row: dict[str, Any] = session.client.get(f"/api/v1/instances/{path_of(wanted)}")["data"]
        return row
    rows = session.client.every("/api/v1/instances", name=wanted, tenant=tenant, host=host)
    if not rows:
        raise NotFound(f"there is no instance {wanted!r}", action="list them with `longshore instance list`")
    if len(rows) > 1:
        places = ", ".join(f"{row['tenant']} on {row['idc']}/{row['host']}" for row in rows[:5])
        raise Invalid(
            f"{len(rows)} instances have the name {wanted}: {places}", action="add --tenant, --host, or its id"
        )
    return dict(rows[0])


def _documents(answer: urllib3.BaseHTTPResponse, server: str) -> Iterator[dict[str, Any]]:
    rest = b""
    try:
        for data in answer.stream(64 << 10):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield json.loads(line)
    except HTTPError as error:
        raise Unavailable(f"the connection to {server} broke ({type(error).__name__})", action="try again") from error
    if rest:
        raise Unavailable(f"the connection to {server} broke", action="try again")


def _print(document: dict[str, Any], timestamps: bool) -> None:
    text = document.get("text", "")
    if timestamps and document.get("time"):
        text = "".join(f"{document['time']} {line}" for line in text.splitlines(keepends=True))
    out = sys.stderr if document.get("stream") == "stderr" else sys.stdout
    out.write(text)
    out.flush()


def _stop_at_failure(end: dict[str, str] | None) -> None:
    if end is not None and end.get("code") != "ended":
        raise ChannelBroken(end.get("detail") or "the logs broke off", action=end.get("action", ""))


def _moment(since: str | None) -> str | None:
    if since is None:
        return None
    ago = _AGO.fullmatch(since)
    if ago is not None:
        return (SystemClock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise Invalid(f"{since!r} is no time", action="write 2026-01-31T12:00:00Z, or 10m") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise Invalid(f"{text!r} is not NAME=VALUE", action="write --env NAME=VALUE")
    return name, value


def _size() -> dict[str, int]:
    columns, rows = shutil.get_terminal_size()
    return {"columns": columns, "rows": rows}
