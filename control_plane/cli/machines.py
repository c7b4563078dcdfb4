"""`longshore machine ...`: the bare machines of data centres."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.errors import Invalid, NotFound
from control_plane.cli.client import Client, path_of
from control_plane.cli.context import session_of

machine = typer.Typer(help="Bare machines: who they are, how they boot, what they said.", no_args_is_help=True)

Machine = Annotated[str, typer.Argument(help="id or idc/name")]
_COLUMNS = {
    "idc": "IDC",
    "name": "NAME",
    "state": "STATE",
    "tenant": "TENANT",
    "serial": "SERIAL",
    "mac": "MAC",
    "address": "ADDRESS",
    "installed": "INSTALLED",
    "seen_at": "SEEN",
    "id": "ID",
}
_DISKS = {"name": "DISK", "size_bytes": "SIZE", "transport": "BY", "model": "MODEL", "serial": "SERIAL"}
_NICS = {
    "name": "NIC",
    "mac": "MAC",
    "speed_mbits": "MBIT/S",
    "switch": "SWITCH",
    "switch_port": "PORT",
    "vlan": "VLAN",
}
_EVENTS = {"at": "AT", "stage": "STAGE", "detail": "WHAT HAPPENED"}


def machine_id(client: Client, name: str) -> str:
    """The id of what a person calls by its id or as idc/name. Raises `NotFound`."""
    idc, slash, short = name.partition("/")
    if not slash:
        return name
    for found in client.every("/api/v1/machines", idc=idc, find=short):
        if found["name"] == short:
            return str(found["id"])
    raise NotFound(f"there is no machine {name!r}", action="see `longshore machine list`")


@machine.command("list")
def listed(
    context: typer.Context,
    idc: Annotated[str | None, typer.Option("--idc", help="Only of this data centre.")] = None,
    state: Annotated[str | None, typer.Option(help="pending, ready or ignored.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    find: Annotated[str | None, typer.Option(help="Part of a name, serial number or MAC address.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
) -> None:
    """Machines by data centre and name. Those that wait to be accepted are `pending`."""
    session = session_of(context)
    found = session.client.every("/api/v1/machines", idc=idc, state=state, tag=tag, find=find, tenant=tenant)
    session.output.rows([{**one, "mac": one["macs"][0] if one["macs"] else ""} for one in found], _COLUMNS)


@machine.command("show")
def show(context: typer.Context, name: Machine) -> None:
    """One machine, with what it is made of and how it last booted."""
    session = session_of(context)
    path = f"/api/v1/machines/{path_of(machine_id(session.client, name))}"
    found = session.client.get(path)["data"]
    events = session.client.get(f"{path}/events")["data"]
    if session.output.as_json:
        session.output.item({**found, "events": events}, "")
        return
    session.output.remark(_described(found))
    made_of = found["inventory"] or {"disks": [], "nics": []}
    for rows, columns in ((made_of["disks"], _DISKS), (made_of["nics"], _NICS), (events, _EVENTS)):
        if rows:
            session.output.rows(rows, columns)


@machine.command("events")
def events(context: typer.Context, name: Machine) -> None:
    """Its boot timeline, newest first, with a verdict where a boot stalled."""
    session = session_of(context)
    path = f"/api/v1/machines/{path_of(machine_id(session.client, name))}/events"
    session.output.rows(
        session.client.every(path), {"at": "AT", "stage": "STAGE", "trouble": "TROUBLE", "detail": "WHAT HAPPENED"}
    )


@machine.command("create")
def create(
    context: typer.Context,
    idc: Annotated[str, typer.Argument(help="name of a data centre")],
    mac: Annotated[list[str], typer.Option("--mac", help="A MAC address; may be repeated.")],
    name: Annotated[str, typer.Option(help="Host name.")] = "",
    serial: Annotated[str, typer.Option(help="As its firmware says.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose it is; the platform's if left out.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None,
) -> None:
    """Write down a machine before it is seen; it counts as accepted."""
    session = session_of(context)
    body = {"idc": idc, "macs": mac, "name": name, "serial": serial, "tenant": tenant, "tags": tag or []}
    made = session.client.post("/api/v1/machines", body)["data"]
    session.output.item(made, f"Machine {made['idc']}/{made['name']}: {made['id']}.")


@machine.command("accept")
def accept(context: typer.Context, name: Machine) -> None:
    """It is ours: something may be installed on it."""
    _do(context, name, "accept", "is accepted")


@machine.command("ignore")
def ignore(context: typer.Context, name: Machine) -> None:
    """It is none of ours: it boots as a stranger from now on."""
    _do(context, name, "ignore", "is ignored")


@machine.command("assign")
def assign(
    context: typer.Context,
    name: Machine,
    tenant: Annotated[str, typer.Argument(help="a tenant; left out: back to the platform")] = "",
) -> None:
    """Give it to a tenant, or take it back."""
    _do(context, name, "assign", f"is {tenant or 'the platform'}'s", {"tenant": tenant})


@machine.command("set")
def set_(
    context: typer.Context,
    name: Machine,
    new_name: Annotated[str | None, typer.Option("--name", help="Host name.")] = None,
    serial: Annotated[str | None, typer.Option(help="As its firmware says.")] = None,
    mac: Annotated[list[str] | None, typer.Option("--mac", help="All its MAC addresses.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="All its tags; an empty one for none.")] = None,
    notes: Annotated[str | None, typer.Option(help="For people.")] = None,
    firmware: Annotated[
        str | None, typer.Option(help="bios, uefi-x64, uefi-arm64, uefi-http-x64; empty: its own.")
    ] = None,
    loader: Annotated[str | None, typer.Option(help="Its first file, a path below /static.")] = None,
    arguments: Annotated[str | None, typer.Option(help="Appended to every kernel's.")] = None,
    without_intent: Annotated[str | None, typer.Option(help="local-disk, discovery; empty: as the regional.")] = None,
    variable: Annotated[
        list[str] | None, typer.Option("--variable", help="KEY=VALUE for templates; all of them.")
    ] = None,
) -> None:
    """Change what is said of a machine; what is left out stays."""
    session = session_of(context)
    path = f"/api/v1/machines/{path_of(machine_id(session.client, name))}"
    body: dict[str, Any] = {
        "name": new_name,
        "serial": serial,
        "macs": mac,
        "tags": None if tag is None else [one for one in tag if one],
        "notes": notes,
        "variables": None if variable is None else dict(_pair(text) for text in variable if text),
    }
    boot = {"firmware": firmware, "loader": loader, "arguments": arguments, "without_intent": without_intent}
    if any(value is not None for value in boot.values()):
        known = session.client.get(path)["data"]["boot"]
        body["boot"] = {**known, **{key: value for key, value in boot.items() if value is not None}}
    said = {key: value for key, value in body.items() if value is not None}
    made = session.client.call("PATCH", path, body=said)["data"]
    session.output.item(made, f"Machine {made['idc']}/{made['name']} is described.")


@machine.command("remove")
def remove(context: typer.Context, name: Machine) -> None:
    """Forget it, with its history. When it is seen again, it is a new one."""
    session = session_of(context)
    session.client.delete(f"/api/v1/machines/{path_of(machine_id(session.client, name))}")
    session.output.item({"machine": name, "removed": True}, f"Machine {name} is removed.")


@machine.command("statistics")
def statistics(context: typer.Context) -> None:
    """Machines and installations of each data centre."""
    session = session_of(context)
    found = session.client.get("/api/v1/machines/statistics")["data"]
    if session.output.as_json:
        session.output.rows(found, {})
        return
    rows = [
        {
            "idc": one["idc"],
            "machines": _counted(one["machines"]),
            "tasks": _counted(one["tasks"]),
            "ended": _counted(one["ended"]),
            "median": "" if one["median_seconds"] is None else f"{one['median_seconds']:.0f} s",
        }
        for one in found
    ]
    columns = {"idc": "IDC", "machines": "MACHINES", "tasks": "OPEN", "ended": "LAST 30 DAYS", "median": "MEDIAN"}
    session.output.rows(rows, columns)


def _do(context: typer.Context, name: str, verb: str, told: str, body: dict[str, Any] | None = None) -> None:
    session = session_of(context)
    path = f"/api/v1/machines/{path_of(machine_id(session.client, name))}/{verb}"
    made = session.client.post(path, body)["data"]
    session.output.item(made, f"Machine {made['idc']}/{made['name']} {told}.")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "-"


def _described(found: dict[str, Any]) -> str:
    said = [f"{found['idc']}/{found['name']} ({found['id']}): {found['state']}"]
    said.append(f"of {found['tenant'] or 'the platform'}; serial {found['serial'] or 'not known'}")
    inventory = found["inventory"]
    if inventory is not None:
        memory = inventory["memory_bytes"] / (1 << 30)
        said.append(
            f"{inventory['vendor']} {inventory['product']}: {inventory['cpu_cores']} cores ({inventory['cpu_model']}), "
            f"{memory:.0f} GiB"
        )
    if found["installed"]:
        said.append(f"installed {found['installed']} at {found['installed_at']}")
    return "; ".join(said)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"{text!r} is no variable", action="write KEY=VALUE")
    return key, value
