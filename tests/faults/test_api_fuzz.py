"""Every operation of the management API, found in its OpenAPI document, is sent what nobody should send, by nobody, by
a stranger, by somebody who may only look and by the platform's administrator: each gets an answer in time, none of
them an accident (5xx), and nobody learns a name of another tenant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common.digest import Digest
from tests.faults.lives import installation
from tests.faults.test_kill_anywhere import SOAK

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900 if SOAK else 180)]

PASSWORD = "correct horse battery"
EXAMPLES = 30_000 if SOAK else 1200
# A name that stands in an answer and did not stand in the request was leaked.
SECRETS = ("zebra-tenant", "zebra-image", "zebra-user", "zebra-group", "zebra-robot")
PLACES = {
    "repository": "zebra-tenant/zebra-image",
    "tenant": "zebra-tenant",
    "name": "zebra-tenant",
    "username": "zebra-user",
    "user": "zebra-user",
    "group": "zebra-group",
    "robot": "zebra-robot",
}
AWKWARD = [
    *("", " ", ".", "..", "../..", "%00", "a\x00b", "\n", "'", '"', "`", ";--", "%", "_", "*", "?", "#", "//", "\\"),
    *("a" * 300, "a" * 5000, "ÄÖ", "日本", "\u202e", "😀", "\ud7ff", "NaN", "null", "true", "-1", "0", "1e400"),
    *("9" * 40, str(2**31), str(2**63), str(-(2**63) - 1), "0x10", "1,2", "sha256:" + "0" * 64, "sha256:", "a:b"),
    *("2199-01-01T00:00:00Z", "0000-00-00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"),
    *("00000000-0000-7000-8000-000000000009", "admin", "birch", "../admin", "acme/../birch", "http://127.0.0.1/"),
]

# What gets past the first checks; these may be changed and removed.
LIKELY = [
    *("spare-tenant", "spare-tenant/spare-image", "spare-user", "spare", "latest", "v*", "**", "spare-tenant/**"),
    *("https://hooks.example/x", "2199-01-01T00:00:00Z", PASSWORD, "1", "pull", "viewer", "user", "registry.push"),
    f"sha256:{'ab' * 32}",
]

likely = st.sampled_from(LIKELY)
words = st.one_of(st.sampled_from(AWKWARD), st.text(max_size=40))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    declared: dict[str, Any]

    @property
    def parameters(self) -> list[dict[str, Any]]:
        return list(self.declared.get("parameters", []))

    @property
    def body(self) -> dict[str, Any] | None:
        content = self.declared.get("requestBody", {}).get("content", {})
        return None if "application/json" not in content else dict(content["application/json"]["schema"])


@dataclass(frozen=True)
class World:
    url: str
    people: dict[str, dict[str, str]]
    operations: list[Operation]
    schemas: dict[str, Any]

    def bodies(self, schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
        """Mostly of the right shape, so that it gets past the first check, with wrong values in it."""
        if depth > 4:
            return json_values
        if "$ref" in schema:
            return self.bodies(self.schemas[schema["$ref"].rpartition("/")[2]], depth)
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return st.one_of(*(self.bodies(each, depth + 1) for each in schema[key]))
        right = self._right(schema, depth)
        return st.one_of(*[right] * 12, json_values)

    def _right(self, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema.get("type")
        if kind == "object":
            known = schema.get("properties", {})
            fields = {name: self.bodies(each, depth + 1) for name, each in known.items()}
            required = set(schema.get("required", []))
            return st.fixed_dictionaries(
                {name: fields[name] for name in fields if name in required},
                optional={name: fields[name] for name in fields if name not in required},
            )
        if kind == "array":
            return st.lists(self.bodies(schema.get("items", {}), depth + 1), max_size=5)
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", -(2**70)), schema.get("maximum", 2**70)
            few = st.integers(min_value=int(low), max_value=int(min(high, low + 50)))
            return st.one_of(few, few, st.sampled_from([low, high, 0, 1, -1, 2**31, 2**63]), st.integers())
        if kind == "boolean":
            return st.booleans()
        return st.one_of(likely, likely, words)


def requests(world: World) -> st.SearchStrategy[tuple[Operation, str, str, dict[str, str], Any]]:
    @st.composite
    def made(draw: st.DrawFn) -> tuple[Operation, str, str, dict[str, str], Any]:
        operation = draw(st.sampled_from(world.operations))
        # Logging out would make everybody nobody.
        ending = operation.path.endswith("/auth/logout")
        who = "nobody" if ending else draw(st.sampled_from(sorted(world.people)))
        path, query = operation.path, {}
        for parameter in operation.parameters:
            name = parameter["name"]
            if parameter["in"] == "path":
                known = PLACES.get(name)
                value = draw(
                    st.one_of(st.just(known), likely, words) if known is not None else st.one_of(likely, words)
                )
                path = path.replace(f"{{{name}}}", quote(value, safe="/"))
            elif parameter["in"] == "query" and draw(st.booleans()):
                query[name] = str(draw(world.bodies(parameter.get("schema", {}))))
        body = draw(world.bodies(operation.body)) if operation.body is not None else None
        return operation, who, path, query, body

    return made()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with installation(tmp_path_factory.mktemp("fuzzed") / "plane") as server, server.admin() as admin:

        def make(method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
            answer = admin.request(method, path, json=body, headers=headers)
            assert answer.status_code < 300, (path, answer.text)
            return answer.json().get("data") if answer.content else None

        def login(name: str) -> dict[str, str]:
            data = make("POST", "/api/v1/auth/login", {"username": name, "password": PASSWORD})
            return {"Authorization": f"Bearer {data['access_token']}"}

        for tenant in ("zebra-tenant", "birch", "spare-tenant"):
            make("POST", "/api/v1/tenants", {"name": tenant})
        for name, tenant, role in (
            ("zebra-user", "zebra-tenant", "admin"),
            ("bob", "birch", "admin"),
            ("vic", "birch", "viewer"),
            ("spare-user", "spare-tenant", "operator"),
        ):
            make("POST", "/api/v1/users", {"username": name, "password": PASSWORD})
            make("PUT", f"/api/v1/tenants/{tenant}/members/{name}", {"role": role})
        owner = login("zebra-user")
        make("POST", "/api/v1/tenants/zebra-tenant/groups", {"name": "zebra-group"}, owner)
        scopes = [{"repository": "zebra-tenant/*", "actions": ["pull"]}]
        make("POST", "/api/v1/tenants/zebra-tenant/robots", {"name": "zebra-robot", "scopes": scopes}, owner)
        path = f"/v2/zebra-tenant/zebra-image/blobs/uploads/?digest={Digest.of(b'{}')}"
        assert admin.post(path, content=b"{}", headers=owner).status_code == 201
        document = admin.get("/api/openapi.json").json()
        people = {
            "nobody": {},
            "stranger": login("bob"),
            "viewer": login("vic"),
            "administrator": {"Authorization": admin.headers["Authorization"]},
        }
        operations = [
            Operation(method.upper(), path, declared)
            for path, methods in document["paths"].items()
            for method, declared in methods.items()
            if path.startswith("/api/v1/")
        ]
        yield World(server.url, people, operations, document["components"]["schemas"])
        assert "did not foresee" not in server.log


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode("utf-8", "replace")


def test_no_request_is_an_accident_and_none_tells_foreign_names(world: World) -> None:
    wrong: list[Any] = []
    seen: set[tuple[str, str]] = set()

    with httpx.Client(base_url=world.url, timeout=15) as client:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(requests(world))
        def run(request: tuple[Operation, str, str, dict[str, str], Any]) -> None:
            operation, who, path, query, body = request
            if (
                who == "administrator"
                and operation.method != "GET"
                and any(name in f"{path} {body}" for name in SECRETS)
            ):
                return  # who may give it away could: a repository that was made public is no secret any more
            headers = dict(world.people[who])
            content = None if body is None else _encoded(body)
            if content is not None:
                headers["Content-Type"] = "application/json"
            answer = client.request(operation.method, path, params=query, content=content, headers=headers)
            seen.add((operation.method, operation.path))
            sent = f"{path} {query} {body}"
            leaked = [name for name in SECRETS if name in answer.text and name not in sent]
            if answer.status_code >= 500 or (who != "administrator" and leaked):
                wrong.append((who, operation.method, path, query, body, answer.status_code, answer.text[:300]))
            if who == "nobody" and answer.status_code < 300 and "/auth/" not in path:
                wrong.append((who, operation.method, path, answer.status_code))

        run()
        assert wrong == []
        assert len(seen) > len(world.operations) * 0.8
        # The people are still who they were: the fuzz asked something of them all the time.
        for who, headers in world.people.items():
            status = client.get("/api/v1/auth/me", headers=headers).status_code
            assert status == (401 if who == "nobody" else 200), who


BODIES_THAT_ARE_NONE = [
    *(b"", b"{", b"[]", b"null", b'"x"', b"1", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 20_000, b"NaN", b"\x00"),
    *(b'{"name": "a", "name": "b"}', b"9" * 5000, b'{"name": "\\ud800"}', b'{"__proto__": {}}', b"{}" * 1000),
]


@pytest.mark.parametrize("number", range(len(BODIES_THAT_ARE_NONE)))
def test_a_body_that_is_no_document_is_refused_by_every_operation(world: World, number: int) -> None:
    body, wrong = BODIES_THAT_ARE_NONE[number], []
    headers = {**world.people["administrator"], "Content-Type": "application/json"}
    with httpx.Client(base_url=world.url, timeout=15, headers=headers) as client:
        for operation in world.operations:
            if operation.body is None:
                continue
            path = re.sub(r"{[a-z_]+}", "nothing", operation.path)
            answer = client.request(operation.method, path, content=body)
            if answer.status_code >= 500:
                wrong.append((operation.method, path, answer.status_code, answer.text[:200]))
    assert wrong == []


def test_what_is_foreign_looks_like_what_is_not_there(world: World) -> None:
    """The same answer for a name of another tenant and for one that nobody has."""
    told = []
    with httpx.Client(base_url=world.url, timeout=15) as client:
        for operation in world.operations:
            names = [each["name"] for each in operation.parameters if each["in"] == "path"]
            if not set(names) & set(PLACES):
                continue
            for who in ("stranger", "viewer"):
                answers = []
                for places in (PLACES, {name: value.replace("zebra", "ghost") for name, value in PLACES.items()}):
                    path = operation.path
                    for name in names:
                        value = places.get(name, "nothing")
                        path = path.replace(f"{{{name}}}", quote(value))
                    answer = client.request(operation.method, path, headers=world.people[who])
                    text = answer.text.replace("zebra", "ghost")
                    answers.append((answer.status_code, answer.json().get("code") if text else None))
                if answers[0] != answers[1]:
                    told.append((who, operation.method, operation.path, answers))
    assert told == []
