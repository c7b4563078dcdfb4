from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from common.digest import Digest
from common.errors import Unauthenticated
from control_plane.database import Database
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import EgressKey, WantedContent
from control_plane.swarm.overview import SwarmOverview
from control_plane.swarm.routes import build_router
from control_plane.swarm.service import SwarmService
from control_plane.tenants.access import ANONYMOUS, Principal, Role
from control_plane.web.errors import install_error_handlers
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2
from tests.control_plane.swarm.parts import Tenants

pytestmark = pytest.mark.usefixtures("fleet")

PRINCIPALS = {
    "admin": Principal("u-0", "admin", platform_admin=True),
    "acme": Principal("u-1", "ann", roles={"acme": Role.VIEWER}),
    "globex": Principal("u-2", "gil", roles={"globex": Role.ADMIN}),
    "nobody": Principal("u-3", "noa"),
}
BLOBS = {
    tenant: WantedContent(Digest.of(tenant.encode()), 1000, "application/octet-stream") for tenant in ("acme", "globex")
}


class Names:
    """The `Authorization` header is the name of a principal."""

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        if authorization_header is None:
            return ANONYMOUS
        if authorization_header not in PRINCIPALS:
            raise Unauthenticated("wrong credentials")
        return PRINCIPALS[authorization_header]


@pytest.fixture
async def client(
    fleet: None,
    database: Database,
    tenants: Tenants,
    swarm: SwarmService,
    egress: EgressCounter,
    bad_peers: BadPeers,
) -> AsyncIterator[httpx.AsyncClient]:
    """Each tenant has one content: ordered in east, held by e1, sent to east; acme's is in west, too."""
    app = FastAPI()
    app.include_router(build_router(SwarmOverview(database, tenants, egress), bad_peers))
    app.state.authenticator = Names()
    install_error_handlers(app)
    async with database.transaction() as unit:
        for tenant, blob in BLOBS.items():
            await swarm.want(unit, "idc-east", f"t-{tenant}", f"i-{tenant}", [blob])
        await swarm.want(unit, "idc-west", "t-acme", "i-west", [BLOBS["acme"]])
    for tenant, blob in BLOBS.items():
        report = agent_pb2.ContentReport(
            digest=str(blob.digest),
            tenant_id=f"t-{tenant}",
            size_bytes=1000,
            held_bytes=400,
            provenance=content_pb2.Provenance(from_centre_bytes=100, from_regional_bytes=200, from_peers_bytes=300),
        )
        await swarm.accept_content_reports("host-e1", [report])
        egress.add(EgressKey("east", f"t-{tenant}", blob.digest, 1000), 1000)
    egress.add(EgressKey("west", "t-acme", BLOBS["acme"].digest, 1000), 10)
    order = regional_pb2.OrderReport(
        tenant_id="t-acme",
        digest=str(BLOBS["acme"].digest),
        size_bytes=1000,
        held_bytes=1000,
        phase=regional_pb2.ORDER_PHASE_HELD,
        from_centre_bytes=1000,
    )
    await swarm.accept_order_reports("regional-er", [order])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as client:
        yield client


async def rows(client: httpx.AsyncClient, path: str, who: str = "admin", **query: str) -> list[dict[str, object]]:
    answer = await client.get(f"/api/v1/swarm/{path}", params=query, headers={"Authorization": who})
    assert answer.status_code == 200, answer.text
    data: list[dict[str, object]] = answer.json()["data"]
    assert answer.json()["pagination"]["total_count"] == len(data)
    return data


@pytest.mark.parametrize("path", ["egress", "contents", "orders"])
async def test_anonymous_requests_are_sent_to_the_login(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/api/v1/swarm/{path}")).status_code == 401


async def test_egress_is_summed_by_idc_and_content(client: httpx.AsyncClient) -> None:
    found = {(row["idc"], row["digest"]): row["bytes"] for row in await rows(client, "egress")}
    acme, globex = (str(BLOBS[tenant].digest) for tenant in ("acme", "globex"))
    assert found == {("east", acme): 1000, ("east", globex): 1000, ("west", acme): 10}


@pytest.mark.parametrize("path", ["egress", "contents", "orders"])
async def test_a_tenant_sees_its_own_share_alone(client: httpx.AsyncClient, path: str) -> None:
    assert {row["digest"] for row in await rows(client, path, "globex")} == {str(BLOBS["globex"].digest)}
    assert {row["digest"] for row in await rows(client, path, "acme")} == {str(BLOBS["acme"].digest)}
    assert await rows(client, path, "nobody") == []


async def test_contents_say_where_bytes_came_from(client: httpx.AsyncClient) -> None:
    (row,) = await rows(client, "contents", "acme")
    assert row.pop("reported_at")
    assert row == {
        "host": "e1",
        "host_id": "host-e1",
        "idc": "east",
        "tenant": "acme",
        "digest": str(BLOBS["acme"].digest),
        "size_bytes": 1000,
        "held_bytes": 400,
        "verified": False,
        "from_centre_bytes": 100,
        "from_regional_bytes": 200,
        "from_peers_bytes": 300,
        "reused_bytes": 0,
        "detail": "",
    }


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"host": "east/e1"}, 2),
        ({"host": "host-e1"}, 2),
        ({"host": "west/e1"}, 0),
        ({"idc": "east"}, 2),
        ({"idc": "west"}, 0),
        ({"digest": str(BLOBS["acme"].digest)}, 1),
        ({"digest": str(BLOBS["acme"].digest), "host": "east/e1", "idc": "east"}, 1),
    ],
)
async def test_contents_are_filtered(client: httpx.AsyncClient, query: dict[str, str], count: int) -> None:
    assert len(await rows(client, "contents", **query)) == count


async def test_a_filter_that_is_no_digest_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/swarm/contents?digest=latest", headers={"Authorization": "admin"})
    assert (answer.status_code, answer.json()["code"]) == (400, "digest_invalid")


async def test_orders_say_how_far_each_regional_is(client: httpx.AsyncClient) -> None:
    east, west = await rows(client, "orders", "acme")
    assert (east["idc"], west["idc"]) == ("east", "west")
    assert east["regionals"] == [
        {
            "regional": "er",
            "regional_id": "regional-er",
            "phase": "held",
            "held_bytes": 1000,
            "from_centre_bytes": 1000,
            "detail": "",
        }
    ]
    assert west["regionals"] == []
    assert len(await rows(client, "orders", idc="west")) == 1


async def test_lists_come_in_pages(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/swarm/egress?page=2&page_size=2", headers={"Authorization": "admin"})
    assert answer.json()["pagination"] == {"page": 2, "page_size": 2, "total_pages": 2, "total_count": 3}
    assert len(answer.json()["data"]) == 1
