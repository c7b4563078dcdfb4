"""`longshore trusted-key ...`, `longshore signature-policy ...` and `longshore attachments`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from common.digest import Digest
from common.errors import Invalid, NotFound
from common.reference import Reference
from control_plane.cli.client import path_of
from control_plane.cli.context import Session, session_of
from control_plane.cli.failures import failure_of

trusted_key = typer.Typer(help="Keys by which signatures of images are verified.", no_args_is_help=True)
signature_policy = typer.Typer(help="Which images need a signature to be pulled.", no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(help="name of a tenant")]
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)


@trusted_key.command("add")
def trusted_key_add(
    context: typer.Context,
    tenant: Tenant,
    name: str,
    file: Annotated[Path, typer.Argument(help="cosign.pub, or a certificate for notation; - for standard input")],
) -> None:
    """Trust a public key or a certificate."""
    session = session_of(context)
    pem = sys.stdin.read() if str(file) == "-" else file.read_text(errors="replace")
    made = session.client.post(_keys(tenant), {"name": name, "pem": pem})["data"]
    session.output.item(made, f"Key {name} trusted: {made['kind']}, SHA-256 {made['fingerprint']}.")


@trusted_key.command("list")
def trusted_key_list(context: typer.Context, tenant: Tenant) -> None:
    """The keys that a tenant trusts."""
    session = session_of(context)
    session.output.rows(
        session.client.every(_keys(tenant)),
        {"name": "NAME", "kind": "KIND", "fingerprint": "SHA-256", "created_by": "BY", "created_at": "CREATED"},
    )


@trusted_key.command("rm")
def trusted_key_rm(
    context: typer.Context, tenant: Tenant, key: Annotated[str, typer.Argument(help="name or id")]
) -> None:
    """Trust a key no more; not while a policy needs it."""
    session = session_of(context)
    session.client.delete(f"{_keys(tenant)}/{_id_of(session, _keys(tenant), key, 'trusted key')}")
    session.output.item({"key": key, "removed": True}, f"Key {key} removed.")


@signature_policy.command("create")
def signature_policy_create(
    context: typer.Context,
    tenant: Tenant,
    name: str,
    key: Annotated[list[str], typer.Option("--key", help="Name or id of a trusted key; several times for several.")],
    repository: Annotated[
        list[str] | None, typer.Option("--repository", help="Pattern over the name after the tenant; default: all.")
    ] = None,
    needed: Annotated[int, typer.Option(help="How many of the keys must have signed.")] = 1,
    same_repository: Annotated[bool, typer.Option(help="The signature must name this very repository.")] = False,
    strict: Annotated[bool, typer.Option(help="Also who may push may not pull what is not signed.")] = False,
) -> None:
    """From now on images of the repositories are pulled and run only if they are signed."""
    session = session_of(context)
    body = {
        "name": name,
        "repositories": repository or ["**"],
        "key_ids": [_id_of(session, _keys(tenant), each, "trusted key") for each in key],
        "needed": needed,
        "identity": "repository" if same_repository else "any",
        "pushers_may_pull": not strict,
    }
    made = session.client.post(_policies(tenant), body)["data"]
    session.output.item(made, f"Policy {name} is in force.")


@signature_policy.command("list")
def signature_policy_list(context: typer.Context, tenant: Tenant) -> None:
    """The signature policies of a tenant."""
    session = session_of(context)
    session.output.rows(
        session.client.every(_policies(tenant)),
        {
            "name": "NAME",
            "repositories": "REPOSITORIES",
            "needed": "NEEDED",
            "key_ids": "OF KEYS",
            "identity": "IDENTITY",
            "enabled": "ENABLED",
        },
    )


@signature_policy.command("rm")
def signature_policy_rm(
    context: typer.Context, tenant: Tenant, policy: Annotated[str, typer.Argument(help="name or id")]
) -> None:
    """Let images be pulled without signatures again."""
    session = session_of(context)
    session.client.delete(f"{_policies(tenant)}/{_id_of(session, _policies(tenant), policy, 'signature policy')}")
    session.output.item({"policy": policy, "removed": True}, f"Policy {policy} removed.")


def attachments(
    context: typer.Context, reference: Annotated[str, typer.Argument(help="tenant/repository[:tag][@digest]")]
) -> None:
    """Signatures, attestations and SBOMs of an image, and which trusted keys signed them."""
    session = session_of(context)
    image = Reference.parse(reference)
    digest = image.digest or _digest_of(session, image)
    rows = session.client.every(f"/api/v1/repositories/{image.repository}/-/manifests/{digest}/attachments")
    names = [{**row, "signers": [key["name"] for key in row["verified_by"]]} for row in rows]
    session.output.rows(
        rows if session.output.as_json else names,
        {
            "kind": "KIND",
            "format": "FORMAT",
            "digest": "DIGEST",
            "size_bytes": "SIZE",
            "signers": "VERIFIED BY",
            "pushed_at": "PUSHED",
        },
    )


def _digest_of(session: Session, image: Reference) -> Digest:
    answer = session.client.raw("GET", f"/v2/{image.repository}/manifests/{image.tag}", headers={"Accept": _MANIFESTS})
    if answer.status != 200:
        raise failure_of(answer.status, answer.data, f"looking up {image}")
    return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))


def _keys(tenant: str) -> str:
    return f"/api/v1/tenants/{path_of(tenant)}/trusted-keys"


def _policies(tenant: str) -> str:
    return f"/api/v1/tenants/{path_of(tenant)}/signature-policies"


def _id_of(session: Session, path: str, wanted: str, what: str) -> str:
    """The id of the row of that name or id."""
    if not wanted:
        raise Invalid(f"the {what} has no name", action="give its name or id")
    rows: list[Any] = session.client.every(path)
    for row in rows:
        if wanted in (row["name"], row["id"]):
            return str(row["id"])
    raise NotFound(f"there is no {what} {wanted!r}", action="see the names with the command `list`")
