"""`longshore limit ...`: how much of the links may be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

limit = typer.Typer(help="How much of the links may be used, in Mbit/s of payload.", no_args_is_help=True)

_LINKS = ("wan_down_mbps", "regional_up_mbps", "host_up_mbps", "host_down_mbps")
_WINDOW = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)(?:@(\S+))?")
_NONE = "none"
_EVERYTHING = "/api/v1/limits"

Idc = Annotated[str | None, typer.Option("--idc", help="Of this data centre; without any of the three: of all.")]
Host = Annotated[str | None, typer.Option("--host", help="Of this host, IDC/NAME.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant, within each link.")]
Rate = Annotated[str | None, typer.Option(help="Mbit/s, or none")]
Daily = Annotated[
    str | None,
    typer.Option(help="Only in these hours of each day, like 22:00-06:00@Europe/Berlin; replaces an equal window."),
]


@limit.command("list")
def limit_list(context: typer.Context) -> None:
    """Every limit that you may see."""
    session = session_of(context)
    rows = [row for found in session.client.get("/api/v1/limits")["data"] for row in _rows(found)]
    session.output.rows(
        rows,
        {
            "scope": "SCOPE",
            "name": "NAME",
            "when": "WHEN",
            "wan_down_mbps": "WAN DOWN",
            "regional_up_mbps": "REGIONAL UP",
            "host_up_mbps": "HOST UP",
            "host_down_mbps": "HOST DOWN",
        },
    )


@limit.command("set")
def limit_set(
    context: typer.Context,
    idc: Idc = None,
    host: Host = None,
    tenant: Tenant = None,
    wan_down: Rate = None,
    regional_up: Rate = None,
    host_up: Rate = None,
    host_down: Rate = None,
    daily: Daily = None,
) -> None:
    """Give limits; links that are not named stay as they are. Everybody attached hears of it at once."""
    session = session_of(context)
    asked = dict(zip(_LINKS, (wan_down, regional_up, host_up, host_down), strict=True))
    given = {link: _rate(text) for link, text in asked.items() if text is not None}
    if not given:
        raise Invalid("no link is named", action="add --wan-down, --regional-up, --host-up or --host-down")
    scope = _scope(idc, host, tenant)
    body = _body(_now(session.client, scope))
    if daily is None:
        body.update(given)
    else:
        window = _window(daily)
        others = [one for one in body["windows"] if {key: one[key] for key in window} != window]
        same = next((one for one in body["windows"] if one not in others), window)
        body["windows"] = [{**same, **given}, *others]
    made = session.client.put(scope.path, body)["data"]
    session.output.item(made, f"Limits of {scope.name} are in force.")


@limit.command("rm")
def limit_rm(context: typer.Context, idc: Idc = None, host: Host = None, tenant: Tenant = None) -> None:
    """Take all limits of a scope back."""
    session = session_of(context)
    scope = _scope(idc, host, tenant)
    made = session.client.put(scope.path, {})["data"]
    session.output.item(made, f"{scope.name} has no limits of its own any more.")


@dataclass(frozen=True, slots=True)
class _Scope:
    name: str
    path: str


def _scope(idc: str | None, host: str | None, tenant: str | None) -> _Scope:
    """Raises `Invalid` if several were given."""
    if sum(name is not None for name in (idc, host, tenant)) > 1:
        raise Invalid("a limit is of one data centre, host or tenant", action="give one of --idc, --host, --tenant")
    if idc is not None:
        return _Scope(f"IDC {idc}", f"/api/v1/idcs/{path_of(idc)}/limits")
    if host is not None:
        if host.count("/") != 1:
            raise Invalid(f"{host!r} names no host", action="give IDC/NAME, as `longshore host list` shows")
        return _Scope(f"host {host}", f"/api/v1/hosts/{path_of(host)}/limits")
    if tenant is not None:
        return _Scope(f"tenant {tenant}", f"/api/v1/tenants/{path_of(tenant)}/limits")
    return _Scope("the platform", _EVERYTHING)


def _now(client: Any, scope: _Scope) -> Mapping[str, Any]:
    said = client.get(scope.path)["data"]
    if scope.path == _EVERYTHING:
        return next((one for one in said if one["scope"] == "platform"), {})
    found: Mapping[str, Any] = said
    return found


def _body(now: Mapping[str, Any]) -> dict[str, Any]:
    return {**{link: now.get(link) for link in _LINKS}, "windows": list(now.get("windows", []))}


def _window(text: str) -> dict[str, str]:
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"{text!r} is no window of the day", action="write it like 22:00-06:00@Europe/Berlin")
    return {"start": match[1], "end": match[2], "time_zone": match[3] or "UTC"}


def _rate(text: str) -> float | None:
    if text.lower() == _NONE:
        return None
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{text!r} is no rate", action="give Mbit/s, like 200 or 12.5, or none") from None


def _rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    windows = [{**one, "when": f"{one['start']}-{one['end']} {one['time_zone']}"} for one in found["windows"]]
    always = {**found, "when": "always"}
    return [{**one, "scope": found["scope"], "name": found["name"]} for one in (*windows, always)]
