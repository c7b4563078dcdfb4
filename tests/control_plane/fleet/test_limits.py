from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from common.clock import ManualClock
from common.limit_messages import rules_from
from common.limits import DailyWindow, LimitRule, Link
from control_plane.database import Database
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet.limits import store
from control_plane.fleet.limits.model import LimitPolicy, Scope, ScopeKind, link_rates, rules_for
from control_plane.fleet.limits.routes import build_router
from control_plane.fleet.limits.service import LimitService
from control_plane.fleet.limits.telling import limits_message
from control_plane.fleet.service import Fleet, FleetOptions, open_fleet
from control_plane.tenants.access import Principal
from control_plane.web.errors import install_error_handlers
from control_plane.web.paging import PageRequest
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Names, Plane, sealer
from tests.control_plane.swarm.parts import Tenants

ROOT = Principal("u-root", "root", platform_admin=True)
FOR_EVERYBODY = {("GET", "/api/v1/limits"), ("GET", "/api/v1/idcs/east/limits")}
ROUTES = [
    *FOR_EVERYBODY,
    ("GET", "/api/v1/tenants/acme/limits"),
    ("PUT", "/api/v1/limits"),
    ("PUT", "/api/v1/idcs/east/limits"),
    ("PUT", "/api/v1/tenants/acme/limits"),
]


@pytest.fixture
async def fleet(database: Database, clock: ManualClock) -> Fleet:
    made = await open_fleet(database, MemoryEventBus(), sealer(), clock, lambda: 0.5, FleetOptions())
    await made.idcs.create("east")
    return made


