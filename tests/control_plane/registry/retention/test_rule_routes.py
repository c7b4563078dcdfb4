"""Rules, policies, keys and attachments over HTTP: who may, what is shown, what wrong requests are told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from common.clock import ManualClock
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.queues.memory import MemoryQueue
from control_plane.registry.participants import Hooks
from control_plane.registry.retention.assembly import build_retention
from control_plane.registry.retention.immutability import Immutability
from control_plane.registry.retention.pictures import NothingRuns
from control_plane.registry.retention.pulls import PullTimes
from control_plane.registry.retention.routes import build_router as retention_router
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.signatures.routes import build_router as signatures_router
from control_plane.registry.signatures.service import SignatureService
from control_plane.web.errors import install_error_handlers
from tests.control_plane.registry.people import Credentials, Directory
from tests.control_plane.registry.pushing import Image, push_image
from tests.control_plane.registry.signatures.signing import cosign, new_key, public_pem

KEY = new_key()
UNKNOWN = "7f000000-0000-7000-8000-000000000000"
POLICY = {"name": "tidy", "rules": [{"keep": "newest", "count": 1}], "untagged_days": 7}


@pytest.fixture
async def database(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Database]:
    """SQLite: the wire's tests need one engine only."""
    opened = Database(sqlite_url, clock)
    yield opened
    await opened.close()


@pytest.fixture
async def image(registry: RegistryService) -> Image:
    pushed = await push_image(registry)
    await cosign(registry, KEY, pushed.digest)
    return pushed


@pytest.fixture
def gate(database: Database, blobs: MemoryBlobStore, clock: ManualClock) -> SignatureGate:
    return SignatureGate(database, blobs, Directory("acme", "birch"), clock)


@pytest.fixture
def registry(database: Database, blobs: MemoryBlobStore, clock: ManualClock, gate: SignatureGate) -> RegistryService:
    return RegistryService(database, blobs, Directory("acme", "birch"), clock, Hooks((Immutability(), gate), gate=gate))


@pytest.fixture
async def client(
    database: Database, registry: RegistryService, gate: SignatureGate, clock: ManualClock
) -> AsyncIterator[httpx.AsyncClient]:
    tenants = Directory("acme", "birch")
    jobs, pulls = JobService(database, MemoryQueue(), clock), PullTimes(database, clock)
    retention = build_retention(database, tenants, jobs, registry.images, NothingRuns(), pulls, clock)
    app = FastAPI()
    app.state.authenticator = Credentials()
    app.include_router(retention_router(retention.rules, retention.service))
    app.include_router(signatures_router(SignatureService(database, tenants, registry.rights, gate, clock)))
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre.test") as opened:
        yield opened


