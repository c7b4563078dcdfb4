"""Who asks, and the Docker token flow."""

from __future__ import annotations

import base64

import httpx
import pytest
from starlette.applications import Starlette

from common.digest import Digest
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from tests.control_plane.registry.people import BOB, Credentials
from tests.control_plane.registry.pushing import WEB, push_blob, push_image

DIGEST = Digest.of(b"x")


@pytest.fixture
async def nobody(client: httpx.AsyncClient) -> httpx.AsyncClient:
    del client.headers["Authorization"]
    return client


def basic(name: str, password: str = "secret") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", None),
        ("GET", f"/v2/{WEB}/manifests/latest", f"repository:{WEB}:pull"),
        ("HEAD", f"/v2/{WEB}/blobs/{DIGEST}", f"repository:{WEB}:pull,push"),
        ("GET", f"/v2/{WEB}/tags/list", f"repository:{WEB}:pull"),
        ("PUT", f"/v2/{WEB}/manifests/latest", f"repository:{WEB}:pull,push"),
        ("POST", f"/v2/{WEB}/blobs/uploads/", f"repository:{WEB}:pull,push"),
        ("PATCH", f"/v2/{WEB}/blobs/uploads/x", f"repository:{WEB}:pull,push"),
        ("DELETE", f"/v2/{WEB}/blobs/uploads/x", f"repository:{WEB}:pull,push"),
        ("DELETE", f"/v2/{WEB}/manifests/latest", f"repository:{WEB}:delete"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        (
            "POST",
            f"/v2/{WEB}/blobs/uploads/?mount={DIGEST}&from=acme/base",
            f"repository:{WEB}:pull,push repository:acme/base:pull",
        ),
        (
            "POST",
            f"/v2/{WEB}/blobs/uploads/?mount={DIGEST}",
            f"repository:{WEB}:pull,push blob:{str(DIGEST).replace(':', '-')}:pull",
        ),
        ("POST", f"/v2/{WEB}/blobs/uploads/?mount=sha256:short", f"repository:{WEB}:pull,push"),
        ("POST", f"/v2/{WEB}/blobs/uploads/?mount={DIGEST}&from=../x", f"repository:{WEB}:pull,push"),
    ],
)
async def test_nobody_is_told_where_to_get_which_token(
    nobody: httpx.AsyncClient, method: str, path: str, scope: str | None
) -> None:
    answer = await nobody.request(method, path)
    assert answer.status_code == 401
    expected = 'Bearer realm="http://registry.test/v2/token",service="longshore"'
    assert answer.headers["WWW-Authenticate"] == expected + (f',scope="{scope}"' if scope else "")
    if method != "HEAD":
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


async def test_the_token_that_was_asked_for_opens_the_door(
    nobody: httpx.AsyncClient, local_registry: RegistryService, credentials: Credentials
) -> None:
    image = await push_image(local_registry)
    challenge = (await nobody.get(f"/v2/{WEB}/manifests/latest")).headers["WWW-Authenticate"]
    fields = dict(part.split("=", 1) for part in challenge.removeprefix("Bearer ").split(","))
    answer = await nobody.get(
        fields["realm"].strip('"'),
        params={
            "service": fields["service"].strip('"'),
            "scope": fields["scope"].strip('"'),
            "account": "vera",
            "client_id": "docker",
            "offline_token": "true",
        },
        headers=basic("vera"),
    )
    assert answer.status_code == 200
    document = answer.json()
    assert document["token"] == document["access_token"]
    assert (document["expires_in"], document["issued_at"]) == (300, "2026-01-01T00:00:00Z")
    bearer = {"Authorization": f"Bearer {document['token']}"}
    pulled = await nobody.get(f"/v2/{WEB}/manifests/latest", headers=bearer)
    assert pulled.content == image.payload
    assert (await nobody.get("/v2/", headers=bearer)).status_code == 200
    # Vera may not push, so a wider token would not help: 403, not another challenge.
    assert (await nobody.post(f"/v2/{WEB}/blobs/uploads/", headers=bearer)).status_code == 403


