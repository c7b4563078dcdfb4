"""`longshore audit ...`: reading the audit trail, proving it whole, exporting and pruning it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlencode

import typer

from common.errors import Conflict
from control_plane.cli.client import Client
from control_plane.cli.context import session_of
from control_plane.cli.failures import failure_of

audit = typer.Typer(help="Who did what, when, from where.", no_args_is_help=True)

Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Operation = Annotated[str | None, typer.Option(help="Only this operation, such as registry.push.")]
Operator = Annotated[str | None, typer.Option(help="Only by this user or robot.")]
Repository = Annotated[str | None, typer.Option(help="Only on this repository.")]
Outcome = Annotated[str | None, typer.Option(help="Only success, failure or denied.")]
Since = Annotated[str | None, typer.Option(help="From this time on: 2026-03-01T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Before this time.")]
_PIECE = 1 << 20


@audit.command("list")
def audit_list(
    context: typer.Context,
    tenant: Tenant = None,
    operation: Operation = None,
    operator: Operator = None,
    repository: Repository = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
) -> None:
    """Entries, the newest first."""
    session = session_of(context)
    query = _query(tenant, operation, operator, repository, outcome, since, until)
    rows: list[dict[str, Any]] = []
    before: int | None = None
    while len(rows) < limit:
        page = session.client.get("/api/v1/audit", **query, before=before, limit=min(1000, limit - len(rows)))
        rows.extend(page["data"])
        before = page["next_before"]
        if before is None:
            break
    session.output.rows(
        rows,
        {
            "sequence": "NUMBER",
            "occurred_at": "TIME",
            "operator": "WHO",
            "operation": "WHAT",
            "outcome": "OUTCOME",
            "tenant": "TENANT",
            "repository": "REPOSITORY",
            "tag": "TAG",
            "subject": "SUBJECT",
            "client": "FROM",
        },
    )


@audit.command("verify")
def audit_verify(
    context: typer.Context,
    anchor: Annotated[
        list[str] | None, typer.Option(help="NUMBER:HASH that you know from the log; may be repeated.")
    ] = None,
) -> None:
    """Recompute the whole chain, and compare it with anchors that you kept. Ends with 6 if it does not hold."""
    session = session_of(context)
    verdict = _verified(session.client)
    if not verdict["whole"]:
        raise Conflict(
            f"the audit trail does not hold at entry {verdict['broken']}: {verdict['why']}",
            action="keep a copy of the database as it is, and find out who could write to it",
        )
    for known in anchor or ():
        _compare(session.client, known)
    last = verdict["last"]
    session.output.item(
        {"whole": True, "checked": verdict["checked"], "last": last},
        f"{verdict['checked']} entries hold, up to {last['sequence']}:{last['hash']}",
    )


@audit.command("anchors")
def audit_anchors(context: typer.Context) -> None:
    """The head of the chain as it was each day; keep them elsewhere."""
    session = session_of(context)
    rows = session.client.get("/api/v1/audit/anchors")["data"]["anchors"]
    session.output.rows(rows, {"made_at": "TIME", "sequence": "NUMBER", "hash": "HASH"})


@audit.command("export")
def audit_export(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="File for JSON lines; - for standard output.")],
    tenant: Tenant = None,
    operation: Operation = None,
    operator: Operator = None,
    repository: Repository = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    through: Annotated[int | None, typer.Option(help="Only up to this number.")] = None,
) -> None:
    """Entries as JSON lines, in order. The SHA-256 is what `audit prune` asks for."""
    session = session_of(context)
    query = _query(tenant, operation, operator, repository, outcome, since, until)
    given = urlencode({name: value for name, value in {**query, "through": through}.items() if value is not None})
    if str(path) == "-":
        _copy(session.client, given, sys.stdout.buffer)
        return
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as target:
            digest, size = _copy(session.client, given, target)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    session.output.item({"path": str(path), "bytes": size, "sha256": digest}, f"{path}: {size} bytes, SHA-256 {digest}")


@audit.command("prune")
def audit_prune(
    context: typer.Context,
    through: Annotated[int, typer.Option(help="The last entry to let go.")],
    export: Annotated[Path, typer.Option(help="The export of all entries up to it, which you keep.")],
) -> None:
    """Let the beginning of the trail go, after it was exported. A checkpoint keeps its last hash."""
    session = session_of(context)
    with export.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    made = session.client.post("/api/v1/audit/prune", {"through": through, "sha256": digest})["data"]
    session.output.item(made, f"Entries up to {made['sequence']} are gone; their last hash is {made['hash']}.")


def _verified(client: Client) -> dict[str, Any]:
    """The verdict over the whole chain, stretch by stretch."""
    checked = 0
    position: dict[str, Any] = {}
    while True:
        verdict: dict[str, Any] = client.get("/api/v1/audit/verification", **position)["data"]
        checked += verdict["checked"]
        following = verdict["next"]
        if not verdict["whole"] or following is None:
            return {**verdict, "checked": checked}
        position = {"after": following["sequence"], "after_hash": following["hash"]}


def _compare(client: Client, known: str) -> None:
    number, _, digest = known.partition(":")
    entry = client.get(f"/api/v1/audit/{int(number) if number.isdigit() else 0}")["data"]
    if entry["hash"] != digest:
        raise Conflict(
            f"entry {number} has another hash than the anchor {known[:100]}",
            action="the chain was computed anew: keep a copy of the database, and find out who could write to it",
        )


def _copy(client: Client, query: str, target: BinaryIO) -> tuple[str, int]:
    answer = client.raw("GET", f"/api/v1/audit/export?{query}", stream=True)
    if answer.status >= 400:
        raise failure_of(answer.status, answer.read(), "GET /api/v1/audit/export")
    digest, size = hashlib.sha256(), 0
    for piece in answer.stream(_PIECE):
        digest.update(piece)
        size += len(piece)
        target.write(piece)
    return digest.hexdigest(), size


def _query(
    tenant: str | None,
    operation: str | None,
    operator: str | None,
    repository: str | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, str | None]:
    return {
        "tenant": tenant,
        "operation": operation,
        "operator": operator,
        "repository": repository,
        "outcome": outcome,
        "since": since,
        "until": until,
    }
