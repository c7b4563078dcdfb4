"""`longshore preheat ...`: images near their hosts before anybody asks for them."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

preheat = typer.Typer(help="Bring images near hosts before anybody asks; without an end it pins.", no_args_is_help=True)

_DAILY = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)(?:@(\S+))?")
Preheat = Annotated[str, typer.Argument(help="its id")]


@preheat.command("create")
def preheat_create(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="tenant/repository:tag; the tag is resolved now")],
    idc: Annotated[list[str] | None, typer.Option("--idc", help="Only hosts of this IDC; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Only hosts with KEY=VALUE.")] = None,
    percentage: Annotated[int, typer.Option(help="Of the hosts that fit; always the same ones.")] = 100,
    host: Annotated[list[str] | None, typer.Option("--host", help="This host: id or idc/name.")] = None,
    regionals_only: Annotated[bool, typer.Option(help="The regionals, and no host.")] = False,
    architecture: Annotated[list[str] | None, typer.Option(help="GOARCH word; else those of the hosts.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose it is, if not the image's tenant.")] = None,
    start: Annotated[str | None, typer.Option(help="Not before, like 2026-12-01T01:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option(help="Nothing moves from then on; what is there stays.")] = None,
    daily: Annotated[str | None, typer.Option(help="Only in these hours, like 01:00-05:00@Europe/Berlin.")] = None,
    keep_until: Annotated[str | None, typer.Option(help="Kept until then; else until it is cancelled.")] = None,
    ordinary: Annotated[bool, typer.Option("--ordinary", help="Do not give way to others.")] = False,
) -> None:
    """Fetch an image to hosts or data centres, in hours that suit, without disturbing others."""
    session = session_of(context)
    targets = {
        "idcs": idc or [],
        "labels": dict(_label(text) for text in label or []),
        "percentage": percentage,
        "hosts": host or [],
        "regionals_only": regionals_only,
        "architectures": architecture or [],
    }
    body = {
        "image": image,
        "tenant": tenant,
        "targets": targets,
        "starts_at": start,
        "ends_at": end,
        "daily": None if daily is None else _daily(daily),
        "keep_until": keep_until,
        "lower_effort": not ordinary,
    }
    made = session.client.post("/api/v1/preheats", body)["data"]
    session.output.item(made, f"Preheat {made['id']} of {image}: {_stands(made)}.")


@preheat.command("list")
def preheat_list(
    context: typer.Context, ended: Annotated[bool, typer.Option("--ended", help="Also those that are over.")] = False
) -> None:
    """Preheats, newest first."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/preheats", ended=str(ended).lower()),
        {
            "id": "ID",
            "image": "IMAGE",
            "tenant": "TENANT",
            "state": "STATE",
            "next_change_at": "NEXT CHANGE",
            "keep_until": "KEPT UNTIL",
            "created_by": "BY",
        },
    )


@preheat.command("show")
def preheat_show(context: typer.Context, preheat_id: Preheat) -> None:
    """How far each data centre is."""
    session = session_of(context)
    found = session.client.get(f"/api/v1/preheats/{path_of(preheat_id)}")["data"]
    if session.output.as_json:
        session.output.item(found, "")
        return
    session.output.remark(f"{found['image']}: {_stands(found)}")
    session.output.rows(
        found["idcs"],
        {
            "idc": "IDC",
            "total_bytes": "SIZE",
            "regional_bytes": "REGIONAL HOLDS",
            "from_centre_bytes": "OVER THE WAN",
            "hosts": "HOSTS",
            "hosts_held": "DONE",
            "held_bytes": "HOSTS HOLD",
        },
    )


@preheat.command("hosts")
def preheat_hosts(context: typer.Context, preheat_id: Preheat) -> None:
    """What each host holds, and where it had it from, in bytes."""
    session = session_of(context)
    session.output.rows(
        session.client.every(f"/api/v1/preheats/{path_of(preheat_id)}/hosts"),
        {
            "idc": "IDC",
            "host": "HOST",
            "phase": "PHASE",
            "held_bytes": "HELD",
            "total_bytes": "OF",
            "from_centre_bytes": "CENTRE",
            "from_regional_bytes": "REGIONAL",
            "from_peers_bytes": "PEERS",
            "detail": "DETAIL",
        },
    )


@preheat.command("cancel")
def preheat_cancel(context: typer.Context, preheat_id: Preheat) -> None:
    """End it: what only it wanted may go everywhere."""
    session = session_of(context)
    session.client.delete(f"/api/v1/preheats/{path_of(preheat_id)}")
    session.output.item({"id": preheat_id, "cancelled": True}, f"Preheat {preheat_id} is over.")


def _stands(found: dict[str, Any]) -> str:
    change = found["next_change_at"]
    return f"{found['state']}, until {change}" if change else str(found["state"])


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"{text!r} is no label", action="write KEY=VALUE")
    return key, value


def _daily(text: str) -> dict[str, str]:
    match = _DAILY.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"{text!r} is no window of the day", action="write it like 01:00-05:00@Europe/Berlin")
    return {"start": match[1], "end": match[2], "time_zone": match[3] or "UTC"}