def as_(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


PATHS = ["immutability-rules", "retention-policies", "trusted-keys", "signature-policies"]
BODIES = {
    "immutability-rules": {"tags": ["v*"]},
    "retention-policies": POLICY,
    "trusted-keys": {"name": "ci", "pem": public_pem(KEY)},
}


@pytest.mark.parametrize("path", PATHS)
async def test_who_reads_and_who_changes(client: httpx.AsyncClient, path: str) -> None:
    url = f"/api/v1/tenants/acme/{path}"
    body = BODIES.get(path) or {"name": "signed", "key_ids": [UNKNOWN]}
    for name, reads, writes in (("vera", 200, 403), ("otto", 200, 403), ("bob", 404, 404)):
        assert (await client.get(url, headers=as_(name))).status_code == reads
        assert (await client.post(url, json=body, headers=as_(name))).status_code == writes
        assert (await client.delete(f"{url}/{UNKNOWN}", headers=as_(name))).status_code == writes
    assert (await client.get(url)).status_code == 401
    assert (await client.post(url, json=body)).status_code == 401
    assert (await client.delete(f"{url}/{UNKNOWN}", headers=as_("ada"))).status_code == 404
    assert (await client.get("/api/v1/tenants/absent/" + path, headers=as_("root"))).status_code == 404


async def test_ids_of_one_tenant_open_nothing_in_another(client: httpx.AsyncClient) -> None:
    key = (
        await client.post("/api/v1/tenants/acme/trusted-keys", json=BODIES["trusted-keys"], headers=as_("ada"))
    ).json()
    ids = {"trusted-keys": key["data"]["id"]}
    made = {"name": "signed", "key_ids": [ids["trusted-keys"]]}
    for path, body in {**BODIES, "signature-policies": made}.items():
        if path not in ids:
            answer = await client.post(f"/api/v1/tenants/acme/{path}", json=body, headers=as_("ada"))
            assert answer.status_code == 201, answer.text
            ids[path] = answer.json()["data"]["id"]
    for path, found in ids.items():
        assert (await client.delete(f"/api/v1/tenants/birch/{path}/{found}", headers=as_("bob"))).status_code == 404
    foreign = await client.post("/api/v1/tenants/birch/signature-policies", json=made, headers=as_("bob"))
    assert (foreign.status_code, foreign.json()["code"]) == (404, "trusted_key_unknown")
    policy = ids["retention-policies"]
    for method, rest in (("GET", ""), ("PUT", ""), ("GET", "/preview"), ("GET", "/runs"), ("POST", "/runs")):
        url = f"/api/v1/tenants/birch/retention-policies/{policy}{rest}"
        answer = await client.request(method, url, headers=as_("bob"), json=POLICY if method == "PUT" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "retention_policy_unknown")


async def test_rules_of_the_platform_are_the_platform_admins(client: httpx.AsyncClient) -> None:
    url = "/api/v1/immutability-rules"
    assert (await client.post(url, json={"tags": ["v*"]}, headers=as_("ada"))).status_code == 403
    made = (await client.post(url, json={"tags": ["v*"], "repositories": ["*/web"]}, headers=as_("root"))).json()[
        "data"
    ]
    assert [row["id"] for row in (await client.get(url, headers=as_("vera"))).json()["data"]] == [made["id"]]
    assert (await client.delete(f"/api/v1/tenants/acme{url[7:]}/{made['id']}", headers=as_("ada"))).status_code == 404
    assert (await client.delete(f"{url}/{made['id']}", headers=as_("root"))).status_code == 204


async def test_a_policy_reads_back_as_it_was_written(client: httpx.AsyncClient) -> None:
    body = {
        **POLICY,
        "repositories": ["web", "team/**"],
        "rules": [
            {"keep": "newest_versions", "count": 2, "per": "minor", "tags": ["v*"], "except_tags": ["v0*"]},
            {"keep": "pulled_within", "days": 30},
        ],
        "scope": {"tags": ["*"], "except_tags": ["prod"]},
        "interval_hours": None,
    }
    url = "/api/v1/tenants/acme/retention-policies"
    made = (await client.post(url, json=body, headers=as_("ada"))).json()["data"]
    assert made["rules"][0]["per"] == "minor"
    assert (made["next_run_at"], made["scope"]["except_tags"]) == (None, ["prod"])
    again = {name: value for name, value in made.items() if name not in ("id", "next_run_at")}
    put = await client.put(f"{url}/{made['id']}", json=again, headers=as_("ada"))
    assert put.json()["data"] == made == (await client.get(f"{url}/{made['id']}", headers=as_("vera"))).json()["data"]


async def test_a_draft_is_previewed(client: httpx.AsyncClient, image: Image) -> None:
    url = "/api/v1/tenants/acme/retention-policies/-/preview"
    answer = await client.post(url, json=POLICY, params={"repository": "acme/web"}, headers=as_("vera"))
    rows = answer.json()["data"]
    assert not any(row["deleted"] for row in rows)
    assert sorted(row["reason"] for row in rows) == [
        f"attached to {image.digest}, which stays",
        "kept by rule: the 1 newest of *",
    ]
    other = await client.post(url, json=POLICY, params={"repository": "birch/web"}, headers=as_("vera"))
    assert other.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {**POLICY, "rules": []},
        {**POLICY, "rules": [{"keep": "newest"}]},
        {**POLICY, "rules": [{"keep": "everything"}]},
        {**POLICY, "rules": [{"keep": "newest", "count": 1, "tags": ["(a+)+$"]}]},
        {**POLICY, "repositories": ["a" * 300]},
        {**POLICY, "name": ""},
        {**POLICY, "name": "\x00"},
        {**POLICY, "untagged_days": -1},
        {**POLICY, "interval_hours": 10**9},
        {**POLICY, "unknown": 1},
        [],
    ],
)
async def test_a_policy_that_is_wrong_is_refused(client: httpx.AsyncClient, body: object) -> None:
    url = "/api/v1/tenants/acme/retention-policies"
    assert (await client.post(url, json=body, headers=as_("ada"))).status_code == 400
    assert (await client.get(url, headers=as_("ada"))).json()["data"] == []


async def test_attachments_are_listed_with_their_signers(client: httpx.AsyncClient, image: Image) -> None:
    url = f"/api/v1/repositories/acme/web/-/manifests/{image.digest}/attachments"
    (row,) = (await client.get(url, headers=as_("vera"))).json()["data"]
    assert (row["kind"], row["format"], row["verified_by"]) == ("signature", "cosign", [])
    key = await client.post("/api/v1/tenants/acme/trusted-keys", json=BODIES["trusted-keys"], headers=as_("ada"))
    (row,) = (await client.get(url, headers=as_("vera"))).json()["data"]
    assert row["verified_by"] == [{name: key.json()["data"][name] for name in ("id", "name", "fingerprint")}]
    assert (await client.get(url, headers=as_("bob"))).status_code == 404
    assert (await client.get(url)).status_code == 401
    wrong = ["sha256:../x", "latest", "sha256:" + "g" * 64]
    for digest in wrong:
        answer = await client.get(f"/api/v1/repositories/acme/web/-/manifests/{digest}/attachments", headers=as_("ada"))
        assert answer.status_code in (400, 404)


async def test_a_private_key_is_refused_and_not_kept(client: httpx.AsyncClient) -> None:
    body = {"name": "oops", "pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}
    answer = await client.post("/api/v1/tenants/acme/trusted-keys", json=body, headers=as_("ada"))
    assert (answer.status_code, answer.json()["code"]) == (400, "trusted_key_invalid")
    assert "is a private key" in answer.json()["detail"]
