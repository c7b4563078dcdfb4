"""Every route of a running control plane, walked by somebody of another tenant, by a foreign robot and by nobody.

The routes come from the OpenAPI document, so that a new one is walked without being named here; bodies are made from
its schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from common.digest import Digest
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.v2.paths import Kind
from tests.control_plane.cli.programs import Plane, started
from tests.control_plane.registry.people import image_manifest

pytestmark = pytest.mark.processes

PASSWORD = "correct horse battery"
CONFIG = b'{"architecture":"amd64"}'
PAYLOAD = image_manifest(CONFIG, [])
# How one stops being anonymous.
OPEN = {"/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout"}
# One's own, or the same for everybody who is logged in; what they answer is searched for what is acme's.
OWN = {"/api/v1/auth/me", "/api/v1/auth/password", "/api/v1/api-keys", "/api/v1/api-keys/{key_id}"}
# What somebody tried himself is in his own trail, with the names that he tried it on.
TRAIL = {"/api/v1/audit", "/api/v1/audit/export"}
# Ada stands by herself: the letters also occur in one of a hundred random ids.
SECRETS = re.compile(r"acme|\bada\b|hidden|lsr_|lsk_")
REFUSED = (401, 403, 404)
_ID = "00000000-0000-7000-8000-000000000009"
PARAMETERS = {
    "name": "acme",
    "tenant": "acme",
    "repository": "acme/hidden",
    "username": "ada",
    "user": "ada",
    "robot": "ci",
    "group": "crew",
    "kind": "user",
    "digest": str(Digest.of(PAYLOAD)),
    "tag": "1",
    "reference": "1",
}


def plain(schema: dict[str, Any], name: str) -> Any:
    if schema.get("type") in ("integer", "number"):
        return schema.get("minimum", 1)
    if schema.get("type") == "boolean":
        return True
    if schema.get("description", "").startswith("tenant/name"):
        name = "repository"
    by_format = {"date-time": "2199-01-01T00:00:00Z", "uri": "https://hooks.example/x"}
    return by_format.get(schema.get("format", "")) or PARAMETERS.get(name, "x" * max(3, schema.get("minLength", 0)))


@dataclass(frozen=True)
class World:
    url: str
    document: dict[str, Any]
    admin: dict[str, str]
    bob: dict[str, str]
    robot: dict[str, str]

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, methods in self.document["paths"].items():
            if path.startswith("/api/v1/"):
                for method, operation in methods.items():
                    yield method.upper(), path, operation

    def sample(self, schema: dict[str, Any], name: str = "") -> Any:
        """The smallest value that the schema takes, naming what is acme's where a name is asked for."""
        if "$ref" in schema:
            return self.sample(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name)
        for key in ("const", "default"):
            if schema.get(key) is not None:
                return schema[key]
        if "enum" in schema:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return self.sample(schema[key][0], name)
        if schema.get("type") == "object":
            properties, required = schema.get("properties", {}), schema.get("required", [])
            asked = set(required) | (set(properties) & {"tenant", "repository", "user"})
            return {key: self.sample(properties[key], key) for key in sorted(asked)}
        if schema.get("type") == "array":
            return [self.sample(schema["items"], name) for _ in range(schema.get("minItems", 0))]
        return plain(schema, name)

    def address(self, path: str, operation: dict[str, Any]) -> str:
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                name, schema = parameter["name"], parameter["schema"]
                value = PARAMETERS.get(name, _ID) if schema.get("type") == "string" else str(self.sample(schema, name))
                path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        return path

    def body(self, operation: dict[str, Any]) -> Any:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        return None if content is None else self.sample(content["schema"])


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    running = started(tmp_path_factory.mktemp("plane") / "data")
    yield running
    running.service.stop()


