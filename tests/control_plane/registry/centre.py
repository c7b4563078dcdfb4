"""The registry with real tenants, keys and tokens beneath it, on the wire."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI

from common.clock import ManualClock
from common.digest import Digest
from control_plane.audit.service import AuditTrail
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.registry.access_routes import build_router as access_router
from control_plane.registry.granting import GrantService
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants import token_store
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.model import SigningKeyRow, TenantSettings
from control_plane.tenants.routes import build_router as tenants_router
from control_plane.tenants.tenancy import Tenancy, build_tenancy
from control_plane.web.errors import install_error_handlers
from tests.control_plane.registry.people import image_manifest

ADMIN = Principal("admin", "root", platform_admin=True)
PASSWORD = "correct horse battery"
SECRET = b"the secret layer of acme"
CONFIG = b'{"architecture":"amd64"}'
PAYLOAD = image_manifest(CONFIG, [SECRET])
WEB = "acme/web"


@dataclass
class Centre:
    """`ada` is admin of acme, which has `acme/web`; `bob` is admin of birch."""

    tenancy: Tenancy
    registry: RegistryService
    grants: GrantService
    database: Database
    client: httpx.AsyncClient
    keys: dict[str, str]

    async def token(self, name: str, *scopes: str) -> dict[str, str]:
        query = {"service": "longshore", "scope": list(scopes)}
        answer = await self.client.get("/v2/token", params=query, headers=self.basic(name))
        assert answer.status_code == 200, answer.text
        return bearer(answer.json()["token"])

    def basic(self, name: str) -> dict[str, str]:
        """With a key: a password costs 25 ms each time the cache has forgotten it."""
        return basic(name, self.keys[name])

    async def pull(self, headers: dict[str, str], repository: str = WEB) -> int:
        return (await self.client.get(f"/v2/{repository}/manifests/1", headers=headers)).status_code


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def keep_signing_key(database: Database, box: SealedBox, key: rsa.RSAPrivateKey) -> None:
    key_id = "00000000-0000-7000-8000-000000000001"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    row = SigningKeyRow(key_id, 1, box.seal(pem, f"signing_keys/{key_id}"), public, database.clock.now(), None)
    async with database.transaction() as unit:
        await token_store.add_signing_key(unit.connection, row)


@contextlib.asynccontextmanager
async def open_centre(
    url: str, clock: ManualClock, cache: MemoryCache, blobs: MemoryBlobStore, signing_key: rsa.RSAPrivateKey
) -> AsyncIterator[Centre]:
    database, box = Database(url, clock), SealedBox(KeyRing({b"k" * 8: b"1" * 32}))
    await keep_signing_key(database, box, signing_key)
    tenancy = build_tenancy(database, clock, cache, box, TenantSettings())
    registry = RegistryService(database, blobs, tenancy.directory, clock)
    keys = {}
    for name, tenant in (("ada", "acme"), ("bob", "birch")):
        await tenancy.tenants.create(ADMIN, tenant)
        await tenancy.accounts.create(ADMIN, name, PASSWORD)
        await tenancy.tenants.put_member(ADMIN, tenant, name, Role.ADMIN)
        principal = await tenancy.auth.authenticate_basic(name, PASSWORD)
        keys[name] = (await tenancy.api_keys.create(principal, "tests")).text
    grants = GrantService(database, registry.rights, tenancy.directory, AuditTrail(database, clock))
    app = FastAPI()
    app.router.routes[:0] = build_routes(registry, tenancy.auth, tenancy.auth, tenancy.registry_tokens, Options())
    app.include_router(tenants_router(tenancy))
    app.include_router(access_router(grants))
    app.state.authenticator = tenancy.auth
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre.test") as client:
        made = Centre(tenancy, registry, grants, database, client, keys)
        for data in (CONFIG, SECRET):
            path = f"/v2/{WEB}/blobs/uploads/?digest={Digest.of(data)}"
            assert (await client.post(path, content=data, headers=made.basic("ada"))).status_code == 201
        headers = {**made.basic("ada"), "Content-Type": OCI_MANIFEST}
        assert (await client.put(f"/v2/{WEB}/manifests/1", content=PAYLOAD, headers=headers)).status_code == 201
        yield made
    await database.close()
