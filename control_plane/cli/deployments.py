"""`longshore deployment run|list|show|scale|rm`, and what `deployment_rollouts` adds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from common.errors import Invalid
from common.reference import Reference
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of
from control_plane.cli.deployment_rollouts import rollout, set_image

deployment = typer.Typer(help="Instances by rules instead of on named hosts.", no_args_is_help=True)
deployment.command("set-image")(set_image)
deployment.add_typer(rollout, name="rollout")

_COLUMNS = {
    "tenant": "TENANT",
    "name": "NAME",
    "image": "IMAGE",
    "rules.count": "WANTED",
    "running": "RUNNING",
    "unplaced": "UNPLACED",
    "revision": "REVISION",
    "rollout": "ROLLOUT",
    "why": "WHY",
    "id": "ID",
}


@deployment.command("run")
def deployment_run(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="tenant/repository:tag")],
    command: Annotated[list[str] | None, typer.Argument(help="Instead of the image's own command.")] = None,
    name: Annotated[str, typer.Option(help="Unique in the tenant.")] = "",
    count: Annotated[int, typer.Option(help="How many.")] = 1,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="One on every host that fits.")] = False,
    idc: Annotated[list[str] | None, typer.Option(help="Only in this data centre; may be repeated.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, KEY in (A,B), !KEY ...; may be repeated.")] = None,
    spread: Annotated[list[str] | None, typer.Option(help="idc or a label's key, [:MAX_SKEW].")] = None,
    near: Annotated[list[str] | None, typer.Option(help="On a host that has this instance or deployment.")] = None,
    apart: Annotated[list[str] | None, typer.Option(help="On a host that has it not.")] = None,
    per_host: Annotated[int, typer.Option(help="How many of them one host may have.")] = 1,
    cpus: Annotated[float, typer.Option(help="CPU cores; 0: no limit.")] = 0,
    memory_bytes: Annotated[int, typer.Option(help="Memory; 0: no limit.")] = 0,
    reschedule_after: Annotated[int, typer.Option(help="Seconds a host may be away; 0: for ever.")] = 0,
    state_may_be_lost: Annotated[bool, typer.Option("--state-may-be-lost", help="Volumes do not move.")] = False,
    exclusive: Annotated[bool, typer.Option("--exclusive", help="Its host stops it when nobody reaches it.")] = False,
) -> None:
    """Ask for so many instances, by rules; the answer says where they go, or why they have no place."""
    session = session_of(context)
    reference = Reference.parse(image)
    body: dict[str, Any] = {
        "tenant": reference.tenant,
        "name": name or reference.repository.rpartition("/")[2],
        "image": str(reference),
        "cpus": cpus,
        "memory_bytes": memory_bytes,
        "reschedule_after_seconds": reschedule_after,
        "state_may_be_lost": state_may_be_lost,
        "exclusive": exclusive,
        "rules": {
            "count": count,
            "everywhere": everywhere,
            "idcs": idc or [],
            "where": where or [],
            "spread": [_spread(text) for text in spread or ()],
            "near": near or [],
            "apart": apart or [],
            "per_host": per_host,
        },
    }
    body |= {"command": command} if command else {}
    made = session.client.post("/api/v1/deployments", body)["data"]
    placed = ", ".join(slot["host"] for slot in made["slots"]) or "nowhere yet"
    waits = f" {made['unplaced']} without a place: {made['why']}." if made["unplaced"] else ""
    session.output.item(made, f"Deployment {made['tenant']}/{made['name']}: {placed}.{waits}")


@deployment.command("list")
def deployment_list(context: typer.Context, tenant: Annotated[str | None, typer.Option()] = None) -> None:
    """Deployments of the tenants that you may see."""
    session = session_of(context)
    session.output.rows(session.client.every("/api/v1/deployments", tenant=tenant), _COLUMNS)


@deployment.command("show")
def deployment_show(context: typer.Context, name: Annotated[str, typer.Argument(help="id or tenant/name")]) -> None:
    """One deployment: its rules, where it runs, and why some have no place."""
    session = session_of(context)
    session.output.details(session.client.get(f"/api/v1/deployments/{path_of(name)}")["data"])


@deployment.command("scale")
def deployment_scale(
    context: typer.Context, name: Annotated[str, typer.Argument(help="id or tenant/name")], count: int
) -> None:
    """How many, from now on; the other rules stay."""
    session = session_of(context)
    found = session.client.get(f"/api/v1/deployments/{path_of(name)}")["data"]
    made = session.client.put(f"/api/v1/deployments/{found['id']}/rules", {**found["rules"], "count": count})["data"]
    waits = f"; {made['unplaced']} without a place: {made['why']}" if made["unplaced"] else ""
    session.output.item(made, f"{made['tenant']}/{made['name']}: {count} wanted{waits}.")


@deployment.command("rm")
def deployment_rm(context: typer.Context, name: Annotated[str, typer.Argument(help="id or tenant/name")]) -> None:
    """Remove a deployment with its instances."""
    session = session_of(context)
    found = session.client.get(f"/api/v1/deployments/{path_of(name)}")["data"]
    session.client.delete(f"/api/v1/deployments/{found['id']}")
    session.output.item({"id": found["id"], "removed": True}, f"Deployment {name} is being removed.")


def _spread(text: str) -> dict[str, Any]:
    by, separator, skew = text.rpartition(":")
    if not separator:
        return {"by": text}
    if not skew.isdigit():
        raise Invalid(f"{text!r} is no spread", action="write idc, or KEY:MAX_SKEW")
    return {"by": by, "max_skew": int(skew)}