@pytest.fixture(scope="module")
def world(plane: Plane) -> World:
    with httpx.Client(base_url=plane.url) as client:

        def made(method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
            answer = client.request(method, path, json=body, headers=headers)
            assert answer.status_code < 300, (path, answer.text)
            return answer.json()["data"] if answer.content else None

        def login(name: str, password: str) -> dict[str, str]:
            data = made("POST", "/api/v1/auth/login", {"username": name, "password": password}, {})
            return {"Authorization": f"Bearer {data['access_token']}"}

        admin = login("admin", plane.password)
        for name, tenant in (("ada", "acme"), ("bob", "birch")):
            made("POST", "/api/v1/users", {"username": name, "password": PASSWORD}, admin)
            made("POST", "/api/v1/tenants", {"name": tenant}, admin)
            made("PUT", f"/api/v1/tenants/{tenant}/members/{name}", {"role": "admin"}, admin)
        ada, bob = login("ada", PASSWORD), login("bob", PASSWORD)
        scopes = [{"repository": "acme/*", "actions": ["pull", "push", "delete"]}]
        made("POST", "/api/v1/tenants/acme/robots", {"name": "ci", "scopes": scopes}, ada)
        made("POST", "/api/v1/tenants/acme/groups", {"name": "crew"}, ada)
        mine = made("POST", "/api/v1/tenants/birch/robots", {"name": "ci", "scopes": scopes}, bob)
        path = f"/v2/acme/hidden/blobs/uploads/?digest={Digest.of(CONFIG)}"
        assert client.post(path, content=CONFIG, headers=ada).status_code == 201
        headers = {**ada, "Content-Type": OCI_MANIFEST}
        assert client.put("/v2/acme/hidden/manifests/1", content=PAYLOAD, headers=headers).status_code == 201
        made("PUT", "/api/v1/repositories/acme/hidden/-/grants/user/ada", {"level": "read"}, ada)
        document = client.get("/api/openapi.json").json()
    return World(plane.url, document, admin, bob, {"Authorization": f"Bearer {mine['key']}"})


def trail(text: str) -> list[dict[str, Any]]:
    """Of a page, or of an export with one record a line."""
    lines = [json.loads(line) for line in text.splitlines() if line]
    return lines[0]["data"] if len(lines) == 1 and "data" in lines[0] else lines


def names_something_of(path: str, operation: dict[str, Any]) -> bool:
    return any(parameter["in"] == "path" for parameter in operation.get("parameters", []))


def walk(world: World, headers: dict[str, str]) -> Iterator[tuple[str, str, dict[str, Any], httpx.Response]]:
    with httpx.Client(base_url=world.url, timeout=30) as client:
        for method, path, operation in world.operations():
            if path in OPEN:
                continue
            address, body = world.address(path, operation), world.body(operation)
            yield method, path, operation, client.request(method, address, json=body, headers=headers)


def test_nobody_gets_an_answer_from_any_route(world: World) -> None:
    answers = [(method, path, answer.status_code) for method, path, _, answer in walk(world, {})]
    assert [each for each in answers if each[2] != 401] == []
    assert len(answers) > 60


@pytest.mark.parametrize("who", ["bob", "robot"])
def test_no_route_shows_or_changes_what_is_another_tenants(world: World, who: str) -> None:
    before, wrong = picture(world), []
    for method, path, operation, answer in walk(world, getattr(world, who)):
        if path in OWN:
            continue
        named = names_something_of(path, operation) or "acme" in json.dumps(world.body(operation))
        if method == "GET" and answer.status_code == 200 and not named:
            records = trail(answer.text) if path in TRAIL else None
            good = (
                SECRETS.search(answer.text) is None
                if records is None
                else {record["operator"] for record in records if record["tenant"] != "birch"} <= {"bob"}
            )
        else:
            good = answer.status_code in REFUSED
        if not good:
            wrong.append((method, path, answer.status_code, answer.text[:300]))
    assert wrong == []
    assert picture(world) == before


def test_no_resource_of_the_registry_opens_for_strangers(world: World) -> None:
    digest = Digest.of(PAYLOAD)
    paths = {
        Kind.TAGS: "tags/list",
        Kind.MANIFEST: f"manifests/{digest}",
        Kind.BLOB: f"blobs/{Digest.of(CONFIG)}",
        Kind.UPLOADS: "blobs/uploads/",
        Kind.UPLOAD: f"blobs/uploads/{_ID}",
        Kind.REFERRERS: f"referrers/{digest}",
    }
    # The rest has no repository: what they say is in test_known_attacks.
    assert set(paths) | {Kind.BASE, Kind.TOKEN, Kind.CATALOG} == set(Kind)
    with httpx.Client(base_url=world.url, timeout=30) as client:
        for headers, refused in (({}, {401}), (world.bob, {403, 404}), (world.robot, {403, 404})):
            for kind, path in paths.items():
                for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
                    answer = client.request(
                        method,
                        f"/v2/acme/hidden/{path}",
                        params={"digest": str(digest)},
                        content=PAYLOAD,
                        headers=headers,
                    )
                    # 400 and 405: it is no request at all, whoever sends it.
                    assert answer.status_code in refused | {400, 405}, (kind, method, answer.status_code)
                    assert answer.status_code != 400 or method == "PUT", (kind, method, answer.text)
        for headers in (world.bob, world.robot):
            assert client.get("/v2/_catalog", headers=headers).json() == {"repositories": []}


def picture(world: World) -> list[str]:
    """What there is of acme, as the platform admin sees it."""
    paths = (
        "/api/v1/tenants",
        "/api/v1/users",
        "/api/v1/images",
        "/api/v1/tenants/acme/members",
        "/api/v1/tenants/acme/robots",
        "/api/v1/tenants/acme/groups",
        "/api/v1/repositories/acme/hidden/-/grants",
        "/api/v1/repositories/acme/hidden/-/access",
    )
    with httpx.Client(base_url=world.url, headers=world.admin) as client:
        return [client.get(path).raise_for_status().text for path in paths]
