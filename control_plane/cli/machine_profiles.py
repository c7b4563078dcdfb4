"""`longshore profile ...`: what to put on machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from common.errors import Invalid, NotFound
from control_plane.cli.client import Client, path_of
from control_plane.cli.context import session_of

profile = typer.Typer(help="Profiles: which system machines get, and how.", no_args_is_help=True)

Profile = Annotated[str, typer.Argument(help="id, tenant/name, or the name of one of the platform's")]
_File = Annotated[Path, typer.Argument(help="a YAML or JSON file: the specification (docs/operations/machines.md)")]
_Version = Annotated[int | None, typer.Option(help="The newest if left out.")]


def profile_id(client: Client, name: str) -> str:
    """Raises `NotFound`."""
    if len(name) == 36 and name.count("-") == 4:
        return name
    tenant, _, short = name.rpartition("/")
    for found in client.every("/api/v1/profiles"):
        if (found["tenant"], found["name"]) == (tenant, short):
            return str(found["id"])
    raise NotFound(f"there is no profile {name!r}", action="see `longshore profile list`")


@profile.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="its name")],
    file: _File,
    tenant: Annotated[str, typer.Option(help="Whose it is; the platform's if left out.")] = "",
    description: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Make a profile. It is tried with an example machine first."""
    session = session_of(context)
    body = {"name": name, "tenant": tenant, "description": description, "spec": _spec(file)}
    made = session.client.post("/api/v1/profiles", body)["data"]
    session.output.item(made, f"Profile {_named(made)}: {made['id']}.")


@profile.command("revise")
def revise(context: typer.Context, name: Profile, file: _File) -> None:
    """Give it another version. Install tasks keep theirs."""
    session = session_of(context)
    path = f"/api/v1/profiles/{path_of(profile_id(session.client, name))}/versions"
    made = session.client.post(path, {"spec": _spec(file)})["data"]
    session.output.item(made, f"Profile {_named(made)} has version {made['latest']}.")


@profile.command("list")
def listed(context: typer.Context) -> None:
    """Those of your tenants, and the platform's."""
    session = session_of(context)
    columns = {"tenant": "TENANT", "name": "NAME", "family": "SYSTEM", "system_version": "RELEASE", "method": "BY"}
    session.output.rows(
        session.client.every("/api/v1/profiles"),
        {**columns, "latest": "VERSION", "updated_at": "CHANGED", "description": "DESCRIPTION"},
    )


@profile.command("show")
def show(context: typer.Context, name: Profile, version: _Version = None) -> None:
    """What a version says, without password hashes and secrets."""
    session = session_of(context)
    path = f"/api/v1/profiles/{path_of(profile_id(session.client, name))}"
    found = session.client.get(path)["data"]
    said = session.client.get(f"{path}/versions/{version or found['latest']}")["data"]
    whole = {**found, **said}
    session.output.item(whole, yaml.safe_dump(said["spec"], sort_keys=False, allow_unicode=True).rstrip())


@profile.command("preview")
def preview(
    context: typer.Context,
    name: Profile,
    version: _Version = None,
    machine: Annotated[str | None, typer.Option(help="id or idc/name; an example if left out.")] = None,
    document: Annotated[str | None, typer.Option(help="Only this document.")] = None,
) -> None:
    """What the installer of a machine would read, without hashes and secrets."""
    session = session_of(context)
    path = f"/api/v1/profiles/{path_of(profile_id(session.client, name))}/preview"
    chosen = {"version": version, "machine": machine}
    found = session.client.get(path, **{key: value for key, value in chosen.items() if value is not None})["data"]
    documents = [one for one in found["documents"] if document in (None, one["name"])]
    if not documents:
        raise NotFound(
            f"there is no document {document!r}",
            action="choose " + ", ".join(one["name"] for one in found["documents"]),
        )
    texts = "\n".join(f"# ---- {one['name']}\n{one['text'].rstrip()}\n" for one in documents)
    arguments = f"# ---- kernel arguments\n{' '.join(found['boot_arguments'])}" if document is None else ""
    session.output.item({**found, "documents": documents}, (texts + arguments).rstrip())


@profile.command("remove")
def remove(context: typer.Context, name: Profile) -> None:
    """With all its versions. Refused while install tasks of it are not over."""
    session = session_of(context)
    session.client.delete(f"/api/v1/profiles/{path_of(profile_id(session.client, name))}")
    session.output.item({"profile": name, "removed": True}, f"Profile {name} is removed.")


def _spec(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", action="give a file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is neither YAML nor JSON: {error}", action="mend it") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} holds no specification", action="see `longshore profile show` for one")
    return found


def _named(found: dict[str, Any]) -> str:
    return f"{found['tenant']}/{found['name']}" if found["tenant"] else str(found["name"])
