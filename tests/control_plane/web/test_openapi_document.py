"""What the OpenAPI document of a running control plane promises."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.demo.services import Service

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("plane") / "data"
    arguments = ["serve", "--http=127.0.0.1:0", "--enrolment=127.0.0.1:0", "--attach=127.0.0.1:0", f"--data={data}"]
    service = Service("control-plane", "control_plane", arguments, data)
    yield f"http://{service.start()['http']}"
    service.stop()


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/openapi.json", timeout=10) as answer:
        return dict(json.load(answer))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/api/v1/"):
                yield f"{method} {path}", operation


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    silent = [name for name, operation in operations(document) if not operation.get("description")]
    assert silent == []
    assert len(list(operations(document))) > 30


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(operation.get("summary") and operation.get("tags") for _, operation in operations(document))


def test_every_operation_declares_what_it_answers(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        good = {code: body for code, body in operation["responses"].items() if code.startswith("2")}
        assert good, name
        for code, body in good.items():
            content = body.get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            named = schema.get("$ref", "").startswith("#/components/schemas/")
            # What is streamed is lines of JSON, or text beside them, or an export; nothing else is no document.
            lines = "application/x-ndjson" in content and set(content) <= {"application/x-ndjson", "text/plain"}
            streamed = lines or (name.endswith("/export") and set(content) == {"application/x-tar"})
            assert code == "204" or named or streamed, f"{name} {code}"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "$ref":
                    yield value
                else:
                    yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in set(references(document)):
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


def test_a_failure_looks_as_the_document_says(document: dict[str, Any], url: str) -> None:
    problem = document["components"]["schemas"]["Problem"]
    for name, operation in operations(document):
        content = operation["responses"]["default"]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, name
        assert "422" not in operation["responses"], name
    for path, body in (("/api/v1/auth/me", None), ("/api/v1/auth/login", b"{}"), ("/api/v1/nothing", None)):
        request = urllib.request.Request(url + path, data=body, headers={"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert answer.headers["Content-Type"] == "application/problem+json"
            told = json.load(answer)
        for member in problem["required"]:
            assert member in told, (path, member)
        assert told["status"] == refused.value.code