@pytest.fixture
async def client(database: Database, fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(build_router(LimitService(database, Tenants("acme"))))
    app.state.authenticator = Names()
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre.example") as client:
        yield client


async def test_what_was_said_is_shown_and_becomes_rules(
    client: httpx.AsyncClient, fleet: Fleet, database: Database, clock: ManualClock
) -> None:
    admin = {"Authorization": "admin"}
    night = {"start": "22:00", "end": "06:00", "time_zone": "Europe/Berlin", "wan_down_mbps": 800}
    said = {"wan_down_mbps": 200, "windows": [night]}
    assert (await client.put("/api/v1/idcs/east/limits", json=said, headers=admin)).status_code == 200
    await client.put("/api/v1/limits", json={"wan_down_mbps": 50, "host_up_mbps": 40}, headers=admin)
    await client.put("/api/v1/tenants/acme/limits", json={"host_up_mbps": 8}, headers=admin)
    shown = (await client.get("/api/v1/limits", headers=admin)).json()["data"]
    assert [(one["scope"], one["name"]) for one in shown] == [("platform", ""), ("idc", "east"), ("tenant", "acme")]
    assert shown[1]["windows"][0]["wan_down_mbps"] == 800

    idc = await fleet.idcs.get("east")
    async with database.reading() as connection:
        policies = await store.all_policies(connection)
    rules = rules_for(policies, idc.id, (Link.WAN_DOWN, Link.HOST_UP))
    assert rules == [
        LimitRule(Link.WAN_DOWN, 100_000_000, window=DailyWindow(22 * 60, 6 * 60, "Europe/Berlin")),
        LimitRule(Link.WAN_DOWN, 25_000_000),
        LimitRule(Link.HOST_UP, 5_000_000),
        LimitRule(Link.HOST_UP, 1_000_000, "t-acme"),
    ]
    assert list(rules_from(limits_message(rules))) == rules
    assert link_rates(policies, "elsewhere", clock.now())[Link.WAN_DOWN] == 50 * 125_000

    await client.put("/api/v1/idcs/east/limits", json={}, headers=admin)
    async with database.reading() as connection:
        assert Scope(ScopeKind.IDC, idc.id) not in await store.all_policies(connection)


@pytest.mark.parametrize(
    "body",
    [
        {"wan_down_mbps": 0},
        {"wan_down_mbps": -1},
        {"host_up_mbps": 1e9},
        {"no_such_link_mbps": 1},
        {"windows": [{"start": "1:00", "end": "02:00"}]},
        {"windows": [{"start": "01:00", "end": "02:00", "time_zone": "Mars/Olympus", "host_up_mbps": 1}]},
        {"windows": [{"start": "01:00", "end": "02:00"}] * 25},
    ],
)
async def test_what_makes_no_sense_changes_nothing(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    admin = {"Authorization": "admin"}
    await client.put("/api/v1/limits", json={"wan_down_mbps": 5}, headers=admin)
    assert (await client.put("/api/v1/limits", json=body, headers=admin)).status_code == 400
    (kept,) = (await client.get("/api/v1/limits", headers=admin)).json()["data"]
    assert kept["wan_down_mbps"] == 5


async def test_limits_are_changed_by_the_platform_admin_alone_and_tenants_see_their_own(
    client: httpx.AsyncClient,
) -> None:
    await client.put("/api/v1/tenants/acme/limits", json={"host_up_mbps": 8}, headers={"Authorization": "admin"})
    for method, path in ROUTES:
        body = {} if method == "PUT" else None
        assert (await client.request(method, path, json=body)).status_code == 401, path
        answer = await client.request(method, path, json=body, headers={"Authorization": "user"})
        assert answer.status_code in ((200,) if (method, path) in FOR_EVERYBODY else (403, 404)), (method, path)
    assert (await client.get("/api/v1/limits", headers={"Authorization": "user"})).json()["data"] == []


async def test_who_is_attached_hears_of_a_change_at_once(plane: Plane, edge: object) -> None:
    agent: Edge = edge("e1")  # type: ignore[operator]
    await agent.enrol(await plane.join_token())
    idc_id = await plane.idc()
    async with agent.attached():
        await eventually(lambda: "limits" in agent.bodies())
        async with plane.fleet.database.transaction() as unit:
            policy = LimitPolicy({Link.HOST_UP: 8.0, Link.WAN_DOWN: 9.0})
            await store.put(unit.connection, Scope(ScopeKind.IDC, idc_id), policy, unit.clock.now())
        await plane.fleet.watch._poll()
        await eventually(lambda: agent.bodies().count("limits") == 2)
    told = [message.limits for message in agent.received if message.HasField("limits")][-1]
    assert rules_from(told) == (LimitRule(Link.HOST_UP, 1_000_000),)


async def test_a_host_with_limits_of_its_own_keeps_those(plane: Plane, edge: object) -> None:
    slow: Edge = edge("e1")  # type: ignore[operator]
    other: Edge = edge("e2")  # type: ignore[operator]
    for each, name in ((slow, "e1"), (other, "e2")):
        await each.enrol(await plane.join_token(), name=name)
    service = LimitService(plane.fleet.database, Tenants("acme"))
    idc = next(iter((await plane.fleet.members.list("host", PageRequest(1, 10))).items)).member.idc
    await service.put(ROOT, ScopeKind.IDC, idc, LimitPolicy({Link.HOST_UP: 8.0, Link.HOST_DOWN: 80.0}))
    await service.put(ROOT, ScopeKind.HOST, f"{idc}/e1", LimitPolicy({Link.HOST_UP: 1.0}))
    async with slow.attached(), other.attached():
        for each in (slow, other):
            await eventually(lambda edge=each: "limits" in edge.bodies())
    told = [
        [rules_from(message.limits) for message in each.received if message.HasField("limits")][-1]
        for each in (slow, other)
    ]
    assert told[0] == (LimitRule(Link.HOST_UP, 125_000), LimitRule(Link.HOST_DOWN, 10_000_000))
    assert told[1] == (LimitRule(Link.HOST_UP, 1_000_000), LimitRule(Link.HOST_DOWN, 10_000_000))
    shown = await service.everything(ROOT)
    assert [(one.kind.value, one.name) for one in shown] == [("idc", idc), ("host", f"{idc}/e1")]
    await service.put(ROOT, ScopeKind.HOST, f"{idc}/e1", LimitPolicy())
    assert len(await service.everything(ROOT)) == 1


async def test_a_host_has_no_links_but_its_own_and_must_exist(client: httpx.AsyncClient) -> None:
    admin = {"Authorization": "admin"}
    path = "/api/v1/hosts/east/e9/limits"
    assert (await client.put(path, json={"wan_down_mbps": 5}, headers=admin)).status_code == 400
    assert (await client.put(path, json={"host_up_mbps": 5}, headers=admin)).status_code == 404
    assert (await client.get(path, headers=admin)).status_code == 404
    assert (await client.put(path, json={"host_up_mbps": 5}, headers={"Authorization": "user"})).status_code == 403
    assert (await client.get("/api/v1/limits", headers=admin)).json()["data"] == []
