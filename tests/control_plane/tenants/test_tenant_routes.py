"""HTTP of tenants: every route asks who it is, every answer has its shape, no answer shows a secret."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from common.clock import ManualClock
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.routes import build_router
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.access_log import AccessLog, HttpMetrics
from control_plane.web.errors import install_error_handlers
from control_plane.web.paging import PageRequest

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
# How one stops being anonymous, and the keys that everybody may have.
OPEN = {"/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout", "/.well-known/jwks.json"}
PAGE = PageRequest(1, 100)
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/auth/password"): {"current_password": PASSWORD, "new_password": "another good one"},
    ("POST", "/api/v1/users"): {"username": "eve", "password": PASSWORD},
    ("PATCH", "/api/v1/users/{username}"): {"disabled": True},
    ("PUT", "/api/v1/users/{username}/password"): {"password": "another good one"},
    ("POST", "/api/v1/api-keys"): {"name": "ci", "tenant": "gamma"},
    ("POST", "/api/v1/tenants"): {"name": "mine"},
    ("PUT", "/api/v1/tenants/{name}/members/{username}"): {"role": "admin"},
    ("POST", "/api/v1/tenants/{name}/robots"): {
        "name": "mine",
        "scopes": [{"repository": "gamma/*", "actions": ["pull"]}],
    },
    ("PATCH", "/api/v1/tenants/{name}/robots/{robot}"): {"disabled": True},
    ("POST", "/api/v1/tenants/{name}/groups"): {"name": "mine"},
}
# Everybody who is signed in has these for themselves.
OWN = {"/api/v1/auth/me", "/api/v1/auth/password", "/api/v1/api-keys", "/api/v1/registry-logins", "/api/v1/tenants"}


@pytest.fixture
async def client(tenancy: Tenancy, clock: ManualClock) -> AsyncIterator[AsyncClient]:
    app = FastAPI()
    app.include_router(build_router(tenancy))
    app.state.authenticator = tenancy.auth
    install_error_handlers(app)
    app.add_middleware(AccessLog, clock=clock, metrics=HttpMetrics(CollectorRegistry()))
    transport = ASGITransport(app, client=("192.0.2.7", 4711))
    async with AsyncClient(transport=transport, base_url="http://longshore") as made:
        yield made


async def bearer(client: AsyncClient, name: str, password: str = PASSWORD) -> dict[str, str]:
    answer = await client.post("/api/v1/auth/login", json={"username": name, "password": password})
    return {"Authorization": f"Bearer {answer.json()['data']['access_token']}"}


async def admin(tenancy: Tenancy, client: AsyncClient) -> dict[str, str]:
    password = await tenancy.accounts.ensure_platform_admin()
    assert password is not None
    return await bearer(client, "admin", password)


def routes(tenancy: Tenancy) -> list[tuple[str, str]]:
    return [
        (method, route.path)
        for route in build_router(tenancy).routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def address(path: str) -> str:
    key_id = "00000000-0000-7000-8000-000000000009"
    return path.format(name="gamma", username="ada", key_id=key_id, login_id=key_id, robot="ci", group="devs")


async def test_no_route_answers_somebody_unknown(tenancy: Tenancy, client: AsyncClient) -> None:
    for method, path in routes(tenancy):
        if path in OPEN:
            continue
        answer = await client.request(method, address(path), json=BODIES.get((method, path)))
        assert answer.status_code == 401, (method, path)
        assert answer.json()["code"] == "unauthenticated"
        assert "www-authenticate" in answer.headers


async def test_no_route_opens_a_foreign_tenant_or_the_platform(tenancy: Tenancy, client: AsyncClient) -> None:
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    headers = await bearer(client, "ada")
    before = await picture(tenancy)
    for method, path in routes(tenancy):
        if path in OPEN or (path in OWN and (method, path) not in BODIES) or path == "/api/v1/auth/password":
            continue
        answer = await client.request(method, address(path), json=BODIES.get((method, path)), headers=headers)
        assert answer.status_code in (403, 404), (method, path, answer.text)
        if "{name}" in path:
            assert answer.status_code == 404, (method, path)
    assert await picture(tenancy) == before


async def picture(tenancy: Tenancy) -> object:
    whole = []
    from_page_one = (await tenancy.tenants.list(ADMIN, PAGE)).items
    for tenant in from_page_one:
        whole.append((tenant, (await tenancy.tenants.members(ADMIN, tenant.name, PAGE)).items))
    return whole, (await tenancy.accounts.list(ADMIN, PAGE)).items


async def test_every_route_is_named_in_the_walk(tenancy: Tenancy) -> None:
    known = set(routes(tenancy))
    assert set(BODIES) <= known
    assert {path for _, path in known} >= OPEN | OWN
    assert len(known) == 35


async def test_logging_in_staying_in_and_out(client: AsyncClient) -> None:
    answer = await client.post("/api/v1/auth/login", json={"username": "ada", "password": PASSWORD})
    assert answer.headers["cache-control"] == "no-store"
    login = answer.json()["data"]
    assert (login["token_type"], login["expires_in"]) == ("Bearer", 86400)
    headers = {"Authorization": f"Bearer {login['access_token']}"}
    me = (await client.get("/api/v1/auth/me", headers=headers)).json()["data"]
    assert (me["name"], me["platform_admin"], me["roles"]) == ("ada", False, {"acme": "operator", "beta": "viewer"})
    renewed = await client.post("/api/v1/auth/refresh", json={"refresh_token": login["refresh_token"]})
    newer = renewed.json()["data"]
    assert (await client.post("/api/v1/auth/logout", json={"refresh_token": newer["refresh_token"]})).status_code == 204
    for token in (login["access_token"], newer["access_token"]):
        gone = await client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert (gone.status_code, gone.json()["code"]) == (401, "token_invalid")


async def test_logging_out_with_the_access_token_needs_no_body(client: AsyncClient) -> None:
    headers = await bearer(client, "ada")
    assert (await client.post("/api/v1/auth/logout", headers=headers)).status_code == 204
    assert (await client.get("/api/v1/auth/me", headers=headers)).status_code == 401
    assert (await client.post("/api/v1/auth/logout")).status_code == 401


async def test_guessing_from_one_address_is_told_to_wait(client: AsyncClient) -> None:
    for number in range(10):
        wrong = await client.post("/api/v1/auth/login", json={"username": f"u{number}", "password": "guess"})
        assert (wrong.status_code, wrong.json()["code"]) == (401, "credentials_wrong")
    basic = {"Authorization": "Basic " + b64encode(f"ada:{PASSWORD}".encode()).decode()}
    for answer in (
        await client.post("/api/v1/auth/login", json={"username": "ada", "password": PASSWORD}),
        await client.get("/api/v1/auth/me", headers=basic),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "300")


async def test_wrong_bodies_are_refused_without_repeating_secrets(tenancy: Tenancy, client: AsyncClient) -> None:
    headers = await admin(tenancy, client)
    for path, body in (
        ("/api/v1/auth/login", {"username": "ada"}),
        ("/api/v1/auth/login", {"username": "ada", "password": ["hunter2"]}),
        ("/api/v1/auth/login", {"username": "ada", "password": "hunter2", "more": "hunter2"}),
        ("/api/v1/auth/login", {"username": "ada", "password": "hunter2" * 1000}),
        ("/api/v1/auth/refresh", {"refresh_token": ""}),
        ("/api/v1/users", {"username": "eve", "password": "hunter2 hunter2", "display_name": "a\x00b"}),
        ("/api/v1/users", {"username": "eve", "password": "hunter2 hunter2", "platform_admin": "hunter2"}),
        ("/api/v1/tenants", {"name": "x", "display_name": "y" * 256}),
        ("/api/v1/api-keys", {"name": "ci", "role": "hunter2"}),
        ("/api/v1/api-keys", {"name": "ci", "expires_at": "2027-01-01T00:00:00"}),
    ):
        answer = await client.post(path, json=body, headers=headers)
        assert answer.status_code == 400, (path, answer.text)
        assert "hunter2" not in answer.text
    surrogate = '{"username": "\\ud800", "password": "\\ud800"}'
    answer = await client.post("/api/v1/auth/login", content=surrogate, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


async def test_the_platform_admin_manages_users(tenancy: Tenancy, client: AsyncClient) -> None:
    headers = await admin(tenancy, client)
    body = {"username": "eve", "password": PASSWORD, "display_name": "Eve", "email": "eve@example.org"}
    made = await client.post("/api/v1/users", json=body, headers=headers)
    assert made.status_code == 201
    assert PASSWORD not in made.text
    assert "argon2" not in made.text
    again = await client.post("/api/v1/users", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "user_exists")
    listed = (await client.get("/api/v1/users?page_size=2", headers=headers)).json()
    assert [user["username"] for user in listed["data"]] == ["ada", "admin"]
    assert listed["pagination"] == {"page": 1, "page_size": 2, "total_pages": 2, "total_count": 4}
    one = (await client.get("/api/v1/users/eve", headers=headers)).json()["data"]
    assert (one["email"], one["disabled"], one["platform_admin"]) == ("eve@example.org", False, False)
    changed = await client.patch("/api/v1/users/eve", json={"disabled": True}, headers=headers)
    assert changed.json()["data"]["disabled"] is True
    await client.patch("/api/v1/users/eve", json={"disabled": False}, headers=headers)
    secret = {"password": "another good one"}
    assert (await client.put("/api/v1/users/eve/password", json=secret, headers=headers)).status_code == 204
    assert await bearer(client, "eve", "another good one")


async def test_ones_own_password(client: AsyncClient) -> None:
    headers = await bearer(client, "ada")
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    assert (await client.post("/api/v1/auth/password", json=body, headers=headers)).status_code == 204
    assert (await client.get("/api/v1/auth/me", headers=headers)).status_code == 401
    assert await bearer(client, "ada", "another good one")


async def test_keys_are_made_shown_used_and_revoked(client: AsyncClient) -> None:
    headers = await bearer(client, "ada")
    body = {"name": "ci", "tenant": "acme", "role": "viewer", "expires_at": "2027-01-01T00:00:00Z"}
    made = (await client.post("/api/v1/api-keys", json=body, headers=headers)).json()["data"]
    assert made["key"].startswith("lsk_")
    for sent in (
        {"X-API-Key": made["key"]},
        {"Authorization": f"Bearer {made['key']}"},
        {"Authorization": "Basic " + b64encode(f"whoever:{made['key']}".encode()).decode()},
    ):
        me = (await client.get("/api/v1/auth/me", headers=sent)).json()["data"]
        assert (me["name"], me["roles"], me["limited"]) == ("ada", {"acme": "viewer"}, True)
    listed = await client.get("/api/v1/api-keys", headers=headers)
    (row,) = listed.json()["data"]
    assert (row["id"], row["tenant"], row["role"]) == (made["id"], "acme", "viewer")
    assert row["last_used_at"] is not None
    assert made["key"].rpartition("_")[2] not in listed.text
    assert (await client.delete(f"/api/v1/api-keys/{made['id']}", headers=headers)).status_code == 204
    assert (await client.get("/api/v1/auth/me", headers={"X-API-Key": made["key"]})).status_code == 401


async def test_tenants_and_members(tenancy: Tenancy, client: AsyncClient) -> None:
    headers = await admin(tenancy, client)
    made = await client.post("/api/v1/tenants", json={"name": "delta", "display_name": "Delta"}, headers=headers)
    assert (made.status_code, made.json()["data"]["display_name"]) == (201, "Delta")
    bad = await client.post("/api/v1/tenants", json={"name": "v2"}, headers=headers)
    assert (bad.status_code, bad.json()["code"]) == (400, "tenant_name_invalid")
    for name, role in (("zoe", "admin"), ("ada", "viewer")):
        put = await client.put(f"/api/v1/tenants/delta/members/{name}", json={"role": role}, headers=headers)
        assert (put.status_code, put.json()["data"]["role"]) == (200, role)
    members = (await client.get("/api/v1/tenants/delta/members", headers=headers)).json()["data"]
    assert [(member["user"], member["role"]) for member in members] == [("ada", "viewer"), ("zoe", "admin")]
    assert (await client.get("/api/v1/tenants/delta", headers=await bearer(client, "ada"))).status_code == 200
    last = await client.delete("/api/v1/tenants/delta/members/zoe", headers=headers)
    assert (last.status_code, last.json()["code"]) == (409, "last_tenant_admin")
    assert (await client.delete("/api/v1/tenants/delta/members/ada", headers=headers)).status_code == 204
    assert (await client.delete("/api/v1/tenants/delta", headers=headers)).status_code == 204
    assert (await client.get("/api/v1/tenants/delta", headers=headers)).status_code == 404


async def test_strange_names_in_addresses_are_not_found(tenancy: Tenancy, client: AsyncClient) -> None:
    headers = await admin(tenancy, client)
    for path in ("tenants/%00", "tenants/..%2f..%2fetc%2fpasswd", "users/%00", "users/" + "x" * 3000, "tenants/%ff"):
        assert (await client.get(f"/api/v1/{path}", headers=headers)).status_code == 404, path


async def test_the_public_keys_are_for_everybody(client: AsyncClient) -> None:
    answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.json()["keys"][0]["alg"] == "RS256"
    assert "max-age" in answer.headers["cache-control"]


async def test_the_log_names_the_user_and_no_secret(client: AsyncClient) -> None:
    with capture_logs() as logs:
        headers = await bearer(client, "ada")
        await client.get("/api/v1/auth/me", headers=headers)
        await client.post("/api/v1/auth/login", json={"username": "ada", "password": "a wrong secret"})
    assert [entry["user"] for entry in logs if entry.get("path") == "/api/v1/auth/me"] == ["ada"]
    for secret in (PASSWORD, "a wrong secret", headers["Authorization"]):
        assert secret not in repr(logs)


async def test_everything_is_described_for_clients(tenancy: Tenancy) -> None:
    app = FastAPI()
    app.include_router(build_router(tenancy))
    described = app.openapi()["paths"]
    assert len(described) == len({path for _, path in routes(tenancy)})
    for path in described.values():
        for operation in path.values():
            assert operation["description"] if "description" in operation else operation["summary"]
