"""`longshore immutability ...` and `longshore retention ...`: tags that never move, and images that may go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from common.errors import Invalid, NotFound
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of

immutability = typer.Typer(help="Tags that are made once and neither move nor go.", no_args_is_help=True)
retention = typer.Typer(help="Which images are kept, and which may go.", no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(help="name of a tenant")]
Policy = Annotated[str, typer.Argument(help="name or id of a policy")]
Repositories = Annotated[
    list[str] | None, typer.Option("--repository", help="Pattern over the name after the tenant; default: all.")
]
_KEEP = re.compile(r"(?P<keep>[a-z_]+)(?:=(?P<number>\d+)(?:/(?P<per>major|minor))?)?(?::(?P<tags>.+))?")
_DAYS = ("pushed_within", "pulled_within")
_KEEP_HELP = (
    "What stays: newest=10, pushed_within=30, pulled_within=14 (days), newest_versions=3/minor, always; "
    "each with :PATTERN,PATTERN of tags if not all, !PATTERN for exceptions."
)
Keep = Annotated[list[str], typer.Option("--keep", help=_KEEP_HELP)]
Scope = Annotated[str, typer.Option(help="Tags that may go at all: PATTERN,!PATTERN.")]
UntaggedDays = Annotated[int | None, typer.Option(help="Untagged images go after so many days; default: never.")]
Every = Annotated[int | None, typer.Option("--every-hours", help="How often it runs.")]
ByHand = Annotated[bool, typer.Option("--by-hand", help="It runs only when asked.")]


@immutability.command("list")
def immutability_list(
    context: typer.Context, tenant: Annotated[str | None, typer.Argument(help="without: the platform's rules")] = None
) -> None:
    """Rules of a tenant, or of the platform."""
    session = session_of(context)
    session.output.rows(
        session.client.every(_rules(tenant)),
        {
            "id": "ID",
            "repositories": "REPOSITORIES",
            "tags": "TAGS",
            "except_tags": "EXCEPT",
            "created_by": "BY",
            "created_at": "CREATED",
        },
    )


@immutability.command("add")
def immutability_add(
    context: typer.Context,
    tags: Annotated[str, typer.Argument(help="patterns of tags: v*,!v*-rc*")],
    tenant: Annotated[str | None, typer.Option(help="Whose; without: a rule of the platform.")] = None,
    repository: Repositories = None,
) -> None:
    """From now on tags that match are made once, and neither move nor go."""
    session = session_of(context)
    made = session.client.post(_rules(tenant), {"repositories": repository or ["**"], **_selector(tags)})["data"]
    session.output.item(made, f"Rule {made['id']} holds {tags}.")


@immutability.command("rm")
def immutability_rm(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(help="id of the rule")],
    tenant: Annotated[str | None, typer.Option(help="Whose; without: a rule of the platform.")] = None,
) -> None:
    """Let the tags of a rule move and go again."""
    session = session_of(context)
    session.client.delete(f"{_rules(tenant)}/{path_of(rule)}")
    session.output.item({"id": rule, "removed": True}, f"Rule {rule} removed.")


@retention.command("list")
def retention_list(context: typer.Context, tenant: Tenant) -> None:
    """The policies of a tenant."""
    session = session_of(context)
    rows = session.client.every(_policies(tenant))
    shown = (
        rows if session.output.as_json else [{**row, "keep": [_words(rule) for rule in row["rules"]]} for row in rows]
    )
    session.output.rows(
        shown,
        {
            "name": "NAME",
            "repositories": "REPOSITORIES",
            "keep": "KEEPS",
            "untagged_days": "UNTAGGED DAYS",
            "enabled": "ENABLED",
            "next_run_at": "NEXT RUN",
        },
    )


@retention.command("create")
def retention_create(
    context: typer.Context,
    tenant: Tenant,
    name: str,
    keep: Keep,
    repository: Repositories = None,
    scope: Scope = "*",
    untagged_days: UntaggedDays = None,
    every_hours: Every = 24,
    by_hand: ByHand = False,
) -> None:
    """Make a policy. Its first run comes one interval from now: preview it before."""
    session = session_of(context)
    body = _body(name, keep, repository, scope, untagged_days, None if by_hand else every_hours)
    made = session.client.post(_policies(tenant), body)["data"]
    when = f"first run {made['next_run_at']}" if made["next_run_at"] else "it runs when asked"
    session.output.item(made, f"Policy {name} made; {when}.")


@retention.command("preview")
def retention_preview(
    context: typer.Context,
    tenant: Tenant,
    policy: Policy,
    repository: Annotated[str | None, typer.Option(help="Only this repository.")] = None,
    all_images: Annotated[bool, typer.Option("--all", help="Also what stays.")] = False,
) -> None:
    """What a run would do now with every image, and why. Deletes nothing."""
    session = session_of(context)
    rows = session.client.every(f"{_policy(session, tenant, policy)}/preview", repository=repository)
    going = [row for row in rows if row["deleted"]]
    session.output.rows(
        rows if all_images else going,
        {
            "repository": "REPOSITORY",
            "tags": "TAGS",
            "digest": "DIGEST",
            "deleted": "GOES",
            "reason": "REASON",
            "pushed_at": "PUSHED",
            "pulled_at": "PULLED",
        },
    )
    session.output.remark(f"{len(going)} of {len(rows)} images would go.")


@retention.command("run")
def retention_run(context: typer.Context, tenant: Tenant, policy: Policy) -> None:
    """Begin a run in the background."""
    session = session_of(context)
    begun = session.client.post(f"{_policy(session, tenant, policy)}/runs")["data"]
    session.output.item(begun, f"Run {begun['id']} is {begun['state']}.")


@retention.command("runs")
def retention_runs(context: typer.Context, tenant: Tenant, policy: Policy) -> None:
    """What runs did, newest first."""
    session = session_of(context)
    session.output.rows(
        session.client.every(f"{_policy(session, tenant, policy)}/runs"),
        {
            "id": "ID",
            "state": "STATE",
            "started_by": "BY",
            "created_at": "CREATED",
            "examined": "IMAGES",
            "kept": "KEPT",
            "deleted": "DELETED",
            "skipped": "SKIPPED",
        },
    )


@retention.command("cancel")
def retention_cancel(context: typer.Context, tenant: Tenant, policy: Policy, run: str) -> None:
    """Stop a run before its next deletion."""
    session = session_of(context)
    ended = session.client.post(f"{_policy(session, tenant, policy)}/runs/{path_of(run)}/cancel")["data"]
    session.output.item(ended, f"Run {run} is {ended['state']}.")


@retention.command("rm")
def retention_rm(context: typer.Context, tenant: Tenant, policy: Policy) -> None:
    """Remove a policy with its history."""
    session = session_of(context)
    session.client.delete(_policy(session, tenant, policy))
    session.output.item({"policy": policy, "removed": True}, f"Policy {policy} removed.")


def _rules(tenant: str | None) -> str:
    return "/api/v1/immutability-rules" if tenant is None else f"/api/v1/tenants/{path_of(tenant)}/immutability-rules"


def _policies(tenant: str) -> str:
    return f"/api/v1/tenants/{path_of(tenant)}/retention-policies"


def _policy(session: Session, tenant: str, policy: str) -> str:
    """The path of the policy of that name or id."""
    for row in session.client.every(_policies(tenant)):
        if policy in (row["name"], row["id"]):
            return f"{_policies(tenant)}/{row['id']}"
    raise NotFound(f"{tenant} has no retention policy {policy!r}", action=f"see `longshore retention list {tenant}`")


def _body(
    name: str,
    keep: Sequence[str],
    repository: list[str] | None,
    scope: str,
    untagged_days: int | None,
    interval_hours: int | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "repositories": repository or ["**"],
        "rules": [_rule(text) for text in keep],
        "scope": _selector(scope),
        "untagged_days": untagged_days,
        "interval_hours": interval_hours,
    }


def _rule(text: str) -> dict[str, Any]:
    matched = _KEEP.fullmatch(text)
    if matched is None:
        raise Invalid(f"{text!r} does not say what is kept", action="write for example newest=10 or always:release-*")
    number = int(matched["number"] or 0)
    rule: dict[str, Any] = {"keep": matched["keep"], **_selector(matched["tags"] or "*")}
    rule["days" if matched["keep"] in _DAYS else "count"] = number
    return rule | ({"per": matched["per"]} if matched["per"] else {})


def _selector(text: str) -> dict[str, list[str]]:
    words = [word for word in text.split(",") if word]
    wanted = [word for word in words if not word.startswith("!")]
    return {"tags": wanted or ["*"], "except_tags": [word[1:] for word in words if word.startswith("!")]}


def _words(rule: Mapping[str, Any]) -> str:
    number = rule["days"] or rule["count"]
    per = "" if rule["per"] == "all" else f"/{rule['per']}"
    tags = ",".join([*rule["tags"], *(f"!{tag}" for tag in rule["except_tags"])])
    return str(rule["keep"]) + (f"={number}{per}" if number else "") + f":{tags}"
