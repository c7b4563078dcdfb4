"""What every command is handed: the client, the output, and the options that stand before the command's name."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from common.errors import Invalid
from control_plane.cli.client import Client
from control_plane.cli.output import Output
from control_plane.cli.settings import DEFAULT_SERVER, CliSettings, Credentials


@dataclass(frozen=True)
class Session:
    client: Client
    output: Output


def session_of(context: typer.Context) -> Session:
    found = context.find_object(Session)
    if found is None:
        raise Invalid("the command was called without its options", action="run `longshore --help`")
    return found


def open_session(server: str | None, token: str | None, as_json: bool) -> Session:
    settings = CliSettings()
    credentials = Credentials(settings.credentials)
    where = server or settings.server or credentials.default_server() or DEFAULT_SERVER
    return Session(Client(where, token or settings.token, credentials), Output(as_json))
