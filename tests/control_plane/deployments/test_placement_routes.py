"""Every route of deployments and of hosts as places: its shape, and who may use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from control_plane.audit.tables import inbox
from control_plane.database import Database
from control_plane.deployments.reading import DeploymentReading
from control_plane.deployments.rollout_routes import build_router as rollouts_router
from control_plane.deployments.rollouts import RolloutService
from control_plane.deployments.routes import build_router
from control_plane.deployments.service import DeploymentService
from control_plane.fleet.placement.routes import build_router as places_router
from control_plane.fleet.placement.service import HostPlaces
from control_plane.web.errors import install_error_handlers
from tests.control_plane.deployments.parts import GIB, Fleet
from tests.control_plane.instances.parts import WEB
from tests.control_plane.instances.test_instance_routes import Names
from tests.control_plane.swarm.parts import Shelf

BODY: dict[str, Any] = {"tenant": "acme", "name": "web", "image": WEB, "rules": {"count": 2, "spread": [{"by": "idc"}]}}


class Client:
    """Asks as somebody and gives (status, body)."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = await self._http.request(method, f"/api/v1{path}", json=body, headers={"Authorization": who})
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
async def client(
    fleet: Fleet,
    service: DeploymentService,
    rollouts: RolloutService,
    reading: DeploymentReading,
    places: HostPlaces,
) -> AsyncIterator[Client]:
    app = FastAPI()
    app.include_router(places_router(places))
    app.include_router(rollouts_router(rollouts, reading))
    app.include_router(build_router(service, reading))
    app.state.authenticator = Names()
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as http:
        yield Client(http)


async def test_a_deployment_is_asked_for_shown_changed_and_removed(client: Client, fleet: Fleet) -> None:
    status, body = await client.ask("operator", "POST", "/deployments", BODY)
    made = body["data"]
    assert (status, made["unplaced"], made["why"], len(made["slots"])) == (201, 0, "", 2)
    assert made["rules"]["spread"] == [{"by": "idc", "max_skew": 1}]
    await fleet.settle()
    status, body = await client.ask("viewer", "GET", "/deployments/acme/web")
    assert (status, body["data"]["running"]) == (200, 2)
    assert {slot["host"][:4] for slot in body["data"]["slots"]} == {"east", "west"}
    rules = {**made["rules"], "count": 4}
    status, body = await client.ask("operator", "PUT", f"/deployments/{made['id']}/rules", rules)
    assert (status, body["data"]["unplaced"]) == (200, 1)
    assert body["data"]["why_hosts"]["east/e1"] == "it has 1 of it already"
    assert (await client.ask("viewer", "GET", "/deployments?tenant=acme"))[1]["pagination"]["total_count"] == 1
    assert (await client.ask("operator", "DELETE", f"/deployments/{made['id']}"))[0] == 202
    await fleet.settle()
    assert (await client.ask("operator", "GET", f"/deployments/{made['id']}"))[0] == 404


async def test_a_deployment_without_a_host_goes_at_once(client: Client) -> None:
    body = BODY | {"rules": {"hosts": ["north/n1"]}}
    made = (await client.ask("operator", "POST", "/deployments", body))[1]["data"]
    assert (made["unplaced"], made["why"]) == (1, "3 hosts: not among the hosts that are named")
    assert (await client.ask("operator", "DELETE", f"/deployments/{made['id']}"))[0] == 204


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"rules": {"where": ["rack in"]}}, 400),
        ({"rules": {"count": -1}}, 400),
        ({"rules": {"everywhere": True, "per_host": 2}}, 400),
        ({"rules": {"counts": 1}}, 400),
        ({"hosts": ["east/e1"]}, 400),
        ({"all_hosts": True}, 400),
        ({"reschedule_after_seconds": 1}, 400),
        ({"memory_bytes": 64 * GIB}, 409),
        ({"image": "acme/none:1"}, 404),
        ({"tenant": "globex"}, 404),
    ],
)
async def test_bad_requests_change_nothing(client: Client, change: dict[str, Any], status: int) -> None:
    assert (await client.ask("operator", "POST", "/deployments", BODY | change))[0] == status
    assert (await client.ask("admin", "GET", "/deployments"))[1]["pagination"]["total_count"] == 0


