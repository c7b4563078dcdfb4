"""`longshore agent-rollout ...`: which version of the agent hosts shall run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

agent_rollout = typer.Typer(
    help="Have hosts run another version of the agent: a canary first, then some, then all.", no_args_is_help=True
)

RolloutId = Annotated[str, typer.Argument(help="its id")]


@agent_rollout.command("begin")
def begin(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="tenant/repository:tag; the tag is resolved now")],
    version: Annotated[str | None, typer.Option(help="What to call it; the tag if left out.")] = None,
    idc: Annotated[list[str] | None, typer.Option("--idc", help="Only hosts of this IDC; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Only hosts with KEY=VALUE.")] = None,
    host: Annotated[list[str] | None, typer.Option("--host", help="This host: id or idc/name.")] = None,
    canaries: Annotated[int, typer.Option(help="Hosts of the first wave.")] = 1,
    percentage: Annotated[float, typer.Option(help="Of all hosts, in the first two waves together.")] = 10.0,
    bake: Annotated[float, typer.Option(help="Seconds that a wave must be well before the next.")] = 600.0,
    max_failures: Annotated[int, typer.Option(help="Hosts that may fail after the first wave.")] = 0,
    healthy: Annotated[float, typer.Option(help="Seconds that it must stay attached to be trusted.")] = 60.0,
    patience: Annotated[float, typer.Option(help="Seconds within which it must have become so.")] = 300.0,
) -> None:
    """Begin. Hosts that cannot get well with it go back by themselves, and the rollout halts."""
    session = session_of(context)
    body = {
        "image": image,
        "version": version,
        "targets": {"idcs": idc or [], "labels": dict(_label(text) for text in label or []), "hosts": host or []},
        "pace": {
            "canaries": canaries,
            "percentage": percentage,
            "bake_seconds": bake,
            "max_failures": max_failures,
            "healthy_seconds": healthy,
            "patience_seconds": patience,
        },
    }
    made = session.client.post("/api/v1/agent-rollouts", body)["data"]
    session.output.item(made, f"Rollout {made['id']} of {image}: {_stands(made)}.")


@agent_rollout.command("list")
def listed(
    context: typer.Context, ended: Annotated[bool, typer.Option("--ended", help="Also those that are over.")] = False
) -> None:
    """Rollouts, newest first."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/agent-rollouts", ended=str(ended).lower()),
        {
            "id": "ID",
            "version": "VERSION",
            "image": "IMAGE",
            "state": "STATE",
            "wave": "WAVE",
            "reason": "REASON",
            "created_by": "BY",
        },
    )


@agent_rollout.command("show")
def show(context: typer.Context, rollout_id: RolloutId) -> None:
    """Where it stands, host by host."""
    session = session_of(context)
    path = f"/api/v1/agent-rollouts/{path_of(rollout_id)}"
    found = session.client.get(path)["data"]
    hosts = session.client.every(f"{path}/hosts")
    if session.output.as_json:
        session.output.item({**found, "hosts": hosts}, "")
        return
    session.output.remark(f"{found['version']} ({found['image']}): {_stands(found)}")
    session.output.rows(
        hosts,
        {"wave": "WAVE", "idc": "IDC", "host": "HOST", "phase": "PHASE", "version": "VERSION", "detail": "DETAIL"},
    )


@agent_rollout.command("resume")
def resume(context: typer.Context, rollout_id: RolloutId) -> None:
    """Let one that halted go on; hosts that failed try again."""
    session = session_of(context)
    found = session.client.post(f"/api/v1/agent-rollouts/{path_of(rollout_id)}/resume", {})["data"]
    session.output.item(found, f"Rollout {found['id']}: {_stands(found)}.")


@agent_rollout.command("cancel")
def cancel(context: typer.Context, rollout_id: RolloutId) -> None:
    """Tell no further host; those that were told keep what they run."""
    session = session_of(context)
    session.client.delete(f"/api/v1/agent-rollouts/{path_of(rollout_id)}")
    session.output.item({"id": rollout_id, "cancelled": True}, f"Rollout {rollout_id} cancelled.")


def _stands(found: dict[str, Any]) -> str:
    reason = f": {found['reason']}" if found["reason"] else ""
    return f"{found['state']}, wave {found['wave']} of 3{reason}"


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"{text!r} is no label", action="write KEY=VALUE")
    return key, value
