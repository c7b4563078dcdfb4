"""Who declares mirrors, what of them is kept, and who sees it; on both engines."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from common.clock import ManualClock
from common.errors import Denied, Invalid, NotFound
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.registry.mirroring.assembly import Mirroring, open_mirroring
from control_plane.registry.mirroring.failures import MirrorExists, MirrorUnknown
from control_plane.registry.mirroring.model import parse_upstream
from control_plane.registry.mirroring.routes import build_router
from control_plane.registry.mirroring.service import MirrorPlan
from control_plane.registry.mirroring.tables import mirrors
from control_plane.registry.participants import Hooks
from control_plane.registry.service import RegistryService
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants.access import Principal
from control_plane.web.errors import install_error_handlers
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, BOB, OTTO, ROOT, VERA, Credentials, Directory
from tests.control_plane.registry.pushing import push_blob

HUB = MirrorPlan("acme/hub", "docker.io/library", 60, "robot", "a very secret password")


@pytest.fixture
def mirroring(database: Database, clock: ManualClock, tmp_path: Path) -> Mirroring:
    box = SealedBox(KeyRing.load_or_create(tmp_path / "keys"))
    outbound = Outbound(AddressPolicy.of(["10.9.0.0/16"]))
    return open_mirroring(
        database, Directory("acme", "birch"), box, outbound, clock, MemoryCache(clock), tmp_path / "spools"
    )


@pytest.fixture
def registry(database: Database, clock: ManualClock, mirroring: Mirroring) -> RegistryService:
    hooks = Hooks(upstreams=mirroring.pull_through)
    made = RegistryService(database, MemoryBlobStore(clock), Directory("acme", "birch"), clock, hooks)
    mirroring.pull_through.attach(made)
    return made


async def test_the_password_is_sealed_and_shown_to_nobody(mirroring: Mirroring, database: Database) -> None:
    made = await mirroring.service.create(ADA, HUB)
    async with database.reading() as connection:
        row = (await connection.execute(select(mirrors))).one()
    assert b"a very secret password" not in bytes(row.sealed)
    assert "a very secret password" not in repr(made) + repr(HUB) + repr(row)
    found = await mirroring.service.get(VERA, "acme/hub")
    assert (found.username, str(found.upstream)) == ("robot", "registry-1.docker.io/library")


@pytest.mark.parametrize("who", [OTTO, VERA])
async def test_members_look_and_administrators_declare(mirroring: Mirroring, who: Principal) -> None:
    with pytest.raises(Denied):
        await mirroring.service.create(who, HUB)
    await mirroring.service.create(ADA, HUB)
    assert (await mirroring.service.get(who, "acme/hub")).name == "acme/hub"
    for refused in (mirroring.service.remove, mirroring.service.check, mirroring.service.change):
        with pytest.raises(Denied):
            await refused(who, "acme/hub")


async def test_another_tenants_mirror_does_not_exist(mirroring: Mirroring) -> None:
    await mirroring.service.create(ADA, HUB)
    for asked in (mirroring.service.get, mirroring.service.remove, mirroring.service.change, mirroring.service.check):
        with pytest.raises(NotFound):
            await asked(BOB, "acme/hub")
    with pytest.raises(NotFound):
        await mirroring.service.create(BOB, HUB)
    page = PageRequest(1, 20)
    assert (await mirroring.service.list(BOB, None, page)).total_count == 0
    assert (await mirroring.service.list(ROOT, None, page)).total_count == 1
    with pytest.raises(NotFound):
        await mirroring.service.list(BOB, "acme", page)


@pytest.mark.parametrize("name", ["acme/hub", "acme/hub/deeper", "acme/h/u/b"])
async def test_mirrors_do_not_overlap(mirroring: Mirroring, name: str) -> None:
    await mirroring.service.create(ADA, MirrorPlan("acme/hub", "quay.io", 60))
    await mirroring.service.create(ADA, MirrorPlan("acme/h/u", "quay.io", 60))
    await mirroring.service.create(ADA, MirrorPlan("acme/hub2", "quay.io", 60))
    with pytest.raises(MirrorExists):
        await mirroring.service.create(ADA, MirrorPlan(name, "quay.io", 60))


@pytest.mark.parametrize("name", ["acme/hub", "acme/hub/web"])
async def test_what_was_pushed_does_not_become_a_mirror(
    mirroring: Mirroring, registry: RegistryService, name: str
) -> None:
    await push_blob(registry, b"mine", name)
    with pytest.raises(MirrorExists, match=name):
        await mirroring.service.create(ADA, HUB)
    await push_blob(registry, b"mine", "acme/free-0")
    await mirroring.service.create(ADA, MirrorPlan("acme/free", "quay.io", 60))


async def test_a_mirror_goes_with_its_tenant(mirroring: Mirroring, database: Database) -> None:
    await mirroring.service.create(ADA, HUB)
    async with database.transaction() as unit:
        assert await mirroring.service.tenant_goes(unit, "t-acme") is None
    with pytest.raises(MirrorUnknown):
        await mirroring.service.get(ADA, "acme/hub")


@pytest.mark.parametrize(
    "upstream",
    [
        "",
        "https://",
        "docker.io/UPPER",
        "docker.io/../x",
        "docker.io/a//b",
        "docker.io/a?b",
        "https://u:p@quay.io/x",
        "127.0.0.1:5000",
        "localhost/%2e",
        "quay.io:0",
        "2130706433",
        "[::ffff:10.0.0.1]",
        "a b",
        "é.io",
    ],
)
async def test_what_is_no_upstream_or_lies_inside_is_refused(mirroring: Mirroring, upstream: str) -> None:
    with pytest.raises((Invalid, Denied)):
        await mirroring.service.create(ADA, MirrorPlan("acme/hub", upstream, 60))


@pytest.mark.parametrize(
    ("text", "rest", "url", "repository"),
    [
        ("docker.io", "nginx", "https://registry-1.docker.io", "library/nginx"),
        ("docker.io", "grafana/grafana", "https://registry-1.docker.io", "grafana/grafana"),
        ("docker.io/library", "nginx", "https://registry-1.docker.io", "library/nginx"),
        ("https://Quay.io:443/org/", "app", "https://quay.io:443", "org/app"),
        ("quay.io/org/app", "", "https://quay.io", "org/app"),
        ("quay.io", "", "https://quay.io", None),
        ("http://10.9.0.1:5000/x", "y/z", "http://10.9.0.1:5000", "x/y/z"),
    ],
)
def test_an_upstream_is_read_as_people_write_it(text: str, rest: str, url: str, repository: str | None) -> None:
    upstream = parse_upstream(text)
    assert (upstream.url, upstream.repository(rest)) == (url, repository)


async def test_the_api_shows_no_password(mirroring: Mirroring) -> None:
    api = FastAPI()
    api.state.authenticator = Credentials()
    install_error_handlers(api)
    api.include_router(build_router(mirroring.service))
    body = {
        "name": "acme/hub",
        "upstream": "docker.io",
        "credentials": {"username": "robot", "password": "a very secret password"},
    }
    headers = {"Authorization": "Bearer ada"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://t", headers=headers) as client:
        answers = [
            await client.post("/api/v1/mirrors", json=body),
            await client.get("/api/v1/mirrors/acme/hub"),
            await client.get("/api/v1/mirrors"),
            await client.patch("/api/v1/mirrors/acme/hub", json={"tag_ttl_seconds": 5}),
            await client.patch("/api/v1/mirrors/acme/hub", json={"upstream": "evil.example"}),
            await client.post("/api/v1/mirrors", json=body),
            await client.post("/api/v1/mirrors", json={**body, "credentials": {"username": "a very secret password"}}),
            await client.delete("/api/v1/mirrors/acme/hub"),
            await client.get("/api/v1/mirrors/acme/hub"),
        ]
    assert [each.status_code for each in answers] == [201, 200, 200, 200, 400, 409, 400, 204, 404]
    assert answers[0].json()["data"]["has_credentials"] is True
    assert answers[3].json()["data"]["tag_ttl_seconds"] == 5
    assert not [each.text for each in answers if "a very secret password" in each.text]
