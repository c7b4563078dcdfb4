"""`longshore machine power ...`: where a machine's BMC is, and what is done with its power."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from common.errors import Invalid, Unavailable
from control_plane.cli.client import Client, path_of
from control_plane.cli.context import session_of
from control_plane.cli.machines import Machine, machine_id

power = typer.Typer(help="The power of a machine, by its BMC.", no_args_is_help=True)

_WAITING = ("waiting", "taken", "running")
_POLL_SECONDS = 1.0
_COLUMNS = {
    "asked_at": "ASKED",
    "deed": "ORDER",
    "state": "STATE",
    "power": "POWER",
    "asked_by": "BY",
    "detail": "DETAIL",
    "id": "ID",
}
_Within = Annotated[float, typer.Option(help="Minutes within which the regional must begin.")]
_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is over; fails if it failed.")]


@power.command("show")
def show(context: typer.Context, name: Machine) -> None:
    """What its BMC said last, and what is ordered."""
    session = session_of(context)
    found = session.client.get(_path(session.client, name))["data"]
    session.output.item(found, _described(found))


@power.command("bmc")
def bmc(
    context: typer.Context,
    name: Machine,
    address: Annotated[str, typer.Argument(help="its IP address")],
    protocol: Annotated[str, typer.Option(help="redfish or ipmi.")] = "redfish",
    port: Annotated[int | None, typer.Option(help="The protocol's own if left out.")] = None,
    user: Annotated[str, typer.Option(help="Who logs in there.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input; others see arguments.")
    ] = False,
    fingerprint: Annotated[str, typer.Option(help="SHA-256 of its certificate, for one that does not verify.")] = "",
    system: Annotated[str, typer.Option(help="Which of its systems, where Redfish shows several.")] = "",
) -> None:
    """Say where a machine's BMC is. The password is shown to nobody; left out, the one that is known is kept."""
    session = session_of(context)
    body: dict[str, Any] = {
        "protocol": protocol,
        "address": address,
        "port": port,
        "username": user,
        "fingerprint": fingerprint,
        "system": system,
    }
    if password_stdin:
        body["password"] = sys.stdin.readline().rstrip("\r\n")
        if not body["password"]:
            raise Invalid("there is no password on standard input", action="pipe it in")
    made = session.client.put(f"{_path(session.client, name)}/bmc", body)["data"]
    session.output.item(made, f"The BMC of {name} is at {address}.")


@power.command("forget")
def forget(context: typer.Context, name: Machine) -> None:
    """Forget where its BMC is."""
    session = session_of(context)
    session.client.delete(f"{_path(session.client, name)}/bmc")
    session.output.item({"machine": name, "known": False}, f"The BMC of {name} is forgotten.")


@power.command("look")
def look(context: typer.Context, name: Machine, wait: _Wait = True) -> None:
    """Ask its BMC whether it is on."""
    _order(context, name, "look", 10.0, wait)


@power.command("on")
def on(context: typer.Context, name: Machine, within: _Within = 10.0, wait: _Wait = True) -> None:
    """Turn it on."""
    _order(context, name, "on", within, wait)


@power.command("off")
def off(context: typer.Context, name: Machine, within: _Within = 10.0, wait: _Wait = True) -> None:
    """Pull the plug."""
    _order(context, name, "off", within, wait)


@power.command("shutdown")
def shutdown(context: typer.Context, name: Machine, within: _Within = 10.0, wait: _Wait = True) -> None:
    """Ask its system to go down."""
    _order(context, name, "shutdown", within, wait)


@power.command("cycle")
def cycle(context: typer.Context, name: Machine, within: _Within = 10.0, wait: _Wait = True) -> None:
    """Off, then on."""
    _order(context, name, "cycle", within, wait)


@power.command("network")
def network(context: typer.Context, name: Machine, within: _Within = 10.0, wait: _Wait = True) -> None:
    """Restart it, and let it boot from the network this once."""
    _order(context, name, "network", within, wait)


@power.command("history")
def history(context: typer.Context, name: Machine) -> None:
    """Orders, newest first."""
    session = session_of(context)
    session.output.rows(session.client.every(f"{_path(session.client, name)}/orders"), _COLUMNS)


@power.command("cancel")
def cancel(context: typer.Context, name: Machine) -> None:
    """Hold back an order that was not begun."""
    session = session_of(context)
    path = _path(session.client, name)
    order = session.client.get(path)["data"]["order"]
    if order is None:
        raise Invalid(f"nothing is ordered for {name}", action="see `longshore machine power history`")
    made = session.client.post(f"{path}/orders/{path_of(order['id'])}/cancel", {})["data"]
    session.output.item(made, f"{made['deed']} is held back.")


def _order(context: typer.Context, name: str, deed: str, within: float, wait: bool) -> None:
    session = session_of(context)
    path = f"{_path(session.client, name)}/orders"
    made = session.client.post(path, {"deed": deed, "within_seconds": within * 60})["data"]
    # It ends: the server gives an order up that nobody began in time, or of which it hears nothing for 15 minutes.
    while wait and made["state"] in _WAITING:
        time.sleep(_POLL_SECONDS)
        made = session.client.get(f"{path}/{path_of(made['id'])}")["data"]
    if wait and made["state"] != "done":
        raise Unavailable(f"{deed} {made['state']}: {made['detail']}", action="see `longshore machine events`")
    session.output.item(made, f"{name}: {made['detail'] or made['state']}.")


def _path(client: Client, name: str) -> str:
    return f"/api/v1/machines/{path_of(machine_id(client, name))}/power"


def _described(found: dict[str, Any]) -> str:
    if not found["known"]:
        return "No BMC of it is known."
    at = f" (its BMC said so {found['state_at']})" if found["state_at"] else ""
    where = found["bmc"]
    shown = f" {where['protocol']} at {where['address']} port {where['port']}." if where else ""
    order = found["order"]
    return f"It is {found['state']}{at}.{shown}" + (f" Ordered: {order['deed']}, {order['state']}." if order else "")
