"""The classes of holes that registries had, each tried on the wire with real tenants, passwords, keys and tokens.

Advisories are named where a class is known by one; they are in other registries, not in ours.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.cache.memory import MemoryCache
from control_plane.registry.grants import GranteeKind, Level, Visibility
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.tenants.access import RobotScope, Role
from tests.control_plane.registry.centre import (
    ADMIN,
    PASSWORD,
    PAYLOAD,
    SECRET,
    WEB,
    Centre,
    basic,
    bearer,
    open_centre,
)
from tests.control_plane.tenants.conftest import counted_queries


@pytest.fixture(scope="module")
def signing_key() -> rsa.RSAPrivateKey:
    """Made once: making one takes longer than most tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def centre(
    sqlite_url: str, clock: ManualClock, cache: MemoryCache, blobs: MemoryBlobStore, signing_key: rsa.RSAPrivateKey
) -> AsyncIterator[Centre]:
    async with open_centre(sqlite_url, clock, cache, blobs, signing_key) as opened:
        yield opened


# -- reading across repositories: GHSA-55r9-5mx9-qq7r, Gitea's mount by `from`, pulp's "mount without permission" --


async def test_a_foreign_blob_is_not_mounted(centre: Centre) -> None:
    bob = centre.basic("bob")
    for source in (f"&from={WEB}", "", "&from=birch/x", "&from=../acme/web", "&from=acme%2Fweb"):
        answer = await centre.client.post(f"/v2/birch/x/blobs/uploads/?mount={Digest.of(SECRET)}{source}", headers=bob)
        assert answer.status_code == 202, "an ordinary upload, as if the blob were nowhere"
    assert (await centre.client.head(f"/v2/birch/x/blobs/{Digest.of(SECRET)}", headers=bob)).status_code == 404


async def test_a_token_for_pushing_mounts_nothing_that_it_may_not_pull(centre: Centre) -> None:
    await centre.tenancy.tenants.put_member(ADMIN, "acme", "bob", Role.VIEWER)
    narrow = await centre.token("bob", "repository:birch/x:pull,push")
    path = f"/v2/birch/x/blobs/uploads/?mount={Digest.of(SECRET)}&from={WEB}"
    answer = await centre.client.post(path, headers=narrow)
    assert answer.status_code == 401
    assert f"repository:{WEB}:pull" in answer.headers["WWW-Authenticate"]


async def test_dedupe_tells_nothing_and_gives_nothing(centre: Centre) -> None:
    bob, digest = centre.basic("bob"), Digest.of(SECRET)
    for path in (f"/v2/{WEB}/blobs/{digest}", f"/v2/birch/x/blobs/{digest}", f"/v2/{WEB}/manifests/1"):
        for method in ("GET", "HEAD"):
            assert (await centre.client.request(method, path, headers=bob)).status_code == 404
    # A manifest that only names the blob makes it no more readable.
    headers = {**bob, "Content-Type": OCI_MANIFEST}
    pushed = await centre.client.put("/v2/birch/x/manifests/1", content=PAYLOAD, headers=headers)
    assert pushed.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    # Claiming the digest without the bytes ends the upload.
    wrong = await centre.client.post(f"/v2/birch/x/blobs/uploads/?digest={digest}", content=b"guess", headers=bob)
    assert wrong.json()["errors"][0]["code"] == "DIGEST_INVALID"
    assert (await centre.client.head(f"/v2/birch/x/blobs/{digest}", headers=bob)).status_code == 404


async def test_an_upload_belongs_to_who_began_it(centre: Centre) -> None:
    begun = await centre.client.post(f"/v2/{WEB}/blobs/uploads/", headers=centre.basic("ada"))
    upload = begun.headers["Location"].rsplit("/", 1)[1]
    await centre.tenancy.accounts.create(ADMIN, "otto", PASSWORD)
    await centre.tenancy.tenants.put_member(ADMIN, "acme", "otto", Role.OPERATOR)
    for headers, repository, status in (
        (centre.basic("bob"), "birch/x", 404),
        (centre.basic("bob"), WEB, 403),
        (basic("otto", PASSWORD), WEB, 404),
        ({}, WEB, 401),
        (centre.basic("ada"), "acme/other", 404),
    ):
        for method, query in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("PUT", f"?digest={Digest.of(b'x')}")):
            path = f"/v2/{repository}/blobs/uploads/{upload}{query}"
            answer = await centre.client.request(method, path, content=b"x", headers=headers)
            assert answer.status_code == status, (method, repository)


