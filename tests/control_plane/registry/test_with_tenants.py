"""The registry on the real tenants: real passwords, API keys, roles and signed tokens."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from starlette.applications import Starlette

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database, UnitOfWork
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.model import TenantSettings
from control_plane.tenants.service import TenantNotEmpty
from control_plane.tenants.tenancy import Tenancy, build_tenancy
from tests.control_plane.registry.people import image_manifest
from tests.control_plane.registry.pushing import WEB

ADMIN = Principal("admin", "root", platform_admin=True)
PASSWORD = "correct horse battery"
CONFIG = b'{"architecture":"amd64"}'
PAYLOAD = image_manifest(CONFIG, [])


@dataclass
class Centre:
    tenancy: Tenancy
    client: httpx.AsyncClient


@pytest.fixture
async def centre(
    sqlite_url: str, clock: ManualClock, cache: MemoryCache, blobs: MemoryBlobStore
) -> AsyncIterator[Centre]:
    """`olga` is operator and `vera` viewer of acme."""
    database = Database(sqlite_url, clock)
    registries: list[RegistryService] = []

    async def in_use(unit: UnitOfWork, tenant_id: str) -> str | None:
        return await registries[0].tenant_in_use(unit, tenant_id)

    settings, box = TenantSettings(), SealedBox(KeyRing({b"k" * 8: b"1" * 32}))
    tenancy = build_tenancy(database, clock, cache, box, settings, [in_use])
    registries.append(RegistryService(database, blobs, tenancy.directory, clock))
    await tenancy.tenants.create(ADMIN, "acme")
    for name, role in (("olga", Role.OPERATOR), ("vera", Role.VIEWER)):
        await tenancy.accounts.create(ADMIN, name, PASSWORD)
        await tenancy.tenants.put_member(ADMIN, "acme", name, role)
    options = Options(service=settings.registry_service)
    app = Starlette(routes=build_routes(registries[0], tenancy.auth, tenancy.auth, tenancy.registry_tokens, options))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre.test") as client:
        yield Centre(tenancy, client)
    await database.close()


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def token(centre: Centre, name: str, *scopes: str) -> dict[str, str]:
    query = {"service": TenantSettings().registry_service, "scope": list(scopes)}
    answer = await centre.client.get("/v2/token", params=query, headers=basic(name))
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def push(centre: Centre, who: dict[str, str]) -> list[int]:
    uploads = f"/v2/{WEB}/blobs/uploads/?digest={Digest.of(CONFIG)}"
    blob = await centre.client.post(uploads, content=CONFIG, headers=who)
    manifest = await centre.client.put(
        f"/v2/{WEB}/manifests/1", content=PAYLOAD, headers={**who, "Content-Type": OCI_MANIFEST}
    )
    return [blob.status_code, manifest.status_code]


async def test_an_operator_pushes_and_a_viewer_pulls_with_tokens(centre: Centre) -> None:
    assert await push(centre, await token(centre, "olga", f"repository:{WEB}:pull,push")) == [201, 201]
    viewer = await token(centre, "vera", f"repository:{WEB}:pull,push")
    assert await push(centre, viewer) == [403, 403]
    pulled = await centre.client.get(f"/v2/{WEB}/manifests/1", headers=viewer)
    assert pulled.content == PAYLOAD


async def test_docker_login_needs_the_password_once(centre: Centre, clock: ManualClock) -> None:
    """The requests of dockerd: `docker login`, and pulls on later days with what the credential store then holds."""
    assert await push(centre, await token(centre, "olga", f"repository:{WEB}:pull,push")) == [201, 201]
    service = TenantSettings().registry_service
    login = {"account": "vera", "client_id": "docker", "offline_token": "true", "service": service}
    stored = (await centre.client.get("/v2/token", params=login, headers=basic("vera"))).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": stored, "client_id": "docker", "service": service}
    for _ in range(3):
        clock.tick(7 * 86400)
        got = await centre.client.post("/v2/token", data=form | {"scope": f"repository:{WEB}:pull,push"})
        assert got.json()["scope"] == f"repository:{WEB}:pull", "no more than vera may"
        bearer = {"Authorization": f"Bearer {got.json()['access_token']}"}
        assert (await centre.client.get(f"/v2/{WEB}/manifests/1", headers=bearer)).content == PAYLOAD
    opens_nothing_else = {"Authorization": f"Bearer {stored}"}
    assert (await centre.client.get(f"/v2/{WEB}/manifests/1", headers=opens_nothing_else)).status_code == 401
    await centre.tenancy.accounts.set_password(ADMIN, "vera", "another good password")
    refused = await centre.client.post("/v2/token", data=form)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")


async def test_a_token_expires_and_is_worth_nothing_elsewhere(centre: Centre, clock: ManualClock) -> None:
    mine = await token(centre, "olga", f"repository:{WEB}:pull,push")
    assert (await centre.client.get("/v2/acme/other/tags/list", headers=mine)).status_code == 401
    assert await push(centre, mine) == [201, 201]
    clock.tick(3600)
    late = await centre.client.get(f"/v2/{WEB}/manifests/1", headers=mine)
    assert late.status_code == 401
    assert 'error="invalid_token"' in late.headers["WWW-Authenticate"]


async def test_passwords_and_api_keys_work_without_a_token(centre: Centre) -> None:
    assert await push(centre, basic("olga")) == [201, 201]
    olga = await centre.tenancy.auth.authenticate_basic("olga", PASSWORD, "")
    key = (await centre.tenancy.api_keys.create(olga, "ci")).text
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, basic("anything", key)):
        assert (await centre.client.get(f"/v2/{WEB}/manifests/1", headers=headers)).status_code == 200
    assert (await centre.client.get("/v2/", headers=basic("olga", "wrong"))).status_code == 401


async def test_a_tenant_with_images_is_not_deleted(centre: Centre) -> None:
    assert await push(centre, basic("olga")) == [201, 201]
    with pytest.raises(TenantNotEmpty) as refused:
        await centre.tenancy.tenants.delete(ADMIN, "acme")
    assert "1 repository with images" in str(refused.value)
