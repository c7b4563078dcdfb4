"""Entry point of `longshore`: options, sub-commands, and the one place where a failure becomes a message and an exit
code.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from common.errors import Failure, Internal
from control_plane.cli import accounts, fleet, images, instances
from control_plane.cli.context import open_session, session_of
from control_plane.cli.failures import exit_code

app = typer.Typer(
    name="longshore",
    help="Images, containers and bare machines of an edge cloud.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help texts hold brackets
    add_completion=True,
)
app.command()(accounts.login)
app.command()(accounts.logout)
app.command()(accounts.whoami)
app.add_typer(accounts.tenant, name="tenant")
app.add_typer(accounts.user, name="user")
app.add_typer(accounts.api_key, name="api-key")
app.add_typer(images.image, name="image")
app.add_typer(fleet.idc, name="idc")
app.add_typer(fleet.host, name="host")
app.add_typer(fleet.regional, name="regional")
app.add_typer(fleet.join_token, name="join-token")
app.add_typer(instances.instance, name="instance")


@app.callback()
def options(
    context: typer.Context,
    server: Annotated[str | None, typer.Option(help="URL of the control plane. [env: LONGSHORE_SERVER]")] = None,
    token: Annotated[str | None, typer.Option(help="API key, instead of a login. [env: LONGSHORE_TOKEN]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (may stand anywhere).")] = False,
) -> None:
    context.obj = open_session(server, token, as_json)


@app.command()
def status(context: typer.Context) -> None:
    """The whole fleet in one picture."""
    session = session_of(context)
    picture = session.client.get("/api/v1/status")["data"]
    if session.output.as_json:
        session.output.item(picture, "")
        return
    session.output.rows(
        picture["idcs"],
        {
            "name": "IDC",
            "hosts_online": "HOSTS ONLINE",
            "hosts": "HOSTS",
            "regionals_online": "REGIONALS ONLINE",
            "instances_running": "RUNNING",
            "instances": "INSTANCES",
            "egress_bytes": "FROM CENTRE",
        },
    )


def main() -> None:
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    # `--json` may stand anywhere before `--`, as people expect of kubectl and docker; Typer would want it before the
    # command.
    if as_json and "--" not in arguments[: arguments.index("--json")]:
        arguments = ["--json", *(word for word in arguments if word != "--json")]
    try:
        app(args=arguments, prog_name="longshore")
    except Failure as failure:
        _complain(failure, as_json)
        sys.exit(exit_code(failure))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _complain(Internal(str(error), action="check the file or directory"), as_json)
        sys.exit(1)


def _complain(failure: Failure, as_json: bool) -> None:
    if as_json:
        body = {"code": failure.code, "detail": failure.detail, "action": failure.action}
        print(json.dumps(body), file=sys.stderr)
    else:
        print(f"longshore: {failure.detail}", file=sys.stderr)
        if failure.action:
            print(f"  {failure.action}", file=sys.stderr)


if __name__ == "__main__":
    main()
