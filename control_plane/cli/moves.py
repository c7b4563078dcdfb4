"""`longshore instance migrate|migration|export|snapshot`: an instance's disk, elsewhere, as a file, and as it was."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from urllib3.exceptions import HTTPError

from common.errors import Conflict, Failure, Unavailable
from control_plane.cli.channels import found
from control_plane.cli.client import path_of
from control_plane.cli.commands import ended
from control_plane.cli.context import Session, session_of
from control_plane.cli.failures import failure_of

snapshot = typer.Typer(help="An instance's disk as it was (LXD).", no_args_is_help=True)

_Instance = Annotated[str, typer.Argument(help="Name or id.")]
_Tenant = Annotated[str | None, typer.Option(help="Whose instance, if several have the name.")]
_Host = Annotated[str | None, typer.Option(help="idc/name or id of the host, if several run it.")]
_Wait = Annotated[float, typer.Option(help="Wait so many seconds for the outcome.")]
_ENDED = {"done", "failed", "cancelled"}
# It runs at the target and is well; what is left is tidied up.
_THERE = {"clearing", "done"}
_READ_BYTES = 1 << 20


class MigrationFailed(Failure):
    code = "migration_failed"


def add_to(instance: typer.Typer) -> None:
    instance.command("migrate")(migrate)
    instance.command("migration")(migration)
    instance.command("export")(export)
    instance.add_typer(snapshot, name="snapshot")


def migrate(
    context: typer.Context,
    instance: _Instance,
    to: Annotated[str, typer.Option("--to", help="idc/name or id of the host where it is to go.")],
    within: Annotated[int, typer.Option(help="Taken back if its copy is not there after so many seconds.")] = 3600,
    wait: _Wait = 0,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """Move an LXD instance to another host: it is stopped, copied, started there. It comes back if anything fails."""
    session = session_of(context)
    path = f"/api/v1/instances/{found(session, instance, tenant, host)['id']}/migration"
    row = session.client.post(path, {"host": to, "within_seconds": within})["data"]
    if wait:
        row = _settled(session, path, row, wait)
    session.output.item(row, f"{row['name']} to {row['target_host']}: {row['stage']}. {row['detail']}".rstrip())


def migration(
    context: typer.Context,
    instance: _Instance,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take it back.")] = False,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """The present or last migration of an instance."""
    session = session_of(context)
    path = f"/api/v1/instances/{found(session, instance, tenant, host)['id']}/migration"
    row = (session.client.delete(path) if cancel else session.client.get(path))["data"]
    session.output.details(row)


def export(
    context: typer.Context,
    instance: _Instance,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    snapshots: Annotated[bool, typer.Option("--snapshots", help="With its snapshots (LXD).")] = False,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """All of an instance as a tar archive: of LXD a backup, of Docker its file system."""
    session = session_of(context)
    row = found(session, instance, tenant, host)
    # Beside it, so that a file of that name is always a whole archive.
    partial = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        count = _download(session, f"/api/v1/instances/{row['id']}/export?snapshots={str(snapshots).lower()}", partial)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    session.output.item({"file": str(output), "bytes": count}, f"Wrote {count} bytes to {output}.")


@snapshot.command("list")
def snapshot_list(context: typer.Context, instance: _Instance, tenant: _Tenant = None, host: _Host = None) -> None:
    """Oldest first; its host is asked."""
    session = session_of(context)
    rows = session.client.get(_snapshots(session, instance, tenant, host))["data"]
    session.output.rows(rows, {"name": "NAME", "created_at": "TAKEN", "size_bytes": "BYTES"})


@snapshot.command("create")
def snapshot_create(
    context: typer.Context,
    instance: _Instance,
    name: str,
    wait: _Wait = 60,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """Keep its disk as it is now; one of that name that is there stays as it is."""
    session = session_of(context)
    body = {"name": name, "id": str(uuid.uuid4())}
    made = session.client.post(_snapshots(session, instance, tenant, host), body)["data"]
    _tell(session, made, wait, f"Snapshot {name}")


@snapshot.command("restore")
def snapshot_restore(
    context: typer.Context,
    instance: _Instance,
    name: str,
    wait: _Wait = 60,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """Its disk as it was then; what was written since is lost."""
    session = session_of(context)
    path = f"{_snapshots(session, instance, tenant, host)}/{path_of(name)}/restore?id={uuid.uuid4()}"
    _tell(session, session.client.post(path)["data"], wait, f"Restoring {name}")


@snapshot.command("rm")
def snapshot_rm(
    context: typer.Context,
    instance: _Instance,
    name: str,
    wait: _Wait = 60,
    tenant: _Tenant = None,
    host: _Host = None,
) -> None:
    """Delete a snapshot."""
    session = session_of(context)
    path = f"{_snapshots(session, instance, tenant, host)}/{path_of(name)}"
    _tell(session, session.client.delete(path, id=str(uuid.uuid4()))["data"], wait, f"Deleting {name}")


def _snapshots(session: Session, instance: str, tenant: str | None, host: str | None) -> str:
    return f"/api/v1/instances/{found(session, instance, tenant, host)['id']}/snapshots"


def _tell(session: Session, made: dict[str, Any], wait: float, what: str) -> None:
    made = ended(session, made, wait) if wait else made
    session.output.item(made, f"{what}: {made['state']}.")


def _settled(session: Session, path: str, row: dict[str, Any], seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while row["stage"] not in _ENDED | _THERE:
        if time.monotonic() > deadline:
            raise Unavailable(f"it is {row['stage']} still", action="see `longshore instance migration`")
        time.sleep(0.3)
        row = session.client.get(path)["data"]
    if row["stage"] not in _THERE:
        raise MigrationFailed(f"{row['stage']}: {row['detail']}", action="it is where it was; mend that and try again")
    return row


def _download(session: Session, path: str, file: Path) -> int:
    answer = session.client.raw("GET", path, headers={"Accept": "*/*"}, stream=True, read_seconds=None)
    count = 0
    try:
        if answer.status >= 400:
            raise failure_of(answer.status, answer.data, f"GET {path}")
        with file.open("wb") as opened:
            for chunk in answer.stream(_READ_BYTES):
                count += opened.write(chunk)
    except HTTPError as error:
        raise Conflict(
            f"the export broke off after {count} bytes", action="see the log of its host, and try again"
        ) from error
    finally:
        answer.close()
    return count