async def test_a_host_is_cordoned_drained_and_opened(client: Client, fleet: Fleet, database: Database) -> None:
    await client.ask("operator", "POST", "/deployments", BODY)
    await fleet.settle()
    status, body = await client.ask("admin", "POST", "/hosts/west/w1/cordon", {"reason": "noise"})
    assert (status, body["data"]["standing"], body["data"]["by"]) == (200, "cordoned", "admin")
    status, body = await client.ask("admin", "POST", "/hosts/west/w1/drain", {"max_unavailable": 2})
    assert (status, body["data"]["standing"], body["data"]["max_unavailable"]) == (200, "draining", 2)
    await fleet.settle()
    status, body = await client.ask("viewer", "GET", "/hosts/west/w1/drain")
    assert (status, body["data"]["finished"], body["data"]["counts"]["stays"]) == (200, True, 0)
    assert (await client.ask("admin", "POST", "/hosts/west/w1/uncordon"))[1]["data"]["standing"] == "open"
    assert (await client.ask("viewer", "GET", "/hosts/west/w1/standing"))[1]["data"]["standing"] == "open"
    assert (await client.ask("admin", "POST", "/hosts/west/none/cordon", {}))[0] == 404
    assert (await client.ask("admin", "POST", "/hosts/west/w1/drain", {"max_unavailable": 0}))[0] == 400
    async with database.reading() as connection:
        rows = await connection.execute(select(inbox.c.entry).order_by(inbox.c.id))
        recorded = [row.entry["operation"] for row in rows]
    assert recorded == ["deployment.made", "host.cordoned", "host.drained", "host.uncordoned"]


async def test_another_image_comes_by_its_routes(client: Client, fleet: Fleet, shelf: Shelf) -> None:
    shelf.put_image("acme/web:2", b"base", b"web two")
    made = (await client.ask("operator", "POST", "/deployments", BODY))[1]["data"]
    await fleet.settle()
    pace = {"healthy_seconds": 1, "max_unavailable": 2}
    of = "/deployments/acme/web/-"
    for name in ("healthy_seconds", "patience_seconds"):
        endless = {"image": "acme/web:2", "pace": {name: -(2**70)}}
        assert (await client.ask("operator", "PUT", f"{of}/image", endless))[0] == 400
    status, body = await client.ask("operator", "PUT", f"{of}/image", {"image": "acme/web:2", "pace": pace})
    assert (status, body["data"]["state"], body["data"]["updated"]) == (202, "going", 2)
    status, body = await client.ask("operator", "POST", f"{of}/rollout/pause")
    assert (status, body["data"]["reason"]) == (200, "paused by olga")
    assert (await client.ask("operator", "POST", f"{of}/rollout/resume"))[1]["data"]["state"] == "going"
    await fleet.settle()
    shown = (await client.ask("viewer", "GET", f"/deployments/{made['id']}/-/rollout"))[1]["data"]
    assert (shown["state"], shown["revision"], shown["base"], shown["running"]) == ("finished", 2, 2, 2)
    status, body = await client.ask("operator", "PUT", f"{of}/spec", {"hostname": "shop", "pace": pace})
    assert (status, body["data"]["revision"], body["data"]["image"]) == (202, 3, "acme/web:2")
    assert (await client.ask("operator", "POST", f"{of}/rollout/undo", {"to": 1}))[0] == 202
    await fleet.settle()
    found = (await client.ask("viewer", "GET", f"{of}/revisions"))[1]["data"]["revisions"]
    assert [(one["number"], one["image"], one["changed"]) for one in found] == [
        (4, "acme/web:1.4", ["hostname"]),
        (3, "acme/web:2", ["hostname"]),
        (2, "acme/web:2", []),
        (1, "acme/web:1.4", []),
    ]


