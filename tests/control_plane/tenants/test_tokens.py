"""Access tokens: what they say, and everything that is refused as one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from common.clock import ManualClock
from common.errors import Unauthenticated
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.sealing import SealBroken, SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants.access import Principal, RepositoryScope
from control_plane.tenants.jobs import SCHEDULES, build_handlers
from control_plane.tenants.model import SigningKeyRow, TenantSettings
from control_plane.tenants.tables import signing_keys
from control_plane.tenants.tenancy import Tenancy, build_tenancy
from control_plane.tenants.tokens import TokenExpired, TokenInvalid

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
AUDIENCE = "longshore:api"


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = token.split(".")
    return tuple(json.loads(urlsafe_b64decode(part + "==")) for part in (header, payload))  # type: ignore[return-value]


async def refuse(tenancy: Tenancy, token: str) -> None:
    with pytest.raises(TokenInvalid):
        await tenancy.auth.authenticate_bearer(token)


async def test_a_token_says_who_until_when_and_what_for(tenancy: Tenancy, clock: ManualClock) -> None:
    header, claims = decoded((await tenancy.sessions.login("ada", PASSWORD)).access_token)
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    assert claims["iss"] == "longshore"
    assert claims["aud"] == AUDIENCE
    assert claims["name"] == "ada"
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert claims["iat"] == int(clock.now().timestamp())
    assert claims["roles"] == ["acme:operator", "beta:viewer"]
    assert claims["permissions"] == [
        "image:pull",
        "image:push",
        "instance:exec",
        "instance:read",
        "instance:write",
        "machine:read",
        "machine:write",
        "platform:read",
        "tenant:read",
    ]
    assert len(claims["jti"]) == len(claims["sub"]) == 36


async def test_the_platform_admins_token_says_so(tenancy: Tenancy) -> None:
    await tenancy.accounts.set_state(ADMIN, "zoe", platform_admin=True)
    _, claims = decoded((await tenancy.sessions.login("zoe", PASSWORD)).access_token)
    assert claims["roles"] == ["platform:admin"]
    assert "platform:manage" in claims["permissions"]


async def test_others_can_check_tokens_with_our_public_keys(tenancy: Tenancy) -> None:
    token = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    keys = jwt.PyJWKSet.from_dict(await tenancy.signing_keys.jwks())
    key = keys[decoded(token)[0]["kid"]]
    claims = jwt.decode(
        token, key, algorithms=["RS256"], audience=AUDIENCE, options={"verify_exp": False, "verify_iat": False}
    )
    assert claims["name"] == "ada"
    assert set((await tenancy.signing_keys.jwks())["keys"][0]) == {"kid", "use", "alg", "kty", "n", "e"}


async def forge(tenancy: Tenancy, rsa_key: rsa.RSAPrivateKey, header: dict[str, Any], **claims: Any) -> str:
    """A token that we would have signed, with some things changed."""
    _, genuine = decoded((await tenancy.sessions.login("ada", PASSWORD)).access_token)
    known = (await tenancy.signing_keys.signing()).id
    changed = {name: value for name, value in (genuine | claims).items() if value is not None}
    return jwt.encode(changed, rsa_key, algorithm="RS256", headers={"kid": known, **header})


async def test_our_own_key_makes_tokens_that_pass(tenancy: Tenancy, rsa_key: rsa.RSAPrivateKey) -> None:
    assert (await tenancy.auth.authenticate_bearer(await forge(tenancy, rsa_key, {}))).name == "ada"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "longshore"},
        {"aud": "longshore:content"},
        {"aud": None},
        {"iss": "somebody"},
        {"iss": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e300},
        {"jti": None},
        {"sub": None},
        {"sub": 7},
        {"sub": "00000000-0000-7000-8000-000000000009"},
        {"gen": None},
        {"gen": "1"},
        {"gen": 0},
        {"gen": 2},
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    tenancy: Tenancy, rsa_key: rsa.RSAPrivateKey, claims: dict[str, Any]
) -> None:
    await refuse(tenancy, await forge(tenancy, rsa_key, {}, **claims))


async def test_a_token_of_another_key_is_refused_whatever_its_header_says(tenancy: Tenancy) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    for header in ({}, {"jwk": jwk}, {"kid": "unknown"}, {"kid": "../../etc/passwd"}, {"jku": "http://127.0.0.1/"}):
        await refuse(tenancy, await forge(tenancy, stranger, header))


async def test_other_algorithms_are_refused(tenancy: Tenancy, rsa_key: rsa.RSAPrivateKey) -> None:
    genuine = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    header, claims = decoded(genuine)
    public = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def part(value: object) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    unsigned = f"{part(header | {'alg': 'none'})}.{part(claims)}."
    # The classic: the public key, which everybody has, used as the secret of an HMAC.
    signed = f"{part(header | {'alg': 'HS256'})}.{part(claims)}"
    mac = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    swapped = f"{signed}.{urlsafe_b64encode(mac).decode().rstrip('=')}"
    other = jwt.encode(claims, rsa_key, algorithm="PS256", headers={"kid": header["kid"]})
    for token in (unsigned, swapped, other):
        await refuse(tenancy, token)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "x" * 20_000, "ä.ö.ü", "e30.e30.", "null.null.null"])
async def test_nonsense_is_refused(tenancy: Tenancy, token: str) -> None:
    await refuse(tenancy, token)


async def test_every_changed_character_is_noticed(tenancy: Tenancy) -> None:
    token = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    await tenancy.auth.authenticate_bearer(token)
    for position in range(0, len(token), 7):
        if token[position] == "." or position == len(token) - 1:
            continue
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        await refuse(tenancy, changed)


async def test_a_registry_token_is_no_access_token_and_the_reverse(tenancy: Tenancy) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    ada = await tenancy.auth.authenticate_bearer(login.access_token)
    issued = await tenancy.registry_tokens.issue(ada, "longshore", [RepositoryScope("acme/web", frozenset({"pull"}))])
    await refuse(tenancy, issued.token)
    with pytest.raises(TokenInvalid):
        await tenancy.registry_tokens.verify(login.access_token)


async def test_a_verified_token_still_expires(tenancy: Tenancy, clock: ManualClock) -> None:
    token = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    await tenancy.auth.authenticate_bearer(token)
    clock.tick(24 * 3600)
    with pytest.raises(TokenExpired):
        await tenancy.auth.authenticate_bearer(token)


async def test_after_a_rotation_new_tokens_have_the_new_key_and_old_ones_last_their_time(
    tenancy: Tenancy, clock: ManualClock, build: Callable[..., Tenancy], open_replica: Callable[[], Database]
) -> None:
    other = build(open_replica())
    old = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    await other.auth.authenticate_bearer(old)
    clock.tick(3600)
    key_id = await tenancy.signing_keys.rotate()
    new = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    assert decoded(new)[0]["kid"] == key_id != decoded(old)[0]["kid"]
    for replica in (tenancy, other):
        assert (await replica.auth.authenticate_bearer(new)).name == "ada"
        assert (await replica.auth.authenticate_bearer(old)).name == "ada"
        assert len((await replica.signing_keys.jwks())["keys"]) == 2
    assert decoded((await other.sessions.login("ada", PASSWORD)).access_token)[0]["kid"] == key_id
    clock.tick(25 * 3600)
    assert [key["kid"] for key in (await other.signing_keys.jwks())["keys"]] == [key_id]
    await tenancy.signing_keys.rotate()


async def test_a_key_is_rotated_when_it_is_old(tenancy: Tenancy, clock: ManualClock) -> None:
    handlers = build_handlers(tenancy.sessions, tenancy.signing_keys, tenancy.robots, tenancy.registry_logins)
    assert set(handlers) == {schedule.kind for schedule in SCHEDULES}
    first = (await tenancy.signing_keys.signing()).id
    clock.tick(89 * 24 * 3600)
    assert await tenancy.signing_keys.rotate_when_older(timedelta(days=90)) == first
    clock.tick(24 * 3600)
    second = await tenancy.signing_keys.rotate_when_older(timedelta(days=90))
    assert second != first
    assert await tenancy.signing_keys.rotate_when_older(timedelta(days=90)) == second


async def test_a_key_that_no_token_needs_any_more_is_forgotten(
    tenancy: Tenancy, clock: ManualClock, database: Database
) -> None:
    for _ in range(3):
        await tenancy.signing_keys.rotate()
        clock.tick(26 * 3600)
    async with database.reading() as connection:
        kept = (await connection.scalars(select(signing_keys.c.sequence).order_by(signing_keys.c.sequence))).all()
    assert list(kept) == [3, 4]


async def test_replicas_that_start_or_rotate_at_once_agree_on_one_key(
    build: Callable[..., Tenancy], open_replica: Callable[[], Database]
) -> None:
    replicas = [build(open_replica()).signing_keys for _ in range(3)]
    assert len({key.id for key in await asyncio.gather(*(replica.signing() for replica in replicas))}) == 1
    assert len(set(await asyncio.gather(*(replica.rotate() for replica in replicas)))) == 1


async def test_unknown_keys_do_not_cost_a_query_each(
    tenancy: Tenancy, database: Database, clock: ManualClock, rsa_key: rsa.RSAPrivateKey, count_queries: Any
) -> None:
    tokens = [await forge(tenancy, rsa_key, {"kid": f"unknown-{number}"}) for number in range(20)]
    with count_queries(database) as seen:
        for token in tokens:
            await refuse(tenancy, token)
    assert seen.count <= 1


async def test_private_keys_lie_sealed_in_the_database(
    tenancy: Tenancy, database: Database, clock: ManualClock, signing_row: SigningKeyRow
) -> None:
    await tenancy.signing_keys.rotate()
    async with database.reading() as connection:
        rows = (await connection.execute(select(signing_keys))).all()
    assert [b"PRIVATE" in row.sealed_private_pem for row in rows] == [False, False]
    stranger = SealedBox(KeyRing({b"x" * 8: b"2" * 32}))
    other = build_tenancy(database, clock, MemoryCache(clock), stranger, TenantSettings())
    with pytest.raises(SealBroken):
        await other.sessions.login("ada", PASSWORD)


async def test_nobody_is_let_in_by_a_token_alone(tenancy: Tenancy) -> None:
    for header in ("", "Bearer", "Bearer ", "Token x", "Basic", "Basic !!!", "Basic YWRh", "Digest a=b"):
        with pytest.raises(Unauthenticated):
            await tenancy.auth.authenticate(header)
