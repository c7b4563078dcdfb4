"""`longshore replication ...`: copying images to and from other registries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import Conflict, Invalid, NotFound
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of

replication = typer.Typer(help="Copy images to and from other registries, by rules.", no_args_is_help=True)
endpoint = typer.Typer(help="Other registries.", no_args_is_help=True)
rule = typer.Typer(help="What is copied where, and when.", no_args_is_help=True)
replication.add_typer(endpoint, name="endpoint")
replication.add_typer(rule, name="rule")

_ROOT = "/api/v1/replication"
Tenant = Annotated[str | None, typer.Option(help="Whose; absent: the platform's, or all that you administer.")]
Username = Annotated[str | None, typer.Option("--username", "-u", help="There; with --password-stdin.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password or token from stdin.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Pattern; may be repeated. Default: every tag.")]
Platforms = Annotated[
    list[str] | None, typer.Option("--platform", help="linux/arm64: of multi-arch images only these; may be repeated.")
]
Namespace = Annotated[str | None, typer.Option(help="Put in front of the names at the destination.")]
Strip = Annotated[int | None, typer.Option(help="Components of names left out; -1: all but the last.")]
OnEvent = Annotated[bool | None, typer.Option("--on-event/--no-event", help="Copy what is pushed, when it is.")]
EveryHours = Annotated[float | None, typer.Option(help="Copy everything so often.")]
Cron = Annotated[str | None, typer.Option(help="Or at these times: '30 2 * * 1-5'.")]
TimeZone = Annotated[str | None, typer.Option(help="Of --cron, like Europe/Berlin; UTC if absent.")]
AlsoDelete = Annotated[
    bool | None, typer.Option("--also-delete/--never-delete", help="What it copied and is gone here goes there too.")
]
Override = Annotated[bool | None, typer.Option("--override/--keep-tags", help="Move tags that mean something else.")]
Referrers = Annotated[bool | None, typer.Option("--referrers/--no-referrers", help="With signatures and SBOMs.")]
Rate = Annotated[int | None, typer.Option(help="Most bytes a second of one process.")]
Enabled = Annotated[bool | None, typer.Option("--enable/--disable", help="Heed events and schedule.")]
_NAMED = Annotated[str, typer.Argument(help="Name or id.")]


@endpoint.command("create")
def endpoint_create(
    context: typer.Context,
    name: str,
    url: Annotated[str, typer.Argument(help="[https://]host[:port]")],
    tenant: Tenant = None,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    ca_file: Annotated[Path | None, typer.Option(help="Its certificate authority, PEM.")] = None,
    auth_host: Annotated[list[str] | None, typer.Option(help="Host of its token service, if another.")] = None,
) -> None:
    """Name another registry. Its password is kept sealed and never shown."""
    session = session_of(context)
    body: dict[str, Any] = {"tenant": tenant, "name": name, "url": url, "auth_hosts": auth_host or []}
    if username is not None or password_stdin:
        body["credentials"] = _credentials(username, password_stdin)
    if ca_file is not None:
        body["ca_pem"] = ca_file.read_text()
    made = session.client.post(f"{_ROOT}/endpoints", body)["data"]
    session.output.item(made, f"Endpoint {name} is {made['url']}.")


@endpoint.command("list")
def endpoint_list(context: typer.Context, tenant: Tenant = None) -> None:
    """Registries, by owner and name."""
    session = session_of(context)
    session.output.rows(
        session.client.every(f"{_ROOT}/endpoints", tenant=tenant),
        {"id": "ID", "tenant": "TENANT", "name": "NAME", "url": "URL", "username": "USER", "healthy": "HEALTHY"},
    )


@endpoint.command("check")
def endpoint_check(context: typer.Context, name: _NAMED, tenant: Tenant = None) -> None:
    """Ask it whether it lets us in."""
    session = session_of(context)
    checked = session.client.post(f"{_found(session, 'endpoints', name, tenant)}/check")["data"]
    said = f"{checked['url']} lets us in." if checked["healthy"] else f"{checked['url']}: {checked['trouble']}"
    session.output.item(checked, said)
    if not checked["healthy"]:
        raise typer.Exit(1)


@endpoint.command("login")
def endpoint_login(
    context: typer.Context,
    name: _NAMED,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Forget the credentials.")] = False,
    tenant: Tenant = None,
) -> None:
    """Give it other credentials."""
    session = session_of(context)
    body = {"username": "", "password": ""} if anonymous else _credentials(username, password_stdin)
    path = f"{_found(session, 'endpoints', name, tenant)}/credentials"
    session.output.item(session.client.call("PUT", path, body=body)["data"], f"Endpoint {name} changed.")


@endpoint.command("rm")
def endpoint_rm(context: typer.Context, name: _NAMED, tenant: Tenant = None) -> None:
    """Remove it, once no rule names it."""
    session = session_of(context)
    session.client.delete(_found(session, "endpoints", name, tenant))
    session.output.item({"name": name, "removed": True}, f"Endpoint {name} removed.")


@rule.command("create")
def rule_create(
    context: typer.Context,
    name: str,
    direction: Annotated[str, typer.Argument(help="push or pull")],
    endpoint_name: Annotated[str, typer.Argument(metavar="ENDPOINT")],
    repository: Annotated[list[str], typer.Option("--repository", help="Pattern at the source; may be repeated.")],
    tenant: Tenant = None,
    tag: Tags = None,
    platform: Platforms = None,
    namespace: Namespace = None,
    strip: Strip = None,
    on_event: OnEvent = None,
    every_hours: EveryHours = None,
    cron: Cron = None,
    time_zone: TimeZone = None,
    also_delete: AlsoDelete = None,
    override: Override = None,
    referrers: Referrers = None,
    bytes_per_second: Rate = None,
    enabled: Enabled = None,
) -> None:
    """Copy what fits the patterns to the registry ENDPOINT (push), or from it (pull)."""
    session = session_of(context)
    there = _found(session, "endpoints", endpoint_name, tenant).rpartition("/")[2]
    body = {
        "tenant": tenant,
        "name": name,
        "direction": direction,
        "endpoint_id": there,
        "repositories": repository,
    } | _wishes(
        tags=tag,
        platforms=platform,
        namespace=namespace,
        strip=strip,
        on_event=on_event,
        every_hours=every_hours,
        cron=cron,
        time_zone=time_zone,
        also_delete=also_delete,
        override=override,
        referrers=referrers,
        bytes_per_second=bytes_per_second,
        enabled=enabled,
    )
    made = session.client.post(f"{_ROOT}/rules", body)["data"]
    session.output.item(made, f"Rule {name} made. `longshore replication run {name}` copies what is there already.")


@rule.command("update")
def rule_update(
    context: typer.Context,
    name: _NAMED,
    tenant: Tenant = None,
    repository: Annotated[list[str] | None, typer.Option("--repository", help="In place of all it has.")] = None,
    tag: Tags = None,
    on_event: OnEvent = None,
    every_hours: EveryHours = None,
    cron: Cron = None,
    time_zone: TimeZone = None,
    unscheduled: Annotated[bool, typer.Option("--unscheduled", help="Take its schedule away.")] = False,
    also_delete: AlsoDelete = None,
    override: Override = None,
    bytes_per_second: Rate = None,
    enabled: Enabled = None,
) -> None:
    """Change a rule. What begins later follows it."""
    session = session_of(context)
    body = _wishes(
        repositories=repository,
        tags=tag,
        on_event=on_event,
        every_hours=every_hours,
        cron=cron,
        time_zone=time_zone,
        also_delete=also_delete,
        override=override,
        bytes_per_second=bytes_per_second,
        enabled=enabled,
    )
    body |= _in_place_of_its_schedule(every_hours, cron, unscheduled)
    if not body:
        raise Invalid("there is nothing to change", action="see `longshore replication rule update --help`")
    changed = session.client.call("PATCH", _found(session, "rules", name, tenant), body=body)["data"]
    session.output.item(changed, f"Rule {name} changed.")


@rule.command("list")
def rule_list(context: typer.Context, tenant: Tenant = None) -> None:
    """Rules, by owner and name."""
    session = session_of(context)
    session.output.rows(
        session.client.every(f"{_ROOT}/rules", tenant=tenant),
        {
            "id": "ID",
            "tenant": "TENANT",
            "name": "NAME",
            "direction": "DIRECTION",
            "repositories": "REPOSITORIES",
            "on_event": "EVENT",
            "every_hours": "HOURS",
            "cron": "CRON",
            "enabled": "ENABLED",
        },
    )


@rule.command("show")
def rule_show(context: typer.Context, name: _NAMED, tenant: Tenant = None) -> None:
    """One rule."""
    session = session_of(context)
    session.output.details(session.client.get(_found(session, "rules", name, tenant))["data"])


@rule.command("rm")
def rule_rm(context: typer.Context, name: _NAMED, tenant: Tenant = None) -> None:
    """Remove a rule. What it copied stays."""
    session = session_of(context)
    session.client.delete(_found(session, "rules", name, tenant))
    session.output.item({"name": name, "removed": True}, f"Rule {name} removed.")


@replication.command("run")
def run(context: typer.Context, name: Annotated[str, typer.Argument(metavar="RULE")], tenant: Tenant = None) -> None:
    """Copy all that a rule takes, now."""
    session = session_of(context)
    started = session.client.post(f"{_found(session, 'rules', name, tenant)}/run")["data"]
    session.output.item(started, f"Execution {started['id']} is {started['state']}.")


@replication.command("status")
def status(
    context: typer.Context,
    execution_id: Annotated[str | None, typer.Argument(help="Absent: the latest of all.")] = None,
    tenant: Tenant = None,
) -> None:
    """Executions, the newest first; or one, tag by tag."""
    session = session_of(context)
    if execution_id is not None:
        path = f"{_ROOT}/executions/{path_of(execution_id)}/tasks"
        columns = ("repository", "reference", "destination", "state", "attempts", "bytes_done", "detail")
        session.output.rows(session.client.every(path), {name: name.upper() for name in columns})
        return
    columns = ("id", "tenant", "cause", "state", "created_at", "tasks", "bytes_done")
    found = session.client.every(f"{_ROOT}/executions", tenant=tenant)
    session.output.rows(found, {name: name.upper() for name in columns})


@replication.command("stop")
def stop(context: typer.Context, execution_id: str) -> None:
    """Begin nothing more of an execution. What was copied stays."""
    session = session_of(context)
    stopped = session.client.post(f"{_ROOT}/executions/{path_of(execution_id)}/stop")["data"]
    session.output.item(stopped, f"Execution {execution_id} is {stopped['state']}.")


def _found(session: Session, kind: str, name: str, tenant: str | None) -> str:
    """The path of the one with this name or id."""
    rows = [row for row in session.client.every(f"{_ROOT}/{kind}", tenant=tenant) if name in (row["id"], row["name"])]
    if not rows:
        raise NotFound(f"there is none called {name}", action=f"see `longshore replication {kind[:-1]} list`")
    if len(rows) > 1:
        raise Conflict(f"several are called {name}", action="give --tenant, or the id")
    return f"{_ROOT}/{kind}/{rows[0]['id']}"


def _credentials(username: str | None, password_stdin: bool) -> dict[str, str]:
    if username is None or not password_stdin:
        raise Invalid("credentials are a user name and a password", action="give --username and --password-stdin")
    return {"username": username, "password": sys.stdin.readline().rstrip("\n")}


def _in_place_of_its_schedule(every_hours: float | None, cron: str | None, unscheduled: bool) -> dict[str, None]:
    """What a rule has no more, for it has one schedule."""
    gone: dict[str, None] = {}
    if unscheduled or cron is not None:
        gone["every_hours"] = None
    if unscheduled or every_hours is not None:
        gone["cron"] = None
    if every_hours is not None and cron is not None:
        raise Invalid("these are two schedules", action="give --every-hours or --cron")
    return gone


def _wishes(**wishes: Any) -> dict[str, Any]:
    return {name: value for name, value in wishes.items() if value is not None}
