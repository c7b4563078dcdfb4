"""`longshore install ...`: installations of machines, from being asked for to their end."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from common.errors import Unavailable
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of
from control_plane.cli.machines import Machine

install = typer.Typer(help="Installations: ask for them, approve them, watch them.", no_args_is_help=True)

TaskId = Annotated[str, typer.Argument(help="its id")]
_Reason = Annotated[str, typer.Option(help="For people.")]
_Window = Annotated[float, typer.Option(help="Hours within which the machine must begin.")]
_Retries = Annotated[int, typer.Option(help="Further tries after a failure; each may wipe again.")]
_Power = Annotated[
    bool, typer.Option("--power", help="Restart it into the network by its BMC; one without a BMC waits.")
]
_OVER = ("completed", "failed", "cancelled", "rejected")
_COLUMNS = {
    "id": "ID",
    "idc": "IDC",
    "machine_id": "MACHINE",
    "profile": "PROFILE",
    "version": "VERSION",
    "state": "STATE",
    "percent": "%",
    "attempt": "TRY",
    "detail": "DETAIL",
}


@install.command("ask")
def ask(
    context: typer.Context,
    machine: Machine,
    profile: Annotated[str, typer.Argument(help="id, tenant/name, or the name of one of the platform's")],
    version: Annotated[int | None, typer.Option(help="The newest if left out.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Approve it at once.")] = False,
    power: _Power = False,
) -> None:
    """Ask for an installation. Images are resolved now; it waits for approval."""
    session = session_of(context)
    body = {"machine": machine, "profile": profile, "version": version}
    made = session.client.post("/api/v1/install-tasks", body)["data"]
    if approve:
        made = session.client.post(f"/api/v1/install-tasks/{made['id']}/approve", {"power": power})["data"]
    session.output.item(made, f"Install task {made['id']}: {_stands(made)}.")


@install.command("approve")
def approve_(
    context: typer.Context, task_id: TaskId, window: _Window = 24.0, retries: _Retries = 0, power: _Power = False
) -> None:
    """Let it begin when the machine boots next. This is what wipes the disk."""
    _do(context, task_id, "approve", {"window_seconds": window * 3600, "retries": retries, "power": power})


@install.command("reject")
def reject(context: typer.Context, task_id: TaskId, reason: _Reason = "") -> None:
    """Refuse it; it is over."""
    _do(context, task_id, "reject", {"reason": reason})


@install.command("cancel")
def cancel(context: typer.Context, task_id: TaskId, reason: _Reason = "") -> None:
    """A machine that has not begun boots its disk; one that has is told to stop."""
    _do(context, task_id, "cancel", {"reason": reason})


@install.command("retry")
def retry(context: typer.Context, task_id: TaskId, window: _Window = 24.0, power: _Power = False) -> None:
    """Another permission for one that failed or was cancelled."""
    _do(context, task_id, "retry", {"window_seconds": window * 3600, "power": power})


@install.command("list")
def listed(
    context: typer.Context,
    idc: Annotated[str | None, typer.Option("--idc", help="Only of this data centre.")] = None,
    machine: Annotated[str | None, typer.Option(help="id or idc/name")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
) -> None:
    """Newest first."""
    session = session_of(context)
    found = session.client.every("/api/v1/install-tasks", idc=idc, machine=machine, state=state)
    session.output.rows(found, _COLUMNS)


@install.command("show")
def show(context: typer.Context, task_id: TaskId) -> None:
    """How far it is, step by step, and what happened to it."""
    session = session_of(context)
    path = f"/api/v1/install-tasks/{path_of(task_id)}"
    found = session.client.get(path)["data"]
    history = session.client.get(f"{path}/history")["data"]
    if session.output.as_json:
        session.output.item({**found, "history": history}, "")
        return
    session.output.remark(f"{found['profile']}@{found['version']} on {found['machine_id']}: {_stands(found)}")
    session.output.rows(found["steps"], {"what": "STEP", "phase": "PHASE", "percent": "%", "detail": "DETAIL"})
    session.output.rows(history, {"at": "AT", "state": "STATE", "attempt": "TRY", "by": "BY", "detail": "DETAIL"})


@install.command("logs")
def logs(
    context: typer.Context,
    task_id: TaskId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it is over.")] = False,
) -> None:
    """What its installer wrote."""
    session = session_of(context)
    path = f"/api/v1/install-tasks/{path_of(task_id)}"
    seen = 0
    while True:
        over = session.client.get(path)["data"]["state"] in _OVER
        lines = session.client.every(f"{path}/logs", after=seen)
        if session.output.as_json and not follow:
            session.output.rows(lines, {})
            return
        for line in lines:
            seen = line["number"]
            session.output.item(line, f"{line['at']} {line['step']}: {line['text']}")
        if over or not follow:
            return
        time.sleep(1.0)


@install.command("wait")
def wait(
    context: typer.Context,
    task_id: TaskId,
    seconds: Annotated[float, typer.Option(help="At most so long.")] = 3600.0,
) -> None:
    """Until it is over. Fails unless it was completed."""
    session = session_of(context)
    found = _ended(session, f"/api/v1/install-tasks/{path_of(task_id)}", seconds)
    session.output.item(found, f"Install task {found['id']}: {_stands(found)}.")
    if found["state"] != "completed":
        raise typer.Exit(1)


def _ended(session: Session, path: str, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = session.client.get(path)["data"]
        if found["state"] in _OVER:
            return found
        if time.monotonic() > deadline:
            raise Unavailable(f"it is not over: {_stands(found)}", action="wait longer")
        time.sleep(0.5)


def _do(context: typer.Context, task_id: str, verb: str, body: dict[str, Any]) -> None:
    session = session_of(context)
    made = session.client.post(f"/api/v1/install-tasks/{path_of(task_id)}/{verb}", body)["data"]
    session.output.item(made, f"Install task {made['id']}: {_stands(made)}.")


def _stands(found: dict[str, Any]) -> str:
    detail = f": {found['detail']}" if found["detail"] else ""
    progress = f", {found['percent']} %" if found["state"] in ("booting", "installing") else ""
    return f"{found['state']}{progress}{detail}"
