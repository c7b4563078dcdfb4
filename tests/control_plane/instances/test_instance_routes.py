from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Unauthenticated
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.hosts import Members
from control_plane.fleet.tables import hosts, regionals
from control_plane.instances.jobs import build_handlers
from control_plane.instances.overview import FleetOverview
from control_plane.instances.reading import InstanceReading
from control_plane.instances.routes import build_router
from control_plane.instances.service import InstanceService
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import EgressKey
from control_plane.swarm.overview import SwarmOverview
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.web.errors import install_error_handlers
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import OPERATOR, PRINCIPALS, WEB, run_request, said
from tests.control_plane.swarm.parts import Running, Tenants, revoke_host

pytestmark = pytest.mark.usefixtures("fleet")

BODY: dict[str, Any] = {"tenant": "acme", "name": "web", "image": WEB, "hosts": ["east/e1"]}
ADOPTION: dict[str, Any] = {"tenant": "acme", "name": "found", "image": WEB, "adopt": {}}
# Every route: method, path below /api/v1, body.
READING = [("GET", "/instances/{id}", None)]
WRITING = [
    ("POST", "/instances", BODY | {"name": "other"}),
    ("POST", "/instances/{id}/start", None),
    ("POST", "/instances/{id}/stop", None),
    ("POST", "/instances/{id}/pause", None),
    ("POST", "/instances/{id}/resume", None),
    ("POST", "/instances/{id}/restart", None),
    ("POST", "/hosts/east/e1/adoptions", ADOPTION),
    ("DELETE", "/instances/{id}", None),
    ("DELETE", "/instances/{id}?force=true", None),
]
LISTS = [("GET", "/instances", None), ("GET", "/status", None)]


class Names:
    """The `Authorization` header is the name of a principal."""

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        if authorization_header is None:
            return ANONYMOUS
        if authorization_header not in PRINCIPALS:
            raise Unauthenticated("wrong credentials")
        return PRINCIPALS[authorization_header]


