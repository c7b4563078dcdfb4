"""The listing of images, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from common.clock import ManualClock
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.catalogue.routes import build_router
from control_plane.database import Database
from control_plane.registry.service import RegistryService
from control_plane.web.errors import install_error_handlers
from tests.control_plane.registry.people import ADA, BOB, Credentials, Directory
from tests.control_plane.registry.pushing import push_image


@pytest.fixture
async def client(sqlite_url: str, clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    database = Database(sqlite_url, clock)
    registry = RegistryService(database, MemoryBlobStore(clock), Directory("acme", "birch"), clock)
    await push_image(registry, "one", tag="1.0")
    await push_image(registry, "two", tag="1.1")
    await push_image(registry, "api", tag="latest", repository="acme/api")
    await push_image(registry, "foreign", repository="birch/web", principal=BOB)
    app = FastAPI()
    app.state.authenticator = Credentials()
    app.include_router(build_router(registry))
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre.test") as opened:
        yield opened
    await database.close()


def login(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def test_images_are_listed_with_their_tags(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/images", headers=login(ADA.name))
    assert answer.status_code == 200
    document = answer.json()
    assert document["pagination"] == {"page": 1, "page_size": 20, "total_pages": 1, "total_count": 2}
    api, web = document["data"]
    assert (api["repository"], web["repository"]) == ("acme/api", "acme/web")
    assert [tag["name"] for tag in web["tags"]] == ["1.0", "1.1"]
    tag = web["tags"][0]
    assert set(tag) == {"name", "digest", "size_bytes", "media_type", "updated_at"}
    assert tag["digest"].startswith("sha256:")
    assert tag["updated_at"] == "2026-01-01T00:00:00Z"
    assert web["size_bytes"] == sum(each["size_bytes"] for each in web["tags"])


async def test_a_listing_shows_the_tenants_of_the_principal(client: httpx.AsyncClient) -> None:
    async def names(who: str, query: str = "") -> list[str]:
        answer = await client.get(f"/api/v1/images{query}", headers=login(who))
        return [row["repository"] for row in answer.json()["data"]]

    assert await names("bob") == ["birch/web"]
    assert await names("root") == ["acme/api", "acme/web", "birch/web"]
    assert await names("root", "?tenant=birch") == ["birch/web"]
    assert await names("both", "?tenant=acme&page=2&page_size=1") == ["acme/web"]


async def test_other_tenants_do_not_exist_and_nobody_sees_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/images?tenant=acme", headers=login("bob"))).status_code == 404
    assert (await client.get("/api/v1/images?tenant=absent", headers=login("bob"))).status_code == 404
    assert (await client.get("/api/v1/images")).status_code == 401
