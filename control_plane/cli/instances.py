"""`longshore instance run|list|show|start|stop|pause|resume|restart|rm`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from common.errors import Failure, Invalid, Unavailable
from common.reference import Reference
from control_plane.cli import instance_words as words
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of

instance = typer.Typer(help="Containers that tenants want to run.", no_args_is_help=True)

_COLUMNS = {
    "tenant": "TENANT",
    "name": "NAME",
    "idc": "IDC",
    "host": "HOST",
    "image": "IMAGE",
    "desired_state": "WANTED",
    "phase": "PHASE",
    "health": "HEALTH",
    "contents.held_bytes": "HELD",
    "detail": "DETAIL",
    "id": "ID",
}
_SETTLED = {"running": {"running"}, "paused": {"paused"}, "stopped": {"stopped"}, "held": {"verified"}}


class InstanceFailed(Failure):
    code = "instance_failed"


@instance.command("run")
def instance_run(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="tenant/repository:tag")],
    command: Annotated[list[str] | None, typer.Argument(help="Instead of the image's own command.")] = None,
    name: Annotated[str, typer.Option(help="Unique in the tenant and host.")] = "",
    host: Annotated[list[str] | None, typer.Option(help="idc/name or id; may be repeated.")] = None,
    idc: Annotated[str | None, typer.Option(help="Every host of this data centre.")] = None,
    all_hosts: Annotated[bool, typer.Option("--all-hosts", help="Every host.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    publish: Annotated[list[str] | None, typer.Option("--publish", "-p", help="[IP:][PORT:]PORT[/udp]")] = None,
    volume: Annotated[
        list[str] | None, typer.Option("--volume", "-v", help="VOLUME:PATH[:ro], or a path: HOST.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="NAME=VALUE; may be repeated.")] = None,
    cpus: Annotated[float, typer.Option(help="CPU cores; 0: no limit.")] = 0,
    cpu_set: Annotated[str, typer.Option(help="Cores it may use, as 0-2,5.")] = "",
    memory_bytes: Annotated[int, typer.Option(help="Memory limit; 0: none.")] = 0,
    disk_bytes: Annotated[int, typer.Option(help="Limit of its own disk; 0: none.")] = 0,
    network: Annotated[str, typer.Option(help="bridge, none, host, or one of the engine's.")] = "",
    hostname: Annotated[str, typer.Option(help="Its own host name.")] = "",
    user: Annotated[str, typer.Option("--user", "-u", help="Name, uid or uid:gid.")] = "",
    workdir: Annotated[str, typer.Option("--workdir", "-w", help="Instead of the image's.")] = "",
    privileged: Annotated[bool, typer.Option("--privileged", help="Where the host's agent allows it.")] = False,
    held: Annotated[bool, typer.Option("--held", help="Fetch and verify the image, run nothing.")] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Start it, and let it stand still.")] = False,
    adopt: Annotated[
        str, typer.Option(help="Engine id or name of a container of that host to make the instance.")
    ] = "",
    recreate: Annotated[bool, typer.Option("--recreate", help="Replace a container that does not fit.")] = False,
    wait: Annotated[float, typer.Option(help="Wait so many seconds until it runs.")] = 0,
) -> None:
    """Ask for an instance on each of the given hosts."""
    session, reference = session_of(context), Reference.parse(image)
    body: dict[str, Any] = {
        "tenant": reference.tenant,
        "name": name or reference.repository.rpartition("/")[2],
        "image": str(reference),
        "desired_state": "held" if held else "paused" if paused else "running",
        "environment": dict(words.pair(text) for text in env or ()),
        "ports": [words.port(text) for text in publish or ()],
        "cpus": cpus,
        "memory_bytes": memory_bytes,
    }
    body |= words.given(
        command=command,
        mounts=[words.mount(text) for text in volume or ()],
        labels=dict(words.pair(text) for text in label or ()),
        cpu_set=cpu_set,
        disk_bytes=disk_bytes,
        network=network,
        hostname=hostname,
        user=user,
        working_dir=workdir,
        privileged=privileged,
        adopt={"container": adopt, "recreate": recreate} if adopt or recreate else None,
    )
    rows = session.client.post("/api/v1/instances", body | _where(host, idc, all_hosts))["data"]
    if wait:
        rows = _wait(session, rows, wait)
    session.output.rows(rows, _COLUMNS)


@instance.command("list")
def instance_list(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option()] = None,
    host: Annotated[str | None, typer.Option()] = None,
    idc: Annotated[str | None, typer.Option()] = None,
    name: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Instances of the tenants that you may see."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/instances", tenant=tenant, host=host, idc=idc, name=name), _COLUMNS
    )


@instance.command("show")
def instance_show(context: typer.Context, instance_id: str) -> None:
    """One instance: what is wanted, and what its host says."""
    session = session_of(context)
    row = session.client.get(f"/api/v1/instances/{path_of(instance_id)}")["data"]
    session.output.details(row)


@instance.command("start")
def instance_start(context: typer.Context, instance_id: str) -> None:
    """Want it running."""
    _act(session_of(context), instance_id, "start")


@instance.command("stop")
def instance_stop(context: typer.Context, instance_id: str) -> None:
    """Want it stopped; its container stays."""
    _act(session_of(context), instance_id, "stop")


@instance.command("pause")
def instance_pause(context: typer.Context, instance_id: str) -> None:
    """Want its processes to stand still."""
    _act(session_of(context), instance_id, "pause")


@instance.command("resume")
def instance_resume(context: typer.Context, instance_id: str) -> None:
    """Want it to go on after a pause."""
    _act(session_of(context), instance_id, "resume")


@instance.command("restart")
def instance_restart(context: typer.Context, instance_id: str) -> None:
    """Stop and start it once."""
    _act(session_of(context), instance_id, "restart")


@instance.command("rm")
def instance_rm(
    context: typer.Context,
    instance_id: str,
    force: Annotated[bool, typer.Option("--force", help="Forget it even if its host never answers.")] = False,
) -> None:
    """Remove an instance; its host removes the container and then reports it gone."""
    session = session_of(context)
    session.client.delete(f"/api/v1/instances/{path_of(instance_id)}", force="true" if force else None)
    session.output.item({"id": instance_id, "removed": True}, f"Instance {instance_id} is being removed.")


def _where(hosts: list[str] | None, idc: str | None, all_hosts: bool) -> dict[str, Any]:
    if not (hosts or idc or all_hosts):
        raise Invalid("no host was named", action="give --host, --idc or --all-hosts")
    return {"hosts": hosts} if hosts else {"idc": idc} if idc else {"all_hosts": True}


def _act(session: Session, instance_id: str, verb: str) -> None:
    row = session.client.post(f"/api/v1/instances/{path_of(instance_id)}/{verb}")["data"]
    session.output.item(row, f"{row['name']} on {row['host']}: {row['desired_state']} wanted, {row['phase']} now.")


def _wait(session: Session, rows: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + seconds
    while True:
        rows = [session.client.get(f"/api/v1/instances/{row['id']}")["data"] for row in rows]
        if all(row["phase"] in _SETTLED.get(row["desired_state"], set()) for row in rows):
            return rows
        if time.monotonic() > deadline:
            late = [f"{row['host']}: {row['phase']} {row['detail']}".strip() for row in rows]
            if any(row["phase"] == "failed" for row in rows):
                raise InstanceFailed("; ".join(late), action="see `longshore instance list`")
            raise Unavailable("not there yet: " + "; ".join(late), action="wait longer, or look at the hosts")
        time.sleep(0.5)