async def test_a_token_for_one_repository_is_worth_nothing_for_another(
    nobody: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    await push_image(local_registry, repository="acme/other")
    document = (await nobody.get(f"/v2/token?scope=repository:{WEB}:pull", headers=basic("ada"))).json()
    answer = await nobody.get(
        "/v2/acme/other/manifests/latest", headers={"Authorization": f"Bearer {document['token']}"}
    )
    assert answer.status_code == 401
    assert 'scope="repository:acme/other:pull",error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


async def test_a_mount_with_too_small_a_token_is_challenged_for_both_scopes(
    nobody: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    digest = await push_blob(local_registry, b"base", "birch/base", BOB)
    path = f"/v2/{WEB}/blobs/uploads/?mount={digest}&from=birch/base"
    small = (await nobody.get(f"/v2/token?scope=repository:{WEB}:pull,push", headers=basic("both"))).json()["token"]
    refused = await nobody.post(path, headers={"Authorization": f"Bearer {small}"})
    assert refused.status_code == 401
    assert "repository:birch/base:pull" in refused.headers["WWW-Authenticate"]
    scope = f"repository:{WEB}:pull,push repository:birch/base:pull"
    wide = (await nobody.get("/v2/token", params={"scope": scope}, headers=basic("both"))).json()["token"]
    assert (await nobody.post(path, headers={"Authorization": f"Bearer {wide}"})).status_code == 201


async def test_a_token_for_a_blob_is_for_a_repository_that_one_may_pull_it_from(
    nobody: httpx.AsyncClient, local_registry: RegistryService, credentials: Credentials
) -> None:
    digest = await push_blob(local_registry, b"base", "birch/base", BOB)
    scope = f"repository:{WEB}:pull,push blob:{str(digest).replace(':', '-')}:pull"
    for name in ("ada", "both"):
        token = (await nobody.get("/v2/token", params={"scope": scope}, headers=basic(name))).json()["token"]
        answer = await nobody.post(
            f"/v2/{WEB}/blobs/uploads/?mount={digest}", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == (201 if name == "both" else 202)
    granted = [[each.repository for each in scopes] for _, scopes in credentials.issued]
    assert granted == [[WEB], [WEB, "birch/base"]], "ada may not know where it is"
    assert (await nobody.get("/v2/token", params={"scope": scope})).status_code == 401


async def test_only_what_the_role_permits_is_granted(nobody: httpx.AsyncClient, credentials: Credentials) -> None:
    scopes = [f"repository:{WEB}:pull,push,delete", "repository(plugin):birch/x:pull", "nonsense"]
    assert (await nobody.get("/v2/token", params={"scope": scopes}, headers=basic("otto"))).status_code == 200
    [(service, granted)] = credentials.issued
    assert service == "longshore"
    assert [(each.repository, each.actions) for each in granted] == [(WEB, frozenset({"pull", "push"}))]


@pytest.mark.parametrize("name", ["ada", "stranger"])
async def test_wrong_passwords_are_refused(nobody: httpx.AsyncClient, name: str) -> None:
    for path in ("/v2/token", "/v2/"):
        answer = await nobody.get(path, headers=basic(name, "wrong"))
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    assert (await nobody.get("/v2/token")).headers["WWW-Authenticate"] == 'Basic realm="longshore"'


async def test_basic_and_api_credentials_work_without_a_registry_token(
    nobody: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    await push_image(local_registry)
    for headers in (basic("vera"), {"Authorization": "Bearer vera"}, {"X-API-Key": "vera"}):
        assert (await nobody.get("/v2/", headers=headers)).status_code == 200
        assert (await nobody.get(f"/v2/{WEB}/manifests/latest", headers=headers)).status_code == 200


async def test_a_token_that_is_not_genuine_is_said_to_be_invalid(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.get("/v2/", headers={"Authorization": "Bearer forged"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].endswith(',error="invalid_token"')


async def test_docker_login_keeps_a_token_and_later_pulls_without_the_password(
    nobody: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    """As dockerd does it: `offline_token` at login, then `grant_type=refresh_token` before each pull."""
    image = await push_image(local_registry)
    asked = {"account": "vera", "client_id": "docker", "service": "longshore"}
    plain = (await nobody.get("/v2/token", params=asked, headers=basic("vera"))).json()
    assert "refresh_token" not in plain, "only who asks for one"
    kept = (await nobody.get("/v2/token", params=asked | {"offline_token": "true"}, headers=basic("vera"))).json()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": kept["refresh_token"],
        "service": "longshore",
        "client_id": "docker",
        "scope": f"repository:{WEB}:pull",
    }
    for access_type in ("online", "offline"):
        answer = await nobody.post("/v2/token", data=form | {"access_type": access_type})
        assert answer.headers["Cache-Control"] == "no-store"
        document = answer.json()
        assert document.get("refresh_token") == (kept["refresh_token"] if access_type == "offline" else None)
        bearer = {"Authorization": f"Bearer {document['access_token']}"}
        assert (await nobody.get(f"/v2/{WEB}/manifests/latest", headers=bearer)).content == image.payload


async def test_a_short_token_does_not_become_a_long_one(nobody: httpx.AsyncClient) -> None:
    offline = {"offline_token": "true", "client_id": "docker"}
    answer = await nobody.get("/v2/token", params=offline, headers={"Authorization": "Bearer ada"})
    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()


async def test_a_password_grant_with_offline_access_gets_a_refresh_token(nobody: httpx.AsyncClient) -> None:
    form = {"grant_type": "password", "username": "ada", "password": "secret", "client_id": "containerd"}
    assert "refresh_token" not in (await nobody.post("/v2/token", data=form)).json()
    document = (await nobody.post("/v2/token", data=form | {"access_type": "offline", "refresh_token": "mine"})).json()
    assert document["refresh_token"] == "kept-ada"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"grant_type": "password", "username": "ada", "password": "secret", "access_type": "offline"}, 200),
        ({"grant_type": "refresh_token", "refresh_token": "ada"}, 200),
        ({"grant_type": "refresh_token", "refresh_token": "kept-ada"}, 200),
        ({"grant_type": "refresh_token", "refresh_token": "kept-nobody"}, 401),
        ({"grant_type": "password", "username": "ada", "password": "wrong"}, 401),
        ({"grant_type": "password"}, 401),
        ({"grant_type": "refresh_token"}, 401),
        ({"grant_type": "refresh_token", "refresh_token": "forged"}, 401),
        ({"grant_type": "client_credentials"}, 400),
        ({}, 400),
        ({"grant_type": "password", "username": "ada", "password": "secret", "service": "elsewhere"}, 400),
    ],
)
async def test_the_oauth2_variant(nobody: httpx.AsyncClient, form: dict[str, str], status: int) -> None:
    scope = f"repository:{WEB}:pull repository:{WEB}:push"
    answer = await nobody.post("/v2/token", data={"scope": scope, "client_id": "containerd", **form})
    assert answer.status_code == status
    if status == 200:
        document = answer.json()
        assert document["scope"] == f"repository:{WEB}:pull,push"
        bearer = {"Authorization": f"Bearer {document['access_token']}"}
        assert (await nobody.post(f"/v2/{WEB}/blobs/uploads/", headers=bearer)).status_code == 202


async def test_a_form_is_bounded(nobody: httpx.AsyncClient) -> None:
    assert (await nobody.post("/v2/token", content=b"a=" + b"x" * (64 << 10))).status_code == 413
    assert (await nobody.post("/v2/token", content=b"a=1&" * 200)).status_code == 400


async def test_a_registry_token_buys_no_wider_token(nobody: httpx.AsyncClient, credentials: Credentials) -> None:
    narrow = (await nobody.get(f"/v2/token?scope=repository:{WEB}:pull", headers=basic("ada"))).json()["token"]
    await nobody.get(f"/v2/token?scope=repository:{WEB}:*", headers={"Authorization": f"Bearer {narrow}"})
    [granted] = credentials.issued[-1][1]
    assert granted.actions == {"pull"}


@pytest.mark.parametrize(
    ("public_url", "host", "realm"),
    [
        ("https://images.example/", "evil.example", "https://images.example/v2/token"),
        (None, "127.0.0.1:5000", "http://127.0.0.1:5000/v2/token"),
        (None, '"><script>', "http://r.test/v2/token"),
    ],
)
async def test_the_realm_is_ours(
    local_registry: RegistryService, credentials: Credentials, public_url: str | None, host: str, realm: str
) -> None:
    options = Options(public_url=public_url)
    app = Starlette(routes=build_routes(local_registry, credentials, credentials, credentials, options))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://r.test") as client:
        answer = await client.get("/v2/", headers={"Host": host})
    assert f'realm="{realm}"' in answer.headers["WWW-Authenticate"]