async def test_what_was_deleted_is_not_readable_again(centre: Centre) -> None:
    """CVE-2026-35172."""
    ada, digest = centre.basic("ada"), Digest.of(SECRET)
    assert (await centre.client.get(f"/v2/{WEB}/blobs/{digest}", headers=ada)).content == SECRET
    removed = await centre.client.delete(f"/v2/{WEB}/manifests/{Digest.of(PAYLOAD)}", headers=ada)
    assert removed.status_code == 202
    assert (await centre.client.delete(f"/v2/{WEB}/blobs/{digest}", headers=ada)).status_code == 202
    for path in (f"blobs/{digest}", f"manifests/{Digest.of(PAYLOAD)}", "manifests/1"):
        for method in ("GET", "HEAD"):
            assert (await centre.client.request(method, f"/v2/{WEB}/{path}", headers=ada)).status_code == 404


# -- an oracle of existence --


async def test_what_one_may_not_see_looks_like_what_does_not_exist(centre: Centre) -> None:
    async def answers(headers: dict[str, str], repository: str) -> list[tuple[int, str, str]]:
        seen = []
        for method, path in (
            ("GET", "manifests/1"),
            ("HEAD", "manifests/1"),
            ("GET", f"blobs/{Digest.of(SECRET)}"),
            ("GET", "tags/list"),
            ("GET", f"referrers/{Digest.of(PAYLOAD)}"),
            ("DELETE", "manifests/1"),
            ("POST", "blobs/uploads/"),
        ):
            answer = await centre.client.request(method, f"/v2/{repository}/{path}", headers=headers)
            challenge = answer.headers.get("WWW-Authenticate", "")
            seen.append((answer.status_code, (answer.text + challenge).replace(repository, "?"), method))
        for path in ("access", "grants"):
            answer = await centre.client.get(f"/api/v1/repositories/{repository}/-/{path}", headers=headers)
            detail = {key: value for key, value in answer.json().items() if key in ("code", "detail")}
            seen.append((answer.status_code, json.dumps(detail).replace(repository, "?"), path))
        return seen

    for headers in (centre.basic("bob"), {}, bearer("forged")):
        real = await answers(headers, WEB)
        assert real == await answers(headers, "acme/absent")
        assert real == await answers(headers, "nobody/web")


# -- tokens: CVE-2025-24976 and RFC 8725 --


async def test_a_token_opens_what_it_was_made_for_only(centre: Centre) -> None:
    await centre.registry.uploads.push_whole(
        await centre.tenancy.auth.authenticate_bearer(centre.keys["ada"]), "acme/other", Digest.of(b"x"), _bytes(b"x")
    )
    token = await centre.token("ada", "repository:acme/other:pull")
    assert await centre.pull(token) == 401
    assert (await centre.client.get(f"/v2/acme/other/blobs/{Digest.of(b'x')}", headers=token)).status_code == 200
    assert (await centre.client.post("/v2/acme/other/blobs/uploads/", headers=token)).status_code == 401
    # Nor is it a key to the API.
    assert (await centre.client.get("/api/v1/tenants", headers=token)).status_code == 401
    # And an access token's audience is the API; the registry takes it as the login it is, not as a registry token.
    login = (await centre.tenancy.sessions.login("bob", PASSWORD)).access_token
    assert await centre.pull(bearer(login)) == 404


async def test_no_forged_token_passes(centre: Centre, clock: ManualClock) -> None:
    genuine = (await centre.token("ada", f"repository:{WEB}:pull"))["Authorization"].removeprefix("Bearer ")
    header = jwt.get_unverified_header(genuine)
    claims = jwt.decode(genuine, options={"verify_signature": False})
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public_key = await centre.tenancy.signing_keys.find(header["kid"])
    assert public_key is not None
    public = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key()))

    def signed(header_more: dict[str, Any], **more: Any) -> str:
        return jwt.encode({**claims, **more}, own, "RS256", headers={"kid": header["kid"], **header_more})

    forged = {
        "alg none": _compact({"alg": "none", "kid": header["kid"]}, claims, b""),
        "alg None": _compact({"alg": "None", "kid": header["kid"]}, claims, b""),
        "HS256 with the public key": _hs256({"alg": "HS256", "kid": header["kid"]}, claims, public),
        "another key under our kid": signed({}),
        "its own key in the header": signed({"jwk": jwk}),
        "a key to be fetched": signed({"jku": "http://evil.test/jwks.json", "x5u": "http://evil.test/x"}),
        "a kid that is a path": signed({"kid": "../../../dev/null"}),
        "a kid that is a query": signed({"kid": "x' OR '1'='1"}),
        "another payload": ".".join([genuine.split(".")[0], _part({**claims, "name": "root"}), genuine.split(".")[2]]),
        "no signature": genuine.rpartition(".")[0] + ".",
        "too long": genuine + "x" * 20_000,
    }
    for what, token in forged.items():
        assert await centre.pull(bearer(token)) == 401, what
    assert await centre.pull(bearer(genuine)) == 200
    clock.tick(15 * 60)
    assert await centre.pull(bearer(genuine)) == 401


