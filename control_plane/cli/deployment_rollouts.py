"""`longshore deployment set-image`, `longshore deployment rollout status|pause|resume|undo|history`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from common.errors import Conflict, Unavailable
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of

rollout = typer.Typer(help="How a deployment comes from one revision to the next.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="id or tenant/name")]
_Wait = Annotated[float, typer.Option(help="Wait so many seconds until it is finished; it fails if it is paused.")]
_REVISIONS = {
    "number": "REVISION",
    "image": "IMAGE",
    "cause": "CAUSE",
    "created_by": "BY",
    "created_at": "CREATED",
    "finished_at": "FINISHED",
}


def set_image(
    context: typer.Context,
    name: _Name,
    image: Annotated[str, typer.Argument(help="tenant/repository:tag")],
    max_unavailable: Annotated[int | None, typer.Option(help="How many may not serve because of it.")] = None,
    max_surge: Annotated[int | None, typer.Option(help="How many more there may be meanwhile.")] = None,
    canaries: Annotated[int | None, typer.Option(help="So many first, the others once those are well.")] = None,
    healthy_seconds: Annotated[float | None, typer.Option(help="How long one must be well to count as well.")] = None,
    patience_seconds: Annotated[float | None, typer.Option(help="Within which it must be well.")] = None,
    max_failures: Annotated[int | None, typer.Option(help="How many may fail before it stops.")] = None,
    undo_on_failure: Annotated[
        bool | None, typer.Option("--undo-on-failure/--pause-on-failure", help="What happens then.")
    ] = None,
    wait: _Wait = 0,
) -> None:
    """Another image, rolled out in waves. Without options of pace: as in the last rollout."""
    session = session_of(context)
    wished = {
        "max_unavailable": max_unavailable,
        "max_surge": max_surge,
        "canaries": canaries,
        "healthy_seconds": healthy_seconds,
        "patience_seconds": patience_seconds,
        "max_failures": max_failures,
        "on_failure": None if undo_on_failure is None else "undo" if undo_on_failure else "pause",
    }
    said = {key: value for key, value in wished.items() if value is not None}
    body: dict[str, Any] = {"image": image}
    if said:
        # What is not said stays as it was, field by field.
        body["pace"] = {**session.client.get(_path(name, "rollout"))["data"]["pace"], **said}
    _show(session, session.client.put(_path(name, "image"), body)["data"], wait)


@rollout.command("status")
def rollout_status(context: typer.Context, name: _Name, wait: _Wait = 0) -> None:
    """How far the last rollout is, and what it waits for."""
    session = session_of(context)
    _show(session, session.client.get(_path(name, "rollout"))["data"], wait)


@rollout.command("pause")
def rollout_pause(context: typer.Context, name: _Name) -> None:
    """Tell nobody more; who was told goes on."""
    session = session_of(context)
    _show(session, session.client.post(_path(name, "rollout/pause"))["data"], 0)


@rollout.command("resume")
def rollout_resume(context: typer.Context, name: _Name, wait: _Wait = 0) -> None:
    """Go on; failures until now are forgiven."""
    session = session_of(context)
    _show(session, session.client.post(_path(name, "rollout/resume"))["data"], wait)


@rollout.command("undo")
def rollout_undo(
    context: typer.Context,
    name: _Name,
    to: Annotated[int | None, typer.Option(help="The revision to go back to; left out: the one before.")] = None,
    wait: _Wait = 0,
) -> None:
    """Back to a former revision, at the pace of the last rollout."""
    session = session_of(context)
    _show(session, session.client.post(_path(name, "rollout/undo"), {"to": to})["data"], wait)


@rollout.command("history")
def rollout_history(context: typer.Context, name: _Name) -> None:
    """What it runs and ran, the newest first."""
    session = session_of(context)
    session.output.rows(session.client.get(_path(name, "revisions"))["data"]["revisions"], _REVISIONS)


def _path(name: str, what: str) -> str:
    return f"/api/v1/deployments/{path_of(name)}/-/{what}"


def _show(session: Session, found: dict[str, Any], wait: float) -> None:
    if wait:
        found = _finished(session, found, wait)
    words = f"{found['tenant']}/{found['name']} revision {found['revision']} ({found['image']}) is {found['state']}"
    counts = f"{found['updated']} of {found['total']} told, {found['running']} running"
    reason = f": {found['reason']}" if found["reason"] else ""
    session.output.item(found, f"{words}: {counts}{reason}.")


def _finished(session: Session, found: dict[str, Any], wait: float) -> dict[str, Any]:
    """Raises `Conflict` when it is paused, `Unavailable` when the time is over."""
    deadline = time.monotonic() + wait
    while found["state"] == "going":
        if time.monotonic() > deadline:
            raise Unavailable(
                f"not finished yet: {found['updated']} of {found['total']} told; {found['reason']}",
                action="wait longer, or see `longshore deployment rollout status`",
            )
        time.sleep(0.5)
        found = dict(session.client.get(f"/api/v1/deployments/{found['id']}/-/rollout")["data"])
    if found["state"] == "paused":
        raise Conflict(
            f"the rollout is paused: {found['reason']}",
            action="mend it and `longshore deployment rollout resume`, or `undo`",
        )
    return found
