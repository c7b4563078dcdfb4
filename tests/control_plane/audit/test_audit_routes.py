"""Who may read what of the trail over HTTP, paging and filters, and that refusals are recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from common.errors import Denied, Unauthenticated
from control_plane.audit.auditing import Auditing
from control_plane.audit.model import Act, Operator, OperatorKind
from control_plane.audit.routes import build_router
from control_plane.database import Database
from control_plane.tenants import store as tenant_store
from control_plane.tenants.access import ANONYMOUS, Principal, RobotScope, Role
from control_plane.tenants.acting import operator_of
from control_plane.tenants.auditing import AuditSight, CallsNoted, Refusals
from control_plane.tenants.model import Tenant
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.access_log import AccessLog, HttpMetrics
from control_plane.web.errors import install_error_handlers
from tests.control_plane.audit.acts import filled, push, record

PEOPLE = {
    "ada": Principal("u-ada", "ada", roles={"acme": Role.ADMIN, "birch": Role.VIEWER}),
    "vera": Principal("u-vera", "vera", roles={"acme": Role.VIEWER}),
    "bob": Principal("u-bob", "bob", roles={"birch": Role.ADMIN}),
    "root": Principal("u-root", "root", platform_admin=True),
    "rob": Principal("r-1", "robot$acme+ci", tenant="acme", robot=(RobotScope("acme/*", frozenset({"pull"})),)),
}


class People:
    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        if authorization_header is None:
            return ANONYMOUS
        name = authorization_header.removeprefix("Bearer ")
        if name not in PEOPLE:
            raise Unauthenticated("the token is not genuine", action="log in")
        return PEOPLE[name]


@pytest.fixture
async def client(database: Database, auditing: Auditing, clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    async with database.transaction() as unit:
        for name in ("acme", "birch"):
            await tenant_store.add_tenant(unit.connection, Tenant(f"t-{name}", name, name, clock.now()))
    api = FastAPI()
    api.state.authenticator = People()
    api.state.audit_sight = AuditSight(database)
    install_error_handlers(api, Refusals(auditing.trail))
    api.include_router(build_router(auditing.reading, auditing.retention))

    @api.get("/api/v1/forbidden")
    async def forbidden(principal: CurrentPrincipal) -> None:
        raise Denied(f"{principal.name} may not", action="ask")

    @api.put("/api/v1/repositories/{repository:path}/-/retention")
    async def change(principal: CurrentPrincipal, repository: str) -> str:
        if principal.name != "ada":
            raise Denied(f"{principal.name} may not", action="ask")
        return repository

    api.add_middleware(CallsNoted, trail=auditing.trail)
    api.add_middleware(AccessLog, clock=clock, metrics=HttpMetrics(CollectorRegistry()))
    transport = httpx.ASGITransport(api, client=("2001:db8::7", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://longshore.test") as opened:
        yield opened


def as_(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


PATHS = ["/api/v1/audit", "/api/v1/audit/1", "/api/v1/audit/export"]
WHOLE = ["/api/v1/audit/verification", "/api/v1/audit/anchors"]


async def test_the_trail_is_not_for_everybody(client: httpx.AsyncClient) -> None:
    body = {"through": 1, "sha256": "0" * 64}
    for name, status in ((None, 401), ("nobody", 401), ("vera", 403), ("rob", 403)):
        headers = as_(name) if name else {}
        for path in (*PATHS, *WHOLE):
            assert (await client.get(path, headers=headers)).status_code == status, (name, path)
        assert (await client.post("/api/v1/audit/prune", json=body, headers=headers)).status_code == status


async def test_the_chain_as_such_is_the_platforms(client: httpx.AsyncClient) -> None:
    for path in WHOLE:
        assert (await client.get(path, headers=as_("ada"))).status_code == 403
        assert (await client.get(path, headers=as_("root"))).status_code == 200
    body = {"through": 1, "sha256": "0" * 64}
    assert (await client.post("/api/v1/audit/prune", json=body, headers=as_("ada"))).status_code == 403


async def test_an_administrator_sees_her_tenant_and_nothing_else(
    client: httpx.AsyncClient, database: Database, auditing: Auditing
) -> None:
    system = Operator(OperatorKind.SYSTEM, name="system")
    await record(database, auditing, push(1), push(2, "birch"), Act("tenants.user_created", system))
    await auditing.sealer.seal_all()
    for name, seen in (("ada", [1]), ("bob", [2]), ("root", [3, 2, 1])):
        page = (await client.get("/api/v1/audit", headers=as_(name))).json()
        assert [entry["sequence"] for entry in page["data"]] == seen
        lines = (await client.get("/api/v1/audit/export", headers=as_(name))).text.splitlines()
        assert len(lines) == len(seen)
    assert (await client.get("/api/v1/audit?tenant=birch", headers=as_("ada"))).json()["data"] == []
    assert (await client.get("/api/v1/audit/2", headers=as_("ada"))).status_code == 404
    assert (await client.get("/api/v1/audit/1", headers=as_("ada"))).json()["data"]["repository"] == "acme/web"


async def test_a_new_tenant_does_not_inherit_the_trail_of_an_old_one_of_its_name(
    client: httpx.AsyncClient, database: Database, auditing: Auditing, clock: ManualClock
) -> None:
    await filled(database, auditing, 1)
    clock.tick(60)
    async with database.transaction() as unit:
        await tenant_store.remove_tenant(unit.connection, "t-acme")
        await tenant_store.add_tenant(unit.connection, Tenant("t-acme-2", "acme", "acme", clock.now()))
    await filled(database, auditing, 1)
    page = (await client.get("/api/v1/audit", headers=as_("ada"))).json()
    assert [entry["sequence"] for entry in page["data"]] == [2]


async def test_pages_go_on_by_number_and_filters_narrow(
    client: httpx.AsyncClient, database: Database, auditing: Auditing, clock: ManualClock
) -> None:
    await filled(database, auditing, 5)
    start = clock.now() + timedelta(seconds=30)
    clock.tick(60)
    await record(database, auditing, Act("registry.delete", operator_of(PEOPLE["rob"]), tenant="acme"))
    await auditing.sealer.seal_all()

    async def get(**query: object) -> dict[str, object]:
        answer = await client.get("/api/v1/audit", params=query, headers=as_("root"))  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        document: dict[str, object] = answer.json()
        return document

    first = await get(limit=4)
    second = await get(limit=4, before=first["next_before"])
    numbers = [entry["sequence"] for page in (first, second) for entry in page["data"]]  # type: ignore[index, attr-defined]
    assert numbers == [6, 5, 4, 3, 2, 1]
    assert second["next_before"] is None
    counts = {
        "operation": ("registry.delete", 1),
        "operator": ("ada", 5),
        "repository": ("acme/web", 5),
        "outcome": ("denied", 0),
        "tenant": ("acme", 6),
        "since": (start.isoformat(), 1),
        "until": (start.isoformat(), 5),
    }
    for name, (value, count) in counts.items():
        assert len((await get(**{name: value}))["data"]) == count, name  # type: ignore[arg-type]
    robot = (await get(operation="registry.delete"))["data"][0]  # type: ignore[index]
    assert (robot["operator_type"], robot["operator"]) == ("robot", "robot$acme+ci")


async def test_bad_questions_are_refused_and_odd_ones_find_nothing(client: httpx.AsyncClient) -> None:
    for query in (
        "limit=0",
        "limit=100000",
        "before=0",
        "before=x",
        "outcome=maybe",
        "since=soon",
        f"tenant={'x' * 999}",
    ):
        assert (await client.get(f"/api/v1/audit?{query}", headers=as_("root"))).status_code == 400, query
    for value in ("%00", "'; DROP TABLE audit_events; --", "%F0%9F%9A%A2", "9" * 60):
        answer = await client.get(f"/api/v1/audit?operator={value}", headers=as_("root"))
        assert (answer.status_code, answer.json()["data"]) == (200, []), value


async def test_a_denial_is_recorded_with_who_and_where(
    client: httpx.AsyncClient, auditing: Auditing, clock: ManualClock
) -> None:
    await client.get("/api/v1/forbidden?secret=x", headers={**as_("vera"), "X-Request-ID": "r-77"})
    await client.get("/api/v1/forbidden", headers=as_("forged"))
    await client.get("/api/v1/audit/anchors")  # without credentials: asked for them, which is no event
    await auditing.trail.flush()
    await auditing.sealer.seal_all()
    page = (await client.get("/api/v1/audit?outcome=denied", headers=as_("root"))).json()["data"]
    forged, vera = page
    assert (vera["operator"], vera["request_id"], vera["client"]) == ("vera", "r-77", "2001:db8::7")
    assert vera["details"] == {"method": "GET", "path": "/api/v1/forbidden"}
    assert vera["error"].startswith("denied: vera may not")
    assert (forged["operator_type"], forged["error"][:15]) == ("anonymous", "unauthenticated")


async def test_a_management_call_is_noted_if_it_changed_something(
    client: httpx.AsyncClient, auditing: Auditing
) -> None:
    path = "/api/v1/repositories/acme/web/front/-/retention"
    assert (await client.put(path, headers=as_("ada"))).status_code == 200
    assert (await client.put(path, headers=as_("vera"))).status_code == 403
    assert (await client.put(path + "/none", headers=as_("ada"))).status_code == 404
    await auditing.trail.flush()
    await auditing.sealer.seal_all()
    page = (await client.get("/api/v1/audit?operation=api.call", headers=as_("ada"))).json()["data"]
    assert [(each["operator"], each["tenant"], each["repository"]) for each in page] == [
        ("ada", "acme", "acme/web/front")
    ]
    assert (page[0]["subject"], page[0]["details"]) == (path, {"method": "PUT", "status": 200})
