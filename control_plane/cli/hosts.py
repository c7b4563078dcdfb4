"""`longshore host cordon|uncordon|drain|capacity`: what operators say of hosts as places to run things."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from common.errors import Unavailable
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of
from control_plane.cli.fleet import Member

_Reason = Annotated[str, typer.Option(help="For people; shown with the host.")]
_ROOM = {
    "host": "HOST",
    "standing": "STANDING",
    "away_since": "AWAY SINCE",
    "instances": "INSTANCES",
    "used_cpus": "CPUS USED",
    "cpus": "CPUS",
    "used_memory_bytes": "MEMORY USED",
    "memory_bytes": "MEMORY",
}
_DRAINED = {"tenant": "TENANT", "name": "NAME", "phase": "PHASE", "leaving": "LEAVING", "detail": "DETAIL", "id": "ID"}


def add_to(host: typer.Typer) -> None:
    host.command("cordon")(host_cordon)
    host.command("uncordon")(host_uncordon)
    host.command("drain")(host_drain)
    host.command("room")(host_room)
    host.command("capacity")(host_capacity)


def host_cordon(context: typer.Context, name: Member, reason: _Reason = "") -> None:
    """Nothing new comes to the host; what is there stays."""
    session = session_of(context)
    made = session.client.post(f"/api/v1/hosts/{path_of(name)}/cordon", {"reason": reason})["data"]
    session.output.item(made, f"Host {name} takes nothing new.")


def host_uncordon(context: typer.Context, name: Member) -> None:
    """The host takes new instances again; also ends a drain."""
    session = session_of(context)
    made = session.client.post(f"/api/v1/hosts/{path_of(name)}/uncordon")["data"]
    session.output.item(made, f"Host {name} takes new instances.")


def host_drain(
    context: typer.Context,
    name: Member,
    reason: _Reason = "",
    max_unavailable: Annotated[int, typer.Option(help="How many of one deployment may be down at a time.")] = 1,
    status: Annotated[bool, typer.Option("--status", help="Only show how far it is.")] = False,
    wait: Annotated[float, typer.Option(help="Wait so many seconds until all that can move has moved.")] = 0,
) -> None:
    """Move away what may move, and take nothing new. Shows each instance: it moves, waits, goes, or stays and why."""
    session = session_of(context)
    path = f"/api/v1/hosts/{path_of(name)}/drain"
    if not status:
        session.client.post(path, {"reason": reason, "max_unavailable": max_unavailable})
    found = _finished(session, path, wait) if wait else session.client.get(path)["data"]
    if session.output.as_json:
        session.output.item(found, "")
        return
    session.output.rows(found["instances"], _DRAINED)
    what = "Everything that can move has moved" if found["finished"] else f"{name} is {found['standing']['standing']}"
    counts = ", ".join(f"{count} {leaving}" for leaving, count in found["counts"].items() if count)
    session.output.item(found, f"{what}{f': {counts}' if counts else ''}.")


def host_room(context: typer.Context, idc_name: Annotated[str | None, typer.Option("--idc")] = None) -> None:
    """What each host has for instances after reserves and overcommit, and how much is promised."""
    session = session_of(context)
    session.output.rows(session.client.every("/api/v1/room", idc=idc_name), _ROOM)


def host_capacity(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="id or idc/name of a host; empty with --idc or --platform")] = "",
    idc_name: Annotated[str, typer.Option("--idc", help="For the hosts of a data centre.")] = "",
    platform: Annotated[bool, typer.Option("--platform", help="For every host.")] = False,
    reserve_cpus: Annotated[float | None, typer.Option(help="Cores kept back.")] = None,
    reserve_memory_bytes: Annotated[int | None, typer.Option(help="Memory kept back.")] = None,
    cpu_overcommit: Annotated[float | None, typer.Option(help="How many times over CPUs may be promised.")] = None,
    memory_overcommit: Annotated[float | None, typer.Option(help="The same for memory.")] = None,
) -> None:
    """Say what is kept back on hosts and promised several times over; without a scope, show what was said."""
    session = session_of(context)
    if not (name or idc_name or platform):
        columns = {"scope": "SCOPE", "name": "NAME", "reserve_cpus": "RESERVE CPUS", "cpu_overcommit": "CPU TIMES"}
        columns |= {"reserve_memory_bytes": "RESERVE MEMORY", "memory_overcommit": "MEMORY TIMES"}
        session.output.rows(session.client.get("/api/v1/capacity")["data"], columns)
        return
    body = {
        "reserve_cpus": reserve_cpus,
        "reserve_memory_bytes": reserve_memory_bytes,
        "cpu_overcommit": cpu_overcommit,
        "memory_overcommit": memory_overcommit,
    }
    where = f"/hosts/{path_of(name)}" if name else f"/idcs/{path_of(idc_name)}" if idc_name else ""
    made = session.client.put(f"/api/v1{where}/capacity", body)["data"]
    session.output.item(made, f"Capacity of {made['scope']} {made['name']}".strip() + " set.")


def _finished(session: Session, path: str, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = session.client.get(path)["data"]
        if found["finished"]:
            return found
        if time.monotonic() > deadline:
            left = [f"{one['tenant']}/{one['name']}: {one['detail']}" for one in found["instances"]]
            raise Unavailable("not drained yet: " + "; ".join(left[:5]), action="wait longer, or see --status")
        time.sleep(0.5)