async def test_what_is_wrong_begins_no_rollout(client: Client, fleet: Fleet) -> None:
    await client.ask("operator", "POST", "/deployments", BODY)
    wrong: list[tuple[str, str, str, Any, int]] = [
        ("operator", "PUT", "image", {}, 400),
        ("operator", "PUT", "image", {"image": "acme/web:1.4", "pace": {"max_unavailable": 0}}, 400),
        ("operator", "PUT", "image", {"image": "acme/web:1.4", "pace": {"speed": 9}}, 400),
        ("operator", "PUT", "image", {"image": "acme/none:1"}, 404),
        ("operator", "PUT", "spec", {"memory_bytes": 1}, 400),
        ("operator", "PUT", "spec", {"memory_bytes": 99 * GIB}, 409),
        ("operator", "PUT", "spec", {"privileged": True}, 403),
        ("operator", "POST", "rollout/undo", {}, 409),
        ("operator", "POST", "rollout/undo", {"to": 7}, 409),
        ("operator", "POST", "rollout/pause", {}, 409),
        ("viewer", "PUT", "image", {"image": "acme/web:1.4"}, 403),
        ("viewer", "POST", "rollout/undo", {}, 403),
        ("stranger", "PUT", "image", {"image": "acme/web:1.4"}, 404),
        ("stranger", "GET", "rollout", None, 404),
        ("stranger", "GET", "revisions", None, 404),
        ("nobody", "GET", "rollout", None, 401),
        ("nobody", "POST", "rollout/resume", {}, 401),
    ]
    for who, method, what, body, status in wrong:
        answer = await client.ask(who, method, f"/deployments/acme/web/-/{what}", body)
        assert answer[0] == status, (who, method, what, answer)
    shown = (await client.ask("viewer", "GET", "/deployments/acme/web"))[1]["data"]
    assert (shown["revision"], shown["rollout"]) == (1, "finished")


async def test_room_and_capacity_are_shown_and_said(client: Client) -> None:
    await client.ask("operator", "POST", "/deployments", BODY | {"cpus": 0.5, "memory_bytes": GIB})
    for path, reserve in (("/capacity", 1), ("/idcs/east/capacity", 2), ("/hosts/east/e1/capacity", 3)):
        assert (await client.ask("admin", "PUT", path, {"reserve_cpus": reserve}))[0] == 200
    rows = {row["host"]: row for row in (await client.ask("viewer", "GET", "/room"))[1]["data"]}
    assert {host: row["cpus"] for host, row in rows.items()} == {"east/e1": 1.0, "east/e2": 2.0, "west/w1": 3.0}
    assert rows["west/w1"] == {
        "host": "west/w1",
        "standing": "open",
        "away_since": None,
        "instances": 1,
        "cpus": 3.0,
        "used_cpus": 0.5,
        "memory_bytes": 8 * GIB,
        "used_memory_bytes": GIB,
        "disk_bytes": None,
        "used_disk_bytes": 0,
    }
    assert len((await client.ask("viewer", "GET", "/room?idc=east"))[1]["data"]) == 2
    scopes = [row["scope"] for row in (await client.ask("viewer", "GET", "/capacity"))[1]["data"]]
    assert scopes == ["platform", "idc", "host"]
    assert (await client.ask("admin", "PUT", "/capacity", {"cpu_overcommit": 0}))[0] == 400
    assert (await client.ask("admin", "PUT", "/idcs/north/capacity", {}))[0] == 404


async def test_only_the_platform_changes_hosts_and_only_the_tenant_its_deployments(client: Client) -> None:
    made = (await client.ask("operator", "POST", "/deployments", BODY))[1]["data"]
    expected = {
        ("operator", "POST", "/hosts/west/w1/cordon"): 403,
        ("operator", "POST", "/hosts/west/w1/drain"): 403,
        ("operator", "POST", "/hosts/west/w1/uncordon"): 403,
        ("operator", "PUT", "/capacity"): 403,
        ("operator", "PUT", "/idcs/east/capacity"): 403,
        ("operator", "PUT", "/hosts/east/e1/capacity"): 403,
        ("viewer", "POST", "/deployments"): 403,
        ("viewer", "PUT", f"/deployments/{made['id']}/rules"): 403,
        ("viewer", "DELETE", f"/deployments/{made['id']}"): 403,
        ("stranger", "POST", "/deployments"): 404,
        ("stranger", "GET", f"/deployments/{made['id']}"): 404,
        ("stranger", "GET", "/deployments/acme/web"): 404,
        ("stranger", "GET", "/deployments?tenant=acme"): 404,
        ("stranger", "PUT", f"/deployments/{made['id']}/rules"): 404,
        ("stranger", "DELETE", f"/deployments/{made['id']}"): 404,
        ("nobody", "GET", "/deployments"): 401,
        ("nobody", "GET", f"/deployments/{made['id']}"): 401,
        ("nobody", "GET", "/hosts/west/w1/drain"): 401,
        ("nobody", "GET", "/hosts/west/w1/standing"): 401,
        ("nobody", "GET", "/room"): 401,
        ("nobody", "GET", "/capacity"): 401,
    }
    for (who, method, path), wanted in expected.items():
        body = BODY | {"name": "other"} if path == "/deployments" and method == "POST" else {}
        assert (await client.ask(who, method, path, body))[0] == wanted, (who, method, path)