async def test_a_token_of_ours_for_something_else_is_refused(centre: Centre) -> None:
    genuine = (await centre.token("ada", f"repository:{WEB}:pull"))["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(genuine, options={"verify_signature": False})
    key = await centre.tenancy.signing_keys.signing()
    changes: list[dict[str, Any]] = [{"aud": "longshore:api"}, {"aud": ["other"]}, {"iss": "other"}, {"exp": "soon"}]
    for change in changes:
        token = jwt.encode({**claims, **change}, key.private, "RS256", headers={"kid": key.id})
        assert await centre.pull(bearer(token)) == 401, change


# -- what was taken away: GHSA-c9p4-xwr9-rfhx --


async def test_what_was_taken_away_is_gone_for_tokens_that_live(centre: Centre) -> None:
    tenancy, grants = centre.tenancy, centre.grants
    await grants.put(ADMIN, WEB, GranteeKind.USER, "bob", Level.READ)
    by_grant = await centre.token("bob", f"repository:{WEB}:pull")
    assert await centre.pull(by_grant) == 200
    await grants.remove(ADMIN, WEB, GranteeKind.USER, "bob")
    assert await centre.pull(by_grant) == 404

    await tenancy.tenants.put_member(ADMIN, "acme", "bob", Role.VIEWER)
    by_role = await centre.token("bob", f"repository:{WEB}:pull")
    assert await centre.pull(by_role) == 200
    await tenancy.groups.create(ADMIN, "acme", "crew")
    await tenancy.groups.put_member(ADMIN, "acme", "crew", "bob")
    await grants.put(ADMIN, WEB, GranteeKind.GROUP, "crew", Level.WRITE)
    by_group = await centre.token("bob", f"repository:{WEB}:pull,push")
    uploads = f"/v2/{WEB}/blobs/uploads/"
    assert (await centre.client.post(uploads, headers=by_group)).status_code == 202
    await tenancy.groups.remove_member(ADMIN, "acme", "crew", "bob")
    assert (await centre.client.post(uploads, headers=by_group)).status_code == 403
    await tenancy.tenants.remove_member(ADMIN, "acme", "bob")
    assert await centre.pull(by_role) == 404

    robot = await tenancy.robots.create(ADMIN, "acme", "ci", [RobotScope("acme/*", frozenset({"pull"}))])
    centre.keys["robot/acme/ci"] = robot.text
    by_robot = await centre.token("robot/acme/ci", f"repository:{WEB}:pull")
    assert await centre.pull(by_robot) == 200
    await tenancy.robots.delete(ADMIN, "acme", "ci")
    assert await centre.pull(by_robot) == 401

    await grants.set_visibility(ADMIN, WEB, Visibility.PUBLIC)
    answer = await centre.client.get(f"/v2/token?service=longshore&scope=repository:{WEB}:pull,push")
    anonymous = bearer(answer.json()["token"])
    assert await centre.pull(anonymous) == 200
    assert (await centre.client.post(uploads, headers=anonymous)).status_code == 401
    await grants.set_visibility(ADMIN, WEB, Visibility.PRIVATE)
    assert await centre.pull(anonymous) == 401


async def test_an_upload_outlives_its_token_but_not_the_right_to_push(centre: Centre, clock: ManualClock) -> None:
    """Clients cannot send a stream of hours twice because their fifteen minutes were over."""
    token = await centre.token("bob", "repository:birch/big:pull,push")
    begun = await centre.client.post("/v2/birch/big/blobs/uploads/", headers=token)
    location = begun.headers["Location"]
    clock.tick(3 * 3600)
    assert (await centre.client.patch(location, content=b"half", headers=token)).status_code == 202
    # A new upload, and everything else, needs a new token.
    assert (await centre.client.post("/v2/birch/big/blobs/uploads/", headers=token)).status_code == 401
    fresh = await centre.token("bob", "repository:birch/big:pull,push")
    assert (await centre.client.get(location, headers=fresh)).headers["Range"] == "0-3"
    await centre.tenancy.tenants.put_member(ADMIN, "birch", "ada", Role.ADMIN)
    await centre.tenancy.tenants.remove_member(ADMIN, "birch", "bob")
    for headers in (token, fresh):
        assert (await centre.client.patch(location, content=b"x", headers=headers)).status_code == 403
    await centre.tenancy.tenants.put_member(ADMIN, "birch", "bob", Role.OPERATOR)
    path = f"{location}?digest={Digest.of(b'half')}"
    assert (await centre.client.put(path, headers=token)).status_code == 201
    clock.tick(25 * 3600)
    assert (await centre.client.put(path, headers=token)).status_code == 401


# -- and none of it costs a pull anything --


async def test_a_pull_that_was_made_before_asks_the_database_nothing(centre: Centre) -> None:
    await centre.grants.put(ADMIN, WEB, GranteeKind.USER, "bob", Level.READ)
    robot = await centre.tenancy.robots.create(ADMIN, "acme", "ci", [RobotScope("acme/*", frozenset({"pull"}))])
    centre.keys["robot/acme/ci"] = robot.text
    path = f"/v2/{WEB}/manifests/{Digest.of(PAYLOAD)}"
    for name in ("ada", "bob", "robot/acme/ci"):
        token = await centre.token(name, f"repository:{WEB}:pull")
        assert (await centre.client.get(path, headers=token)).status_code == 200
        with counted_queries(centre.database) as seen:
            assert (await centre.client.get(path, headers=token)).status_code == 200
        assert seen.statements == [], name


# -- creating is not updating: CVE-2026-31801; switches that are not looked at: CVE-2026-41888 --


async def test_deleting_needs_its_own_right_for_tags_and_digests_alike(centre: Centre) -> None:
    scopes = [RobotScope("acme/*", frozenset({"pull", "push"}))]
    centre.keys["robot/acme/ci"] = (await centre.tenancy.robots.create(ADMIN, "acme", "ci", scopes)).text
    for headers in (
        centre.basic("robot/acme/ci"),
        await centre.token("robot/acme/ci", f"repository:{WEB}:pull,push,delete"),
    ):
        for item in ("manifests/1", f"manifests/{Digest.of(PAYLOAD)}", f"blobs/{Digest.of(SECRET)}"):
            assert (await centre.client.delete(f"/v2/{WEB}/{item}", headers=headers)).status_code == 403
    assert await centre.pull(centre.basic("ada")) == 200


# -- ids of others in the management API: Harbor CVE-2022-31667, -31669, -31670, CVE-2024-22278; Quay CVE-2025-4374 --


async def test_another_tenants_robot_is_invisible_on_every_route(centre: Centre) -> None:
    scopes = [RobotScope("acme/*", frozenset({"pull"}))]
    made = await centre.tenancy.robots.create(ADMIN, "acme", "ci", scopes)
    key_id, bob = made.robot.keys[0].id, centre.basic("bob")
    body = {"name": "x", "scopes": [{"repository": "acme/*", "actions": ["pull"]}]}
    for tenant in ("acme", "birch"):
        of = f"/api/v1/tenants/{tenant}/robots"
        for method, path, sent in (
            ("GET", f"{of}/ci", None),
            ("PATCH", f"{of}/ci", {"disabled": True}),
            ("DELETE", f"{of}/ci", None),
            ("POST", f"{of}/ci/keys", {}),
            ("DELETE", f"{of}/ci/keys/{key_id}", None),
        ):
            answer = await centre.client.request(method, path, json=sent, headers=bob)
            assert answer.status_code == 404, (method, path)
    assert (await centre.client.get("/api/v1/tenants/acme/robots", headers=bob)).status_code == 404
    assert (await centre.client.post("/api/v1/tenants/acme/robots", json=body, headers=bob)).status_code == 404
    # A robot of one's own with a pattern in a foreign tenant is made, and opens nothing there.
    mine = await centre.client.post("/api/v1/tenants/birch/robots", json=body, headers=bob)
    assert mine.status_code == 201
    assert await centre.pull(bearer(mine.json()["data"]["key"])) == 404
    await centre.tenancy.auth.authenticate_bearer(made.text)


async def test_a_robot_makes_nothing_more_of_itself(centre: Centre) -> None:
    scopes = [RobotScope("acme/*", frozenset({"pull", "push", "delete"}))]
    robot = bearer((await centre.tenancy.robots.create(ADMIN, "acme", "ci", scopes)).text)
    for method, path, body in (
        ("PATCH", f"/api/v1/repositories/{WEB}/-/access", {"visibility": "public"}),
        ("PUT", f"/api/v1/repositories/{WEB}/-/grants/user/bob", {"level": "read"}),
        (
            "POST",
            "/api/v1/tenants/acme/robots",
            {"name": "y", "scopes": [{"repository": "acme/*", "actions": ["pull"]}]},
        ),
        ("POST", "/api/v1/api-keys", {"name": "x"}),
        ("POST", "/api/v1/auth/password", {"current_password": "x", "new_password": "another good one"}),
        ("GET", "/api/v1/auth/me", None),
        ("GET", "/api/v1/tenants", None),
        ("GET", "/api/v1/users", None),
    ):
        answer = await centre.client.request(method, path, json=body, headers=robot)
        assert answer.status_code in (403, 404), (method, path, answer.text)
    assert await centre.pull(robot) == 200


# -- lists without end: CVE-2023-2253 --


async def test_a_huge_page_is_a_bounded_one(centre: Centre) -> None:
    for path in ("/v2/_catalog", f"/v2/{WEB}/tags/list"):
        for n in ("1000000000", "999999999999999999"):
            assert (await centre.client.get(f"{path}?n={n}", headers=centre.basic("ada"))).status_code == 200
        assert (await centre.client.get(f"{path}?n=-1", headers=centre.basic("ada"))).status_code == 400


async def test_a_catalogue_shows_what_may_be_pulled_and_nothing_to_nobody(centre: Centre) -> None:
    async def names(headers: dict[str, str]) -> list[str]:
        answer = await centre.client.get("/v2/_catalog", headers=headers)
        return list(answer.json()["repositories"])

    assert await names(centre.basic("bob")) == []
    assert await names(await centre.token("ada", "registry:catalog:*")) == [WEB]
    assert await names(await centre.token("bob", "registry:catalog:*")) == []
    assert await names(await centre.token("ada", "repository:acme/other:pull")) == []
    await centre.grants.set_visibility(ADMIN, WEB, Visibility.PUBLIC)
    assert await names(centre.basic("bob")) == [WEB]
    assert (await centre.client.get("/v2/_catalog")).status_code == 401
    anonymous = await centre.client.get(f"/v2/token?scope=registry:catalog:*&scope=repository:{WEB}:pull")
    listed = await centre.client.get("/v2/_catalog", headers=bearer(anonymous.json()["token"]))
    assert listed.status_code == 401


# -- paths and names that are more than names: CVE-2026-48769 --


PATHS = [
    "/v2/acme/../birch/x/manifests/1",
    "/v2/acme/%2e%2e/birch/manifests/1",
    "/v2/acme//web/manifests/1",
    "/v2/ACME/web/manifests/1",
    "/v2/acme/web/blobs/sha256:../../../../etc/passwd",
    "/v2/acme/web/blobs/sha256:%2e%2e%2f%2e%2e",
    "/v2/acme/web/blobs/sha256:" + "A" * 64,
    "/v2/acme/web/blobs/sha256:" + "a" * 63,
    "/v2/acme/web/blobs/md5:" + "a" * 32,
    "/v2/acme/web/blobs/uploads/..%2f..%2fetc",
    "/v2/acme/w\u00e9b/manifests/1",
    "/v2/acme/web%00/manifests/1",
    "/v2/acme/" + "a" * 300 + "/manifests/1",
]


async def test_a_name_is_never_a_path(centre: Centre) -> None:
    for path in PATHS:
        assert (await centre.client.get(path, headers=centre.basic("ada"))).status_code in (400, 404), path


# -- guessing: the token endpoint is a login --


async def test_guessing_at_the_token_endpoint_is_slowed_down(centre: Centre, clock: ManualClock) -> None:
    clock.tick(61)  # what was right is remembered for a minute
    key = f"lsr_{'0' * 32}_{'0' * 64}"

    async def tried(password: str, name: str = "ada") -> int:
        return (await centre.client.get("/v2/token?service=longshore", headers=basic(name, password))).status_code

    assert await asyncio.gather(*(tried(key, "robot/acme/ci") for _ in range(10))) == [401] * 10
    assert await tried(key, "robot/acme/ci") == 429
    statuses = [await tried("wrong") for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD, "service": "longshore"}
    refused = await centre.client.post("/v2/token", data=form)
    assert (refused.status_code, "retry-after" in refused.headers) == (429, True)


async def _bytes(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _compact(header: dict[str, Any], claims: dict[str, Any], signature: bytes) -> str:
    return f"{_part(header)}.{_part(claims)}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _hs256(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    unsigned = f"{_part(header)}.{_part(claims)}"
    signature = hmac.digest(secret, unsigned.encode(), "sha256")
    return _compact(header, claims, signature)
