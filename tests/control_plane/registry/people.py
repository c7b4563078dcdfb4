"""The people, tenants and credentials of the registry's tests, and image-building by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from common.digest import Digest
from common.errors import Unauthenticated
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.tenants.access import ANONYMOUS, Principal, RepositoryScope, RobotScope, Role

ADA = Principal("u-ada", "ada", roles={"acme": Role.ADMIN})
OTTO = Principal("u-otto", "otto", roles={"acme": Role.OPERATOR})
VERA = Principal("u-vera", "vera", roles={"acme": Role.VIEWER})
BOB = Principal("u-bob", "bob", roles={"birch": Role.ADMIN})
BOTH = Principal("u-both", "both", roles={"acme": Role.OPERATOR, "birch": Role.OPERATOR})
ROOT = Principal("u-root", "root", platform_admin=True)
# A robot, which logs in like everybody else.
CI = Principal(
    "r-ci",
    "robot/acme/ci",
    limited=True,
    tenant="acme",
    robot=(RobotScope("acme/ci-*", frozenset({"pull", "push"})),),
)
PEOPLE = {each.name: each for each in (ADA, OTTO, VERA, BOB, BOTH, ROOT, CI)}


class Directory:
    """Tenants by name."""

    def __init__(self, *names: str) -> None:
        self._names = names

    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        return {name: f"t-{name}" for name in names if name in self._names}

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]:
        return {each: each.removeprefix("t-") for each in ids if each.removeprefix("t-") in self._names}


@dataclass(frozen=True)
class IssuedToken:
    token: str
    expires_in: int
    issued_at: datetime


class Credentials:
    """`Bearer <name>` and Basic `<name>:secret` are people; `issue` makes tokens that `verify` knows."""

    def __init__(self) -> None:
        self.issued: list[tuple[str, tuple[RepositoryScope, ...]]] = []
        self._tokens: dict[str, Principal] = {}

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        if authorization_header is None:
            return ANONYMOUS
        scheme, _, value = authorization_header.partition(" ")
        if scheme == "Basic":
            username, _, password = base64.b64decode(value).decode().partition(":")
            return await self.authenticate_basic(username, password, client)
        if value not in PEOPLE:
            raise Unauthenticated("the token is not genuine", action="log in again")
        return PEOPLE[value]

    async def verify(self, token: str, late: timedelta = timedelta(0)) -> Principal:
        if token not in self._tokens:
            raise Unauthenticated("this is no registry token", action="ask for one")
        return self._tokens[token]

    async def authenticate_basic(self, username: str, password: str, client: str) -> Principal:
        if password != "secret" or username not in PEOPLE:
            raise Unauthenticated("wrong user name or password", action="try again")
        return PEOPLE[username]

    async def issue(self, principal: Principal, service: str, scopes: Sequence[RepositoryScope]) -> IssuedToken:
        token = f"token-{len(self.issued)}"
        self.issued.append((service, tuple(scopes)))
        self._tokens[token] = replace(principal, scopes=tuple(scopes))
        return IssuedToken(token, 300, datetime(2026, 1, 1, tzinfo=UTC))

    async def open_login(self, principal: Principal, client: str) -> str | None:
        return f"kept-{principal.name}"

    async def resume_login(self, refresh_token: str) -> Principal | None:
        if not refresh_token.startswith("kept-"):
            return None
        if refresh_token[5:] not in PEOPLE:
            raise Unauthenticated("the login has ended", action="log in again")
        return PEOPLE[refresh_token[5:]]


def descriptor(content: bytes, media_type: str = "application/octet-stream", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def image_manifest(config: bytes, layers: Sequence[bytes], **more: Any) -> bytes:
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
            **more,
        }
    )


def index_manifest(children: Sequence[tuple[bytes, str]], **more: Any) -> bytes:
    """`children` are payloads with their architecture."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                descriptor(payload, OCI_MANIFEST, platform={"architecture": architecture, "os": "linux"})
                for payload, architecture in children
            ],
            **more,
        }
    )


def encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
