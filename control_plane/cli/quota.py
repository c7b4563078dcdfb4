"""`longshore quota ...`: how much tenants and users may store, and how much they do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of
from control_plane.cli.output import size_text

quota = typer.Typer(help="How much tenants and users may store.", no_args_is_help=True)

_SIZE = re.compile(r"(\d+)\s*(B|[KMGT]i?B?)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_NONE = "none"

Whose = Annotated[str, typer.Argument(help="name of a tenant, or with --user of a user")]
OfUser = Annotated[bool, typer.Option("--user", help="The name is a user's, not a tenant's.")]


@quota.command("list")
def quota_list(context: typer.Context) -> None:
    """Limits and use of every tenant that you may see."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/quotas"),
        {
            "name": "TENANT",
            "used_bytes": "USED",
            "reserved_bytes": "RESERVED",
            "max_storage_bytes": "LIMIT",
            "image_count": "IMAGES",
            "max_image_count": "LIMIT",
        },
    )


@quota.command("show")
def quota_show(context: typer.Context, name: Whose, user: OfUser = False) -> None:
    """Limits and use of a tenant or a user."""
    session = session_of(context)
    session.output.details(session.client.get(_path(name, user))["data"])


@quota.command("set")
def quota_set(
    context: typer.Context,
    name: Whose,
    user: OfUser = False,
    storage: Annotated[str | None, typer.Option(help="bytes, or like 10GiB or 500MB; none: no limit")] = None,
    images: Annotated[str | None, typer.Option(help="how many repositories; none: no limit")] = None,
    image_size: Annotated[str | None, typer.Option(help="like --storage, of one image")] = None,
) -> None:
    """Give limits; those that are not named stay as they are."""
    session = session_of(context)
    asked = {"max_storage_bytes": storage, "max_image_count": images, "max_image_size_bytes": image_size}
    if all(value is None for value in asked.values()):
        raise Invalid("no limit is named", action="add --storage, --images or --image-size")
    now = session.client.get(_path(name, user))["data"]
    body = {key: now[key] if value is None else _size(value) for key, value in asked.items()}
    made = session.client.put(_path(name, user), body)["data"]
    session.output.item(made, f"{name} may store {_storage(made)}.")


@quota.command("reset")
def quota_reset(context: typer.Context, name: Whose, user: OfUser = False) -> None:
    """Put a tenant or a user back to the platform's defaults."""
    session = session_of(context)
    session.client.delete(_path(name, user))
    session.output.item({"name": name, "own_limits": False}, f"The platform's defaults are in force for {name}.")


@quota.command("recalculate")
def quota_recalculate(context: typer.Context, name: Whose, user: OfUser = False) -> None:
    """Count everything anew; what was wrong is told and mended."""
    session = session_of(context)
    drift = session.client.post(f"{_path(name, user)}/recalculation", {})["data"]
    wrong = any(drift.values())
    session.output.item(drift, f"{name} was wrong and is mended: {drift}" if wrong else f"{name} is right to the byte.")


def _path(name: str, user: bool) -> str:
    return f"/api/v1/{'users' if user else 'tenants'}/{path_of(name)}/quota"


def _size(text: str) -> int | None:
    return None if text.lower() == _NONE else size_of(text)


def size_of(text: str) -> int:
    """Bytes. Raises `Invalid`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"{text!r} is no size", action="say it like 1073741824, 10GiB, 500MB or none")
    unit = (match[2] or "").upper().removesuffix("B")
    base = 1024 if unit.endswith("I") else 1000
    factor: int = base ** _POWERS[unit.removesuffix("I")]
    return int(match[1]) * factor


def _storage(made: Mapping[str, Any]) -> str:
    limit = made["max_storage_bytes"]
    return (
        "without limit" if limit is None else f"{size_text(limit)}, of which {size_text(made['used_bytes'])} are used"
    )
