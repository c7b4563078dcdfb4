"""The fleet over HTTP: who may, what is shown, and what wrong requests are told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet.routes import Advertised, build_router, reachable
from control_plane.fleet.service import Fleet, FleetOptions, open_fleet
from control_plane.web.errors import install_error_handlers
from tests.control_plane.fleet.plane import Names, sealer
from tests.control_plane.fleet.test_enrolment_rules import application, new_key

PUBLIC = {("GET", "/.well-known/longshore")}
FOR_EVERYBODY = {
    ("GET", "/api/v1/idcs"),
    ("GET", "/api/v1/idcs/{name}"),
    ("GET", "/api/v1/hosts"),
    ("GET", "/api/v1/hosts/{host:path}"),
    ("GET", "/api/v1/regionals"),
    ("GET", "/api/v1/regionals/{regional:path}"),
}
BODIES = {
    "/api/v1/idcs": {"name": "west"},
    "/api/v1/join-tokens": {"kind": "host", "idc": "east"},
    "/api/v1/hosts/{host:path}/labels": {"labels": {"rack": "r1"}},
}


@pytest.fixture
async def fleet(database: Database, clock: ManualClock) -> Fleet:
    return await open_fleet(database, MemoryEventBus(), sealer(), clock, lambda: 0.5, FleetOptions())


@pytest.fixture
def app(fleet: Fleet) -> FastAPI:
    app = FastAPI()
    advertised = Advertised("0.1", fleet.authority.ca_pem, lambda: "0.0.0.0:8443", lambda: "plane.example:8444")
    app.include_router(build_router(fleet.idcs, fleet.members, fleet.join_tokens, advertised))
    app.state.authenticator = Names()
    install_error_handlers(app)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://centre.example") as client:
        yield client


def as_(name: str) -> dict[str, str]:
    return {"Authorization": name}


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    schema = app.openapi()["paths"]
    return [
        (method, route.path)
        for route in _api_routes(app)
        for method in sorted(route.methods or ())
        if route.path or schema
    ]


def _api_routes(app: FastAPI) -> list[APIRoute]:
    found: list[APIRoute] = []
    pending = list(app.router.routes)
    while pending:
        route = pending.pop()
        if isinstance(route, APIRoute):
            found.append(route)
        else:
            pending.extend(getattr(getattr(route, "original_router", route), "routes", ()))
    return found


async def test_every_route_refuses_the_anonymous_and_changes_are_for_the_platform_admin(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    routes = routes_of(app)
    assert len(routes) == 15
    for method, path in routes:
        url = path.replace("{name}", "x").replace("{host:path}", "x").replace("{regional:path}", "x")
        url = url.replace("{token_id}", "x")
        body = BODIES.get(path) if method in ("POST", "PUT") else None
        anonymous = await client.request(method, url, json=body)
        user = await client.request(method, url, json=body, headers=as_("user"))
        if (method, path) in PUBLIC:
            assert anonymous.status_code == 200
        else:
            assert anonymous.status_code == 401, (method, path)
            expected = (200, 404) if (method, path) in FOR_EVERYBODY else (403,)
            assert user.status_code in expected, (method, path)


async def test_idcs_come_and_go(client: httpx.AsyncClient) -> None:
    made = await client.post("/api/v1/idcs", json={"name": "east", "display_name": "East"}, headers=as_("admin"))
    again = await client.post("/api/v1/idcs", json={"name": "east"}, headers=as_("admin"))
    wrong = await client.post("/api/v1/idcs", json={"name": "../etc"}, headers=as_("admin"))
    unknown_field = await client.post("/api/v1/idcs", json={"name": "a", "colour": 1}, headers=as_("admin"))
    listed = await client.get("/api/v1/idcs", headers=as_("user"))
    removed = await client.delete("/api/v1/idcs/east", headers=as_("admin"))
    gone = await client.get("/api/v1/idcs/east", headers=as_("user"))

    assert (made.status_code, made.json()["data"]["display_name"]) == (201, "East")
    assert (again.status_code, again.json()["code"]) == (409, "idc_exists")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "name_invalid")
    assert unknown_field.status_code == 400
    assert [row["name"] for row in listed.json()["data"]] == ["east"]
    assert listed.json()["pagination"]["total_count"] == 1
    assert removed.status_code == 204
    assert gone.status_code == 404


async def test_a_join_token_is_shown_once(client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/idcs", json={"name": "east"}, headers=as_("admin"))
    made = await client.post("/api/v1/join-tokens", json={"kind": "host", "idc": "east"}, headers=as_("admin"))
    listed = await client.get("/api/v1/join-tokens", headers=as_("admin"))
    data = made.json()["data"]
    removed = await client.delete(f"/api/v1/join-tokens/{data['id']}", headers=as_("admin"))

    assert made.status_code == 201
    assert data["token"].startswith("LSJOIN-1-")
    assert (data["expires_at"], data["created_by"]) == ("2026-01-01T00:10:00Z", "root")
    assert [row["id"] for row in listed.json()["data"]] == [data["id"]]
    assert data["token"].rpartition("-")[2] not in listed.text
    assert removed.status_code == 204
    assert (await client.get("/api/v1/join-tokens", headers=as_("admin"))).json()["data"] == []


async def test_hosts_and_regionals_are_shown_found_filtered_and_revoked(
    client: httpx.AsyncClient, fleet: Fleet
) -> None:
    await fleet.idcs.create("east")
    for kind, name in (("host", "e1"), ("host", "e2"), ("regional", "r1")):
        body = {"kind": kind, "idc": "east", "name": name}
        token = (await client.post("/api/v1/join-tokens", json=body, headers=as_("admin"))).json()["data"]["token"]
        await fleet.enrolment.enrol(application(token, new_key()))

    hosts = (await client.get("/api/v1/hosts?idc=east&page_size=1", headers=as_("user"))).json()
    shown = (await client.get("/api/v1/hosts/east/e1", headers=as_("user"))).json()["data"]
    by_id = (await client.get(f"/api/v1/hosts/{shown['id']}", headers=as_("user"))).json()["data"]
    elsewhere = (await client.get("/api/v1/hosts?idc=west", headers=as_("user"))).json()
    revoked = await client.delete("/api/v1/hosts/east/e1", headers=as_("admin"))
    left = (await client.get("/api/v1/hosts", headers=as_("user"))).json()["data"]
    gone = (await client.get("/api/v1/hosts?state=revoked", headers=as_("user"))).json()["data"]
    regionals = (await client.get("/api/v1/regionals?state=offline", headers=as_("user"))).json()["data"]
    one = (await client.get("/api/v1/regionals/east/r1", headers=as_("user"))).json()["data"]
    dropped = await client.delete(f"/api/v1/regionals/{one['id']}", headers=as_("admin"))

    assert hosts["pagination"] == {"page": 1, "page_size": 1, "total_pages": 2, "total_count": 2}
    assert shown == by_id
    assert (shown["name"], shown["idc"], shown["state"], shown["version"]) == ("e1", "east", "offline", "1.0")
    assert shown["facts"] == {"engines": []}
    assert elsewhere["data"] == []
    assert revoked.status_code == 204
    assert [row["name"] for row in left] == ["e2"]
    assert [(row["name"], row["state"]) for row in gone] == [("e1", "revoked")]
    assert [row["name"] for row in regionals] == ["r1"]
    assert dropped.status_code == 204
    assert (await client.get("/api/v1/hosts?state=sleepy", headers=as_("user"))).status_code == 400


async def test_well_known_names_the_host_it_was_asked_at_when_every_address_is_listened_on(
    client: httpx.AsyncClient,
) -> None:
    told = (await client.get("/.well-known/longshore")).json()

    assert told["enrolment"] == "centre.example:8443"
    assert told["attach"] == "plane.example:8444"
    assert reachable("[::]:1", "::1") == "[::1]:1"
