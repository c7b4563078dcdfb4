"""Visibility and grants: changed by who manages the repository, counting at once, shown in listings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Denied, Failure, Unauthenticated
from control_plane.audit.service import AuditTrail
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.catalogue.routes import build_router as catalogue_router
from control_plane.database import Database
from control_plane.registry.access_routes import build_router
from control_plane.registry.failures import RepositoryUnknown
from control_plane.registry.granting import GranteeUnknown, GrantExpired, GrantService, GrantUnknown, TooManyGrants
from control_plane.registry.grants import MANAGE, GranteeKind, Level, Visibility
from control_plane.registry.scopes import DELETE, PULL, PUSH
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import ANONYMOUS, Principal, RobotScope, Role
from control_plane.web.errors import install_error_handlers
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, BOB, OTTO, PEOPLE, ROOT, VERA, Credentials, Directory
from tests.control_plane.registry.pushing import WEB, push_image

PAGE = PageRequest(1, 100)
BILL = Principal("u-bill", "bill", roles={"birch": Role.VIEWER})
BIRCH_ROBOT = Principal(
    "r-1", "robot/birch/ci", limited=True, tenant="birch", robot=(RobotScope("acme/web", frozenset({PULL})),)
)


class Grantees(Directory):
    async def user_ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        return {name: f"u-{name}" for name in names if name in PEOPLE or name == "bill"}

    async def user_names_of(self, ids: Collection[str]) -> Mapping[str, str]:
        return {each: each.removeprefix("u-") for each in ids}

    async def group_ids_of(self, tenant_id: str) -> Mapping[str, str]:
        return {"crew": "g-crew"} if tenant_id == "t-acme" else {}


@pytest.fixture
def grants(registry: RegistryService, database: Database, clock: ManualClock) -> GrantService:
    return GrantService(database, registry.rights, Grantees("acme", "birch"), AuditTrail(database, clock))


async def permitted(registry: RegistryService, principal: Principal, repository: str = WEB) -> set[str]:
    return {each for each in (PULL, PUSH, DELETE, MANAGE) if await registry.rights.may(principal, repository, each)}


async def test_a_public_repository_is_pulled_by_everybody_and_nothing_else(
    registry: RegistryService, grants: GrantService
) -> None:
    image = await push_image(registry)
    assert await permitted(registry, ANONYMOUS) == set()
    await grants.set_visibility(ADA, WEB, Visibility.PUBLIC)
    for principal in (ANONYMOUS, BOB):
        assert await permitted(registry, principal) == {PULL}
        assert (await registry.images.find(principal, WEB, "latest")).payload == image.payload
        assert await registry.contents.blob_size(principal, WEB, Digest.of(image.layers[0])) == len(image.layers[0])
        with pytest.raises((Denied, Unauthenticated)):
            await registry.images.delete_tag(principal, WEB, "latest")
        with pytest.raises((Denied, Unauthenticated)):
            await registry.uploads.start(principal, WEB)
    await grants.set_visibility(ADA, WEB, Visibility.PRIVATE)
    with pytest.raises(Unauthenticated):
        await registry.images.find(ANONYMOUS, WEB, "latest")
    with pytest.raises(RepositoryUnknown):
        await registry.contents.blob_size(BOB, WEB, Digest.of(image.layers[0]))


async def test_a_grant_counts_at_once_and_until_it_ends(
    registry: RegistryService, grants: GrantService, clock: ManualClock
) -> None:
    await push_image(registry)
    assert await permitted(registry, BOB) == set()
    hour = clock.now() + timedelta(hours=1)
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.WRITE, hour)
    assert await permitted(registry, BOB) == {PULL, PUSH}
    await push_image(registry, "bobs", tag="bobs", principal=BOB)
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.READ, hour)
    assert await permitted(registry, BOB) == {PULL}
    clock.tick(3600)
    assert await permitted(registry, BOB) == set()
    assert (await grants.list(ADA, WEB, PAGE)).items == []
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.ADMIN)
    assert await permitted(registry, BOB) == {PULL, PUSH, DELETE, MANAGE}
    await grants.put(BOB, WEB, GranteeKind.TENANT, "birch", Level.READ)
    await grants.remove(ADA, WEB, GranteeKind.USER, "bob")
    assert await permitted(registry, BOB) == {PULL}
    assert await permitted(registry, BIRCH_ROBOT) == {PULL}
    await grants.remove(ADA, WEB, GranteeKind.TENANT, "birch")
    assert await permitted(registry, BOB) == set()
    with pytest.raises(GrantUnknown):
        await grants.remove(ADA, WEB, GranteeKind.TENANT, "birch")


async def test_a_group_is_one_of_the_repositorys_tenant(registry: RegistryService, grants: GrantService) -> None:
    await push_image(registry)
    await push_image(registry, repository="birch/web", principal=BOB)
    await grants.put(ADA, WEB, GranteeKind.GROUP, "crew", Level.WRITE)
    assert await permitted(registry, replace(BILL, groups=frozenset({"g-crew"}))) == {PULL, PUSH}
    with pytest.raises(GranteeUnknown):
        await grants.put(BOB, "birch/web", GranteeKind.GROUP, "crew", Level.READ)
    [shown] = (await grants.list(ADA, WEB, PAGE)).items
    assert (shown.kind, shown.name, shown.level, shown.granted_by) == (GranteeKind.GROUP, "crew", Level.WRITE, "ada")


async def test_only_who_manages_the_repository_changes_what_it_grants(
    registry: RegistryService, grants: GrantService, clock: ManualClock
) -> None:
    await push_image(registry)
    refusals: list[tuple[Principal, type[Failure]]] = [
        (OTTO, Denied), (VERA, Denied), (BOB, RepositoryUnknown), (ANONYMOUS, Unauthenticated)
    ]  # fmt: skip
    for principal, refusal in refusals:
        for use in (
            grants.set_visibility(principal, WEB, Visibility.PUBLIC),
            grants.list(principal, WEB, PAGE),
            grants.put(principal, WEB, GranteeKind.USER, principal.name, Level.ADMIN),
            grants.remove(principal, WEB, GranteeKind.USER, "bob"),
        ):
            with pytest.raises(refusal):
                await use
    for name in ("acme/absent", "absent/web"):
        with pytest.raises(RepositoryUnknown):
            await grants.set_visibility(ROOT, name, Visibility.PUBLIC)
    with pytest.raises(GranteeUnknown):
        await grants.put(ADA, WEB, GranteeKind.USER, "nobody", Level.READ)
    with pytest.raises(GrantExpired):
        await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.READ, clock.now())
    assert (await grants.access(ADA, WEB))[0] is Visibility.PRIVATE
    assert (await grants.list(ADA, WEB, PAGE)).items == []


async def test_grants_are_bounded(
    registry: RegistryService, grants: GrantService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push_image(registry)
    monkeypatch.setattr("control_plane.registry.granting.MAX_GRANTS", 1)
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.READ)
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.WRITE)
    with pytest.raises(TooManyGrants):
        await grants.put(ADA, WEB, GranteeKind.USER, "otto", Level.READ)
    assert (await grants.list(ADA, WEB, PAGE)).total_count == 1


async def test_listings_show_exactly_what_may_be_pulled(
    registry: RegistryService, grants: GrantService, clock: ManualClock
) -> None:
    names = ["acme/a", "acme/b", "acme/c_d", "acme/cxd", "birch/e", "birch/f"]
    for name in names:
        await push_image(registry, repository=name, principal=ROOT)
    await grants.set_visibility(ROOT, "birch/e", Visibility.PUBLIC)
    await grants.put(ROOT, "acme/a", GranteeKind.USER, "bob", Level.READ)
    await grants.put(ROOT, "acme/b", GranteeKind.TENANT, "birch", Level.READ, clock.now() + timedelta(hours=1))
    await grants.put(ROOT, "acme/c_d", GranteeKind.GROUP, "crew", Level.READ)
    robots = (RobotScope("acme/c_d", frozenset({PULL})), RobotScope("acme/a*", frozenset({PUSH})))
    people = [
        ROOT, ADA, BOB, BILL, ANONYMOUS,
        replace(BOB, tenant="birch"),
        replace(BOB, tenant="acme", roles={}),
        replace(BILL, groups=frozenset({"g-crew"})),
        replace(BIRCH_ROBOT, robot=(RobotScope("*", frozenset({PULL})),)),
        replace(BIRCH_ROBOT, tenant="acme", robot=robots),
        Principal("u-new", "new"),
    ]  # fmt: skip
    for moment in range(2):
        for principal in people:
            listed = await registry.catalogue(principal, "", 100)
            assert listed == [name for name in names if PULL in await permitted(registry, principal, name)]
            page = await registry.repositories(await registry.rights.visible(principal), PAGE)
            assert [row.repository for row in page.items] == listed
        assert ("acme/b" in await registry.catalogue(BILL, "", 100)) is (moment == 0)
        clock.tick(3600)


async def test_a_mount_without_a_source_looks_only_where_one_may_pull(
    registry: RegistryService, grants: GrantService
) -> None:
    image = await push_image(registry)
    layer = Digest.of(image.layers[0])
    assert await registry.uploads.mount(BOB, "birch/x", layer, None) is None
    assert await registry.uploads.mount(BOB, "birch/x", layer, WEB) is None
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.READ)
    assert await registry.uploads.mount(BOB, "birch/x", layer, None) is not None
    await grants.remove(ADA, WEB, GranteeKind.USER, "bob")
    assert await registry.uploads.mount(BOB, "birch/y", Digest.of(image.layers[1]), WEB) is None


async def test_a_new_repository_of_an_old_name_grants_nothing(
    registry: RegistryService, grants: GrantService, database: Database
) -> None:
    image = await push_image(registry)
    await grants.set_visibility(ADA, WEB, Visibility.PUBLIC)
    assert await permitted(registry, ANONYMOUS) == {PULL}
    await registry.images.delete_manifest(ADA, WEB, image.digest)
    async with database.transaction() as unit:
        assert await registry.tenant_in_use(unit, "t-acme") is None
    await push_image(registry, "new")
    assert await permitted(registry, ANONYMOUS) == set()


async def test_another_replica_learns_of_it_within_seconds(
    registry: RegistryService, grants: GrantService, blobs: MemoryBlobStore, clock: ManualClock, open_replica: object
) -> None:
    await push_image(registry)
    other = RegistryService(open_replica(), blobs, Directory("acme", "birch"), clock)  # type: ignore[operator]
    await grants.put(ADA, WEB, GranteeKind.USER, "bob", Level.READ)
    assert await permitted(other, BOB) == {PULL}
    await grants.remove(ADA, WEB, GranteeKind.USER, "bob")
    clock.tick(5)
    assert await permitted(other, BOB) == set()


@pytest.fixture
async def api(local_registry: RegistryService, sqlite_url: str, clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    database = Database(sqlite_url, clock)
    service = GrantService(database, local_registry.rights, Grantees("acme", "birch"), AuditTrail(database, clock))
    app = FastAPI()
    app.state.authenticator = Credentials()
    app.include_router(build_router(service))
    app.include_router(catalogue_router(local_registry))
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre.test") as opened:
        yield opened
    await database.close()


async def test_access_is_managed_over_http(api: httpx.AsyncClient, local_registry: RegistryService) -> None:
    await push_image(local_registry)
    ada, bob = ({"Authorization": f"Bearer {name}"} for name in ("ada", "bob"))
    of = f"/api/v1/repositories/{WEB}/-"
    assert (await api.get(f"{of}/access", headers=ada)).json()["data"] == {
        "repository": WEB,
        "visibility": "private",
        "actions": ["pull", "push", "delete", "manage"],
    }
    assert (await api.get(f"{of}/access", headers=bob)).status_code == 404
    granted = await api.put(f"{of}/grants/user/bob", json={"level": "read"}, headers=ada)
    assert (granted.status_code, granted.json()["data"]["name"]) == (200, "bob")
    assert (await api.get(f"{of}/access", headers=bob)).json()["data"]["actions"] == ["pull"]
    assert (await api.patch(f"{of}/access", json={"visibility": "public"}, headers=bob)).status_code == 403
    assert (await api.get(f"{of}/grants", headers=ada)).json()["pagination"]["total_count"] == 1
    assert (await api.delete(f"{of}/grants/user/bob", headers=ada)).status_code == 204
    changed = await api.patch(f"{of}/access", json={"visibility": "public"}, headers=ada)
    assert changed.json()["data"]["visibility"] == "public"
    assert (await api.get(f"{of}/access", headers=bob)).json()["data"]["actions"] == ["pull"]
    for bad in ({"visibility": "secret"}, {}, {"visibility": "public", "more": 1}):
        assert (await api.patch(f"{of}/access", json=bad, headers=ada)).status_code == 400
    assert (await api.put(f"{of}/grants/robot/x", json={"level": "read"}, headers=ada)).status_code == 400
    assert (await api.get("/api/v1/repositories/acme/a%00b/-/access", headers=ada)).status_code == 404
    for method, path in (("GET", "access"), ("PATCH", "access"), ("GET", "grants"), ("PUT", "grants/user/bob")):
        body = {"visibility": "public"} if method == "PATCH" else {"level": "read"}
        assert (await api.request(method, f"{of}/{path}", json=body)).status_code == 401


async def test_the_listing_is_filtered_and_sorted(
    api: httpx.AsyncClient, local_registry: RegistryService, clock: ManualClock
) -> None:
    for name in ("acme/web", "acme/api", "acme/web-admin"):
        await push_image(local_registry, repository=name)
        clock.tick(1)
    ada, bob = ({"Authorization": f"Bearer {name}"} for name in ("ada", "bob"))
    await api.patch("/api/v1/repositories/acme/api/-/access", json={"visibility": "public"}, headers=ada)

    async def names(query: str, who: dict[str, str]) -> list[str]:
        return [row["repository"] for row in (await api.get(f"/api/v1/images?{query}", headers=who)).json()["data"]]

    assert await names("name=web&sort=name:desc", ada) == ["acme/web-admin", "acme/web"]
    assert await names("sort=created_at:desc&page_size=2", ada) == ["acme/web-admin", "acme/api"]
    assert await names("visibility=public", ada) == ["acme/api"]
    assert await names("visibility=private&tenant=acme", ada) == ["acme/web", "acme/web-admin"]
    assert await names("", bob) == ["acme/api"]
    assert await names("tenant=acme&name=nothing", bob) == []
    assert await names("name=%25", ada) == []
    for bad in ("sort=size", "visibility=secret", "name=%00", "page=0"):
        assert (await api.get(f"/api/v1/images?{bad}", headers=ada)).status_code == 400