class Client:
    """Asks as somebody and gives (status, body)."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, who: str | None, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {} if who is None else {"Authorization": who}
        answer = await self._http.request(method, f"/api/v1{path}", json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
async def client(
    database: Database,
    service: InstanceService,
    reading: InstanceReading,
    members: Members,
    tenants: Tenants,
    egress: EgressCounter,
) -> AsyncIterator[Client]:
    app = FastAPI()
    overview = FleetOverview(database, members, SwarmOverview(database, tenants, egress))
    app.include_router(build_router(service, reading, overview))
    app.state.authenticator = Names()
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as http:
        yield Client(http)


@pytest.fixture
async def instance_id(fleet: None, service: InstanceService) -> str:
    return (await service.run(OPERATOR, run_request("east/e1")))[0].instance.id


async def test_an_instance_is_asked_for_and_shown(client: Client) -> None:
    status, body = await client.ask("operator", "POST", "/instances", BODY)
    assert status == 201
    (row,) = body["data"]
    assert row["contents"].pop("total_bytes") > 0
    assert row.pop("created_at")
    assert row.pop("updated_at")
    assert len(row.pop("id")) == 36
    assert Digest.parse(row.pop("digest"))
    assert row == {
        "tenant": "acme",
        "name": "web",
        "host": "e1",
        "host_id": "host-e1",
        "idc": "east",
        "image": WEB,
        "desired_state": "running",
        "generation": 1,
        "observed_generation": 0,
        "phase": "pending",
        "health": "unknown",
        "detail": "",
        "runtime_id": "",
        "restart_count": 0,
        "contents": {
            "held_bytes": 0,
            "verified": False,
            "from_centre_bytes": 0,
            "from_regional_bytes": 0,
            "from_peers_bytes": 0,
            "reused_bytes": 0,
        },
    }


async def test_a_repeated_request_has_the_same_answer(client: Client) -> None:
    assert await client.ask("operator", "POST", "/instances", BODY) == await client.ask(
        "operator", "POST", "/instances", BODY
    )


async def test_everything_that_can_be_said_of_a_container_arrives(
    client: Client, assignments: LayeredAssignments
) -> None:
    body = BODY | {
        "command": ["serve"],
        "entrypoint": ["/init"],
        "environment": {"A": "1"},
        "labels": {"team": "blue"},
        "ports": [{"host_ip": "127.0.0.1", "host_port": 8080, "container_port": 80, "protocol": "tcp"}],
        "mounts": [{"volume": "data", "target": "/data", "read_only": True}],
        "cpus": 0.5,
        "memory_bytes": 64 << 20,
        "health_check": {"test": ["true"], "interval_seconds": 1, "timeout_seconds": 2, "retries": 4},
        "stop_grace_seconds": 3,
        "cpu_set": "0-1",
        "disk_bytes": 1 << 30,
        "network": "bridge",
        "hostname": "web",
        "user": "1000",
        "working_dir": "/srv",
        "adopt": {"recreate": True},
    }
    assert (await client.ask("operator", "POST", "/instances", body))[0] == 201
    (assignment,) = (await assignments.assignments("host-e1")).assignments.values()
    expected = agent_pb2.ContainerSpec(
        command=["serve"],
        entrypoint=["/init"],
        environment={"A": "1"},
        labels={"team": "blue"},
        ports=[agent_pb2.PortMapping(host_ip="127.0.0.1", host_port=8080, container_port=80, protocol="tcp")],
        mounts=[agent_pb2.Mount(volume="data", target="/data", read_only=True)],
        cpus=0.5,
        memory_bytes=64 << 20,
        health_check=agent_pb2.HealthCheck(test=["true"], interval_seconds=1, timeout_seconds=2, retries=4),
        stop_grace_seconds=3,
        cpu_set="0-1",
        disk_bytes=1 << 30,
        network="bridge",
        hostname="web",
        user="1000",
        working_dir="/srv",
    )
    assert assignment.container == expected
    assert assignment.adopt == agent_pb2.AdoptionWish(recreate=True)


REACHING: list[dict[str, Any]] = [
    {"privileged": True},
    {"network": "host"},
    {"mounts": [{"host_path": "/srv", "target": "/srv"}]},
    {"adopt": {"container": "web-old"}},
]


@pytest.mark.parametrize("more", REACHING)
async def test_what_reaches_into_the_host_is_for_those_who_run_the_platform(
    client: Client, assignments: LayeredAssignments, more: dict[str, Any]
) -> None:
    before = await assignments.assignments("host-e1")
    status, answer = await client.ask("operator", "POST", "/instances", BODY | more)
    assert (status, answer["code"]) == (403, "denied")
    assert await assignments.assignments("host-e1") == before
    assert (await client.ask("admin", "POST", "/instances", BODY | more))[0] == 201
    (assignment,) = (await assignments.assignments("host-e1")).assignments.values()
    assert assignment.container.ByteSize() or assignment.adopt.container == "web-old"


async def test_a_container_of_a_host_is_adopted_by_its_name(client: Client, assignments: LayeredAssignments) -> None:
    body = ADOPTION | {"adopt": {"container": "web-old", "recreate": True}}
    assert (await client.ask("operator", "POST", "/hosts/east/e1/adoptions", body))[0] == 403
    status, answer = await client.ask("admin", "POST", "/hosts/east/e1/adoptions", body)
    assert (status, answer["data"]["host"], answer["data"]["name"]) == (201, "e1", "found")
    (assignment,) = (await assignments.assignments("host-e1")).assignments.values()
    assert assignment.adopt == agent_pb2.AdoptionWish(container="web-old", recreate=True)
    for wrong, refusal in (
        ({"adopt": None}, 400),
        ({"adopt": {"container": "a b"}}, 400),
        ({"adopt": {"container": "x"}, "hosts": ["east/e2"]}, 400),
    ):
        status, _ = await client.ask("admin", "POST", "/hosts/east/e1/adoptions", ADOPTION | wrong)
        assert status == refusal
    assert (await client.ask("admin", "POST", "/hosts/east/nowhere/adoptions", body))[0] == 404


@pytest.mark.parametrize(("method", "path", "body"), [*READING, *WRITING, *LISTS])
async def test_anonymous_requests_are_sent_to_the_login(
    client: Client, instance_id: str, method: str, path: str, body: Any
) -> None:
    for who in (None, "nobody"):
        status, answer = await client.ask(who, method, path.format(id=instance_id), body)
        assert (status, answer["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(("method", "path", "body"), [*READING, *WRITING])
async def test_another_tenants_instance_does_not_exist(
    client: Client, instance_id: str, method: str, path: str, body: Any
) -> None:
    status, answer = await client.ask("stranger", method, path.format(id=instance_id), body)
    assert status == 404
    unknown = "0190a0b0-0000-7000-8000-000000000000"
    if "{id}" in path:
        other = await client.ask("stranger", method, path.format(id=unknown), body)
        assert other[0] == 404
        assert other[1]["detail"].replace(unknown, "") == answer["detail"].replace(instance_id, "")


@pytest.mark.parametrize(("method", "path", "body"), WRITING)
async def test_a_viewer_changes_nothing(
    client: Client, instance_id: str, assignments: LayeredAssignments, method: str, path: str, body: Any
) -> None:
    before = await assignments.assignments("host-e1")
    status, answer = await client.ask("viewer", method, path.format(id=instance_id), body)
    assert (status, answer["code"]) == (403, "denied")
    assert await assignments.assignments("host-e1") == before


@pytest.mark.parametrize(("method", "path", "body"), [*READING, *LISTS])
async def test_a_viewer_sees(client: Client, instance_id: str, method: str, path: str, body: Any) -> None:
    assert (await client.ask("viewer", method, path.format(id=instance_id), body))[0] == 200


VERBS = (
    ("stop", "stopped", 2),
    ("start", "running", 3),
    ("pause", "paused", 4),
    ("pause", "paused", 4),
    ("resume", "running", 5),
    ("resume", "running", 5),
    ("restart", "running", 6),
)


async def test_the_verbs_answer_with_the_instance(client: Client, instance_id: str) -> None:
    for verb, desired_state, generation in VERBS:
        status, body = await client.ask("operator", "POST", f"/instances/{instance_id}/{verb}")
        assert (status, body["data"]["desired_state"], body["data"]["generation"]) == (200, desired_state, generation)


async def test_a_removal_is_pending_until_the_host_says_that_it_is_done(
    client: Client, instance_id: str, assignments: LayeredAssignments
) -> None:
    status, body = await client.ask("operator", "DELETE", f"/instances/{instance_id}")
    assert (status, body["data"]["desired_state"]) == (202, "removed")
    status, body = await client.ask("operator", "POST", f"/instances/{instance_id}/start")
    assert (status, body["code"]) == (409, "instance_being_removed")
    await assignments.accept_reports("host-e1", [said(instance_id, 2, agent_pb2.PHASE_REMOVED)], [])
    assert (await client.ask("operator", "GET", f"/instances/{instance_id}"))[0] == 404


async def test_a_forced_removal_is_done_at_once(client: Client, instance_id: str) -> None:
    assert await client.ask("operator", "DELETE", f"/instances/{instance_id}?force=true") == (204, None)
    assert (await client.ask("operator", "DELETE", f"/instances/{instance_id}"))[0] == 404


async def test_another_specification_is_a_conflict_that_names_the_field(client: Client, instance_id: str) -> None:
    status, body = await client.ask("operator", "POST", "/instances", BODY | {"memory_bytes": 64 << 20})
    assert (status, body["code"], body["field"]) == (409, "instance_differs", "memory_bytes")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"name": "../../etc/passwd"}, 400, "instance_name_invalid"),
        ({"image": "acme/" + "w" * 300}, 400, "name_invalid"),
        ({"image": "acme/web:no such tag"}, 400, "tag_invalid"),
        ({"image": "acme/unknown:1"}, 404, "not_found"),
        ({"image": "globex/db:1"}, 404, "not_found"),
        ({"hosts": ["east/none"]}, 404, "host_unknown"),
        ({"hosts": None, "idc": "none"}, 404, "idc_unknown"),
        ({"hosts": None}, 400, "instance_spec_invalid"),
        ({"all_hosts": True}, 400, "instance_spec_invalid"),
        ({"environment": {"A=B": ""}}, 400, "instance_spec_invalid"),
        ({"environment": {"A": "\0"}}, 400, "instance_spec_invalid"),
        ({"desired_state": "removed"}, 400, "invalid"),
        ({"unheard_of": True}, 400, "invalid"),
        ({"ports": [{"container_port": "eighty"}]}, 400, "invalid"),
        ({"tenant": "a\0"}, 400, "invalid"),
        ({"hosts": ["a\0"]}, 400, "invalid"),
        ({"cpus": "NaN"}, 400, "instance_spec_invalid"),
    ],
)
async def test_each_wrong_request_gets_its_own_answer(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    answered, body = await client.ask("operator", "POST", "/instances", BODY | change)
    assert (answered, body["code"]) == (status, code)
    assert (await client.ask("operator", "GET", "/instances"))[1]["data"] == []


@pytest.mark.parametrize("name", ["none", "%00", "..%2F..%2Fetc", "a" * 300])
async def test_what_is_no_id_is_no_instance(client: Client, name: str) -> None:
    for method, path in (("GET", ""), ("POST", "/start"), ("DELETE", "")):
        status, _ = await client.ask("operator", method, f"/instances/{name}{path}")
        assert status == 404


@pytest.mark.parametrize("query", ["tenant=%00", "host=%00", "idc=%00", "name=%00"])
async def test_a_filter_that_no_database_takes_is_refused(client: Client, query: str) -> None:
    assert (await client.ask("admin", "GET", f"/instances?{query}"))[0] == 400


async def test_lists_are_filtered_paged_and_each_tenants_own(client: Client) -> None:
    await client.ask("operator", "POST", "/instances", BODY | {"hosts": None, "all_hosts": True})
    status, body = await client.ask("viewer", "GET", "/instances?idc=east&page_size=1&page=2")
    assert status == 200
    assert [row["host"] for row in body["data"]] == ["e2"]
    assert body["pagination"] == {"page": 2, "page_size": 1, "total_pages": 2, "total_count": 2}
    assert len((await client.ask("admin", "GET", "/instances?tenant=acme&host=west/w1&name=web"))[1]["data"]) == 1
    assert (await client.ask("stranger", "GET", "/instances"))[1]["data"] == []
    assert (await client.ask("stranger", "GET", "/instances?tenant=acme"))[0] == 404


async def test_the_status_is_one_picture_of_the_fleet(
    client: Client,
    instance_id: str,
    database: Database,
    assignments: LayeredAssignments,
    egress: EgressCounter,
    clock: ManualClock,
) -> None:
    await assignments.accept_reports("host-e1", [said(instance_id)], [])
    egress.add(EgressKey("east", "t-acme", Digest.of(b"blob"), 10), 10)
    egress.add(EgressKey("west", "t-globex", Digest.of(b"blob"), 10), 7)
    async with database.transaction() as unit:
        online = {"session_id": "s", "last_seen_at": clock.now() - timedelta(seconds=1)}
        await unit.connection.execute(update(hosts).where(hosts.c.name == "e1").values(**online))
        await unit.connection.execute(update(regionals).where(regionals.c.name == "er").values(**online))
    await revoke_host(database, "host-w1")
    status, body = await client.ask("admin", "GET", "/status")
    assert status == 200
    picture = body["data"]
    assert picture["idcs"] == [
        {
            "name": "east",
            "hosts": 2,
            "hosts_online": 1,
            "regionals": 1,
            "regionals_online": 1,
            "instances": 1,
            "instances_running": 1,
            "egress_bytes": 10,
        },
        {
            "name": "west",
            "hosts": 0,
            "hosts_online": 0,
            "regionals": 1,
            "regionals_online": 0,
            "instances": 0,
            "instances_running": 0,
            "egress_bytes": 7,
        },
    ]
    assert picture["hosts"] == {"online": 1, "offline": 1, "conflict": 0, "revoked": 1}
    assert picture["regionals"] == {"online": 1, "offline": 1, "conflict": 0, "revoked": 0}
    assert picture["instances"]["running"] == 1
    assert sum(picture["instances"].values()) == 1
    assert picture["egress_bytes"] == 17
    foreign = (await client.ask("stranger", "GET", "/status"))[1]["data"]
    assert (foreign["egress_bytes"], sum(foreign["instances"].values())) == (7, 0)
    assert foreign["hosts"] == picture["hosts"]


async def test_the_periodic_sweep_ends_removals_of_revoked_hosts(
    client: Client, instance_id: str, service: InstanceService, database: Database
) -> None:
    await client.ask("operator", "DELETE", f"/instances/{instance_id}")
    await revoke_host(database, "host-e1")

    assert await build_handlers(service)["instances.sweep"](Running()) == {"forgotten": 1}
    assert (await client.ask("operator", "GET", f"/instances/{instance_id}"))[0] == 404
