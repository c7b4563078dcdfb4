"""A registry seen from outside, for the cases of `oci_distribution.py`: a client that logs in as Docker does, and the
few contents that the cases push.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from common.digest import Digest

OCTETS = "application/octet-stream"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY, EMPTY_TYPE = b"{}", "application/vnd.oci.empty.v1+json"
_PARAMETER = re.compile(r'([a-z]+)="([^"]*)"')


@dataclass(frozen=True)
class RegistryTarget:
    """`namespace` is where the user may make repositories; `takes_incomplete_images`: images without all layers."""

    url: str
    username: str
    password: str
    namespace: str
    takes_incomplete_images: bool = False


class DockerLogin(httpx.Auth):
    """Follows the challenge, and keeps the token of each scope."""

    def __init__(self, target: RegistryTarget) -> None:
        self._target = target
        self._tokens: dict[tuple[str, str], str] = {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        kind = {"HEAD": "GET", "PATCH": "PUT", "POST": "PUT"}.get(request.method, request.method)
        place = request.url.path.rpartition("/")[0].rpartition("/")[0] or request.url.path
        key = (place + request.url.params.get("from", ""), kind)
        if key in self._tokens:
            request.headers["Authorization"] = self._tokens[key]
        answer = yield request
        # Twice: to log in at all, and for a scope that only shows then (a mount from wherever the blob is).
        for _ in range(2):
            if answer.status_code != 401:
                return
            challenge = dict(_PARAMETER.findall(answer.headers["WWW-Authenticate"]))
            asking = httpx.Request("GET", challenge["realm"], params=_scopes(challenge))
            granted = yield next(httpx.BasicAuth(self._target.username, self._target.password).auth_flow(asking))
            granted.read()
            self._tokens[key] = f"Bearer {granted.json()['token']}"
            request.headers["Authorization"] = self._tokens[key]
            answer = yield request

    requires_response_body = True


def _scopes(challenge: dict[str, str]) -> list[tuple[str, str | int | float | bool | None]]:
    scopes: list[tuple[str, str | int | float | bool | None]] = [("service", challenge["service"])]
    return scopes + [("scope", scope) for scope in challenge.get("scope", "").split()]


@dataclass(frozen=True)
class RegistryUser:
    """Requests of one user; paths are relative to the registry, locations are followed as they come."""

    http: httpx.Client
    target: RegistryTarget
    algorithm: str = "sha256"
    repository: str = ""
    other: str = ""

    def ask(self, method: str, path: str, content: Any = None, **headers: str) -> httpx.Response:
        """Underscores in names of headers stand for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, path, content=content, headers=sent)

    def after_one_login(self, method: str, path: str) -> httpx.Response:
        """As a client that comes without a token, gets exactly what the challenge asks for, and tries once more."""
        challenge = dict(_PARAMETER.findall(self.http.request(method, path, auth=None).headers["WWW-Authenticate"]))
        login = (self.target.username, self.target.password)
        granted = self.http.request("GET", challenge["realm"], params=_scopes(challenge), auth=login)
        token = f"Bearer {granted.json()['token']}"
        return self.http.request(method, path, auth=None, headers={"Authorization": token})

    def path(self, *parts: object, repository: str | None = None) -> str:
        return "/".join(("/v2", repository or self.repository, *map(str, parts)))

    def digest(self, content: bytes) -> Digest:
        return Digest.of(content, self.algorithm)

    def blob(self, content: bytes, repository: str | None = None) -> Digest:
        """Pushed in two requests."""
        digest = self.digest(content)
        begun = self.ask("POST", self.path("blobs", "uploads", "", repository=repository))
        assert begun.status_code == 202, begun.text
        done = self.ask("PUT", closing(begun.headers["Location"], digest), content, Content_Type=OCTETS)
        assert done.status_code == 201, done.text
        return digest

    def manifest(self, document: dict[str, Any] | bytes, reference: str | None = None) -> Pushed:
        """Pushed under the reference, or by its digest."""
        payload = document if isinstance(document, bytes) else encode(document)
        media_type = str(json.loads(payload)["mediaType"])
        answer = self.ask(
            "PUT", self.path("manifests", reference or self.digest(payload)), payload, Content_Type=media_type
        )
        assert answer.status_code == 201, answer.text
        digest = Digest.parse(answer.headers["Docker-Content-Digest"])
        return Pushed(payload, media_type, digest, answer)

    def image(self, reference: str | None = None, layers: int = 1, **more: Any) -> Pushed:
        """One that nobody pushed before, with its blobs."""
        return self.manifest(self.image_document(layers, **more), reference)

    def image_document(self, layers: int = 1, **more: Any) -> dict[str, Any]:
        contents = [unique() for _ in range(layers)]
        config = encode({"author": secrets.token_hex(8)})
        for content in (config, *contents):
            self.blob(content)
        return {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": self.describe(config, CONFIG),
            "layers": [self.describe(content, LAYER) for content in contents],
            **more,
        }

    def artifact(self, subject: dict[str, Any], artifact_type: str | None, **more: Any) -> Pushed:
        self.blob(EMPTY)
        document = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": self.describe(EMPTY, EMPTY_TYPE),
            "layers": [self.describe(EMPTY, EMPTY_TYPE)],
            "subject": subject,
            "annotations": {"unique": secrets.token_hex(8)},
            **({"artifactType": artifact_type} if artifact_type is not None else {}),
            **more,
        }
        return self.manifest(document)

    def describe(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": str(self.digest(content)), "size": len(content), **more}


@dataclass(frozen=True)
class Pushed:
    payload: bytes
    media_type: str
    digest: Digest
    answer: httpx.Response = field(repr=False)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": len(self.payload)}


def index_of(*children: Pushed, **more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [each.descriptor for each in children],
        **more,
    }


def closing(location: str, digest: Digest) -> str:
    """A location may have a query of its own."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def unique(size: int = 512) -> bytes:
    return secrets.token_bytes(size)


def fresh_name(target: RegistryTarget) -> str:
    return f"{target.namespace}/case-{uuid.uuid4().hex[:12]}"


def encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def codes_of(answer: httpx.Response) -> list[str]:
    """Of a refusal, whose body is checked on the way ("Error Codes")."""
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    errors = answer.json()["errors"]
    assert errors
    assert all(re.fullmatch("[A-Z_]+", each["code"]) for each in errors)
    return [each["code"] for each in errors]


def all_pages(user: RegistryUser, path: str, key: str) -> list[Any]:
    """What a listing says in all, following its links (RFC 5988)."""
    found: list[Any] = []
    following: str | None = path
    while following is not None:
        answer = user.ask("GET", following)
        assert answer.status_code == 200, answer.text
        found += answer.json()[key]
        following = answer.links["next"]["url"] if "next" in answer.links else None
    return found


def names_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [str(each["digest"]) for each in rows]
