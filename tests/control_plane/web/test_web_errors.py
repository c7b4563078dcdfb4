"""Every failure has its status, every error one shape, and nothing of our insides gets out."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI, Query
from httpx import ASGITransport, AsyncClient
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import control_plane
from common import errors
from common.clock import ManualClock
from common.errors import Failure
from control_plane.web.access_log import AccessLog, HttpMetrics
from control_plane.web.errors import STATUS, install_error_handlers, status_of


class Password(BaseModel):
    password: int


class BlobUnknown(errors.NotFound):
    code = "blob_unknown"


async def raise_named(request: Request) -> Response:
    kind = request.path_params["kind"]
    if kind == "bug":
        raise ZeroDivisionError("the secret is hunter2")
    if kind == "BlobUnknown":
        raise BlobUnknown("no such blob", action="push it", status=7, digest="sha256:00")
    if kind in ("RateLimited", "Unavailable"):
        raise getattr(errors, kind)("slowly", retry_after_seconds=1.2)
    raise getattr(errors, kind)("it failed", action="mend it")


def fastapi_app() -> Starlette:
    app = FastAPI()
    app.add_api_route("/raise/{kind}", raise_named)

    @app.post("/password")
    async def password(body: Password, times: Annotated[int, Query(ge=1)] = 1) -> None: ...

    install_error_handlers(app)
    return app


def starlette_app() -> Starlette:
    app = Starlette(routes=[Route("/raise/{kind}", raise_named)])
    install_error_handlers(app)
    return app


def client_of(app: Starlette) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://longshore")


@pytest.fixture(params=[fastapi_app, starlette_app], ids=["fastapi", "starlette"])
def client(request: pytest.FixtureRequest) -> AsyncClient:
    app = request.param()
    app.add_middleware(AccessLog, clock=ManualClock(), metrics=HttpMetrics(CollectorRegistry()))
    return client_of(app)


def every_failure() -> Iterator[type[Failure]]:
    waiting = [Failure]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        served = kind.__module__.startswith(("control_plane.", "common.")) and ".cli." not in kind.__module__
        if served and kind is not Failure and not kind.__name__.startswith("_"):
            yield kind


def test_every_failure_of_the_control_plane_has_a_status() -> None:
    for module in pkgutil.walk_packages(control_plane.__path__, "control_plane."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name and ".cli" not in module.name:
            importlib.import_module(module.name)
    kinds = set(every_failure())
    assert len(kinds) > len(STATUS)
    assert [kind for kind in kinds if not any(ancestor in STATUS for ancestor in kind.__mro__)] == []
    assert [kind for kind in kinds if not 400 <= status_of(kind) < 600] == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Invalid", 400),
        ("Unauthenticated", 401),
        ("Denied", 403),
        ("NotFound", 404),
        ("Conflict", 409),
        ("Stale", 412),
        ("TooLarge", 413),
        ("QuotaExceeded", 413),
        ("RateLimited", 429),
        ("Unavailable", 503),
        ("Internal", 500),
    ],
)
async def test_a_failure_becomes_its_problem(client: AsyncClient, kind: str, status: int) -> None:
    answer = await client.get(f"/raise/{kind}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"], body["instance"]) == ("about:blank", status, f"/raise/{kind}")
    assert body["code"] == getattr(errors, kind).code
    assert set(body) >= {"title", "detail", "action"}


async def test_facts_stand_beside_the_standard_members_and_replace_none(client: AsyncClient) -> None:
    body = (await client.get("/raise/BlobUnknown")).json()
    assert body["digest"] == "sha256:00"
    assert body["status"] == 404
    assert body["code"] == "blob_unknown"


async def test_waiting_is_told_in_whole_seconds_rounded_up(client: AsyncClient) -> None:
    assert (await client.get("/raise/RateLimited")).headers["retry-after"] == "2"
    assert (await client.get("/raise/Unavailable")).headers["retry-after"] == "2"


async def test_a_401_says_how_to_authenticate(client: AsyncClient) -> None:
    assert (await client.get("/raise/Unauthenticated")).headers["www-authenticate"].startswith("Bearer")


async def test_a_bug_tells_nothing_but_the_identifier_to_report(client: AsyncClient) -> None:
    answer = await client.get("/raise/bug")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "ZeroDivision" not in answer.text
    body = answer.json()
    assert body["code"] == "internal"
    assert body["request_id"] in body["action"]
    assert body["request_id"] == answer.headers["x-request-id"]


async def test_a_bug_tells_nothing_without_the_access_log_either() -> None:
    transport = ASGITransport(starlette_app(), raise_app_exceptions=False)
    answer = await AsyncClient(transport=transport, base_url="http://longshore").get("/raise/bug")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert len(answer.json()["request_id"]) == 16


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(client: AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["code"] == "not_found"
    wrong = await client.put("/raise/Invalid")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


async def test_wrong_fields_are_named_and_their_values_are_not_repeated() -> None:
    answer = await client_of(fastapi_app()).post("/password?times=0", json={"password": "hunter2"})
    assert answer.status_code == 400
    assert "hunter2" not in answer.text
    body = answer.json()
    assert {field["field"] for field in body["fields"]} == {"body.password", "query.times"}
    assert "body.password" in body["detail"]


async def test_a_body_that_is_no_json_is_refused() -> None:
    answer = await client_of(fastapi_app()).post(
        "/password", content=b"{'password'", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert json.loads(answer.text)["code"] == "invalid"


async def test_what_a_rule_refuses_is_answered_like_what_a_schema_refuses() -> None:
    app = fastapi_app()

    async def rule(request: Request) -> Response:
        raise errors.Invalid("8 hosts are too many", action="name fewer", field="hosts")

    app.add_route("/rule", rule)
    by_rule = await client_of(app).get("/rule")
    by_schema = await client_of(app).post("/password?times=0", json={"password": "hunter2"})
    assert by_rule.status_code == by_schema.status_code == 400
    assert by_rule.json()["fields"] == [{"field": "hosts", "problem": "8 hosts are too many"}]


def test_no_route_has_a_status_of_its_own_for_wrong_requests() -> None:
    source = Path(control_plane.__file__).parent
    odd = re.compile(r"\b422\b|UNPROCESSABLE")
    found = [path.name for path in source.rglob("*.py") if "cli" not in path.parts and odd.search(path.read_text())]
    assert found == ["openapi.py"], "which says that FastAPI's own is left out"
