"""A header becomes a principal: cheaply when it is right, slowly when it is guessed."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from common.clock import ManualClock
from common.errors import RateLimited, Unauthenticated
from control_plane.database import Database
from control_plane.tenants.access import ANONYMOUS, Principal, Role
from control_plane.tenants.credentials import CredentialsWrong
from control_plane.tenants.tenancy import Tenancy
from control_plane.tenants.throttle import LoginsThrottled

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


async def test_no_header_is_the_anonymous_principal(tenancy: Tenancy) -> None:
    assert await tenancy.auth.authenticate(None) is ANONYMOUS


async def test_every_kind_of_credential_speaks_for_its_user(tenancy: Tenancy) -> None:
    token = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    ada = await tenancy.auth.authenticate(f"Bearer {token}")
    key = (await tenancy.api_keys.create(ada, "ci")).text
    for header in (f"bearer  {token}", f"Bearer {key}", basic("ada", PASSWORD), basic("ada", key), basic("x", key)):
        principal = await tenancy.auth.authenticate(header)
        assert principal == ada
        assert principal.roles == {"acme": Role.OPERATOR, "beta": Role.VIEWER}
        assert principal.scopes is None


async def test_passwords_may_hold_colons_and_any_letter(tenancy: Tenancy) -> None:
    await tenancy.accounts.set_password(ADMIN, "zoe", "ein:zwei:drei ☂ 密码")
    assert (await tenancy.auth.authenticate(basic("zoe", "ein:zwei:drei ☂ 密码"))).name == "zoe"


@pytest.mark.parametrize("value", ["", "!!!", "YWRh", b64encode(b"\xff:\xff").decode(), b64encode(b":").decode()])
async def test_basic_credentials_that_cannot_be_read_are_refused(tenancy: Tenancy, value: str) -> None:
    with pytest.raises(Unauthenticated):
        await tenancy.auth.authenticate(f"Basic {value}")


async def test_checking_a_token_again_costs_no_query(
    tenancy: Tenancy, database: Database, clock: ManualClock, count_queries: Any
) -> None:
    token = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    with count_queries(database) as seen:
        for _ in range(50):
            await tenancy.auth.authenticate(f"Bearer {token}")
    assert seen.count == 0
    clock.tick(31)
    with count_queries(database) as seen:
        for _ in range(50):
            await tenancy.auth.authenticate(f"Bearer {token}")
    assert seen.count == 4


async def test_another_replica_checks_a_token_without_a_query(
    tenancy: Tenancy,
    database: Database,
    build: Callable[..., Tenancy],
    open_replica: Callable[[], Database],
    count_queries: Any,
) -> None:
    token = (await tenancy.sessions.login("ada", PASSWORD)).access_token
    replica = open_replica()
    other = build(replica)
    await other.signing_keys.signing()
    with count_queries(replica) as seen:
        await other.auth.authenticate(f"Bearer {token}")
    assert seen.count == 0


async def test_a_right_password_is_hashed_once_a_minute(
    tenancy: Tenancy, database: Database, clock: ManualClock, count_queries: Any
) -> None:
    def lookups(statements: list[str]) -> int:
        return sum("password_hash" in statement for statement in statements)

    with count_queries(database) as seen:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(tenancy.auth.authenticate(basic("ada", PASSWORD)))
    assert lookups(seen.statements) == 1
    clock.tick(61)
    with count_queries(database) as seen:
        await tenancy.auth.authenticate(basic("ada", PASSWORD))
    assert lookups(seen.statements) == 1


async def test_a_remembered_password_opens_nothing_for_a_similar_one(tenancy: Tenancy) -> None:
    await tenancy.auth.authenticate(basic("ada", PASSWORD))
    for name, password in (("ada", PASSWORD + " "), ("zoe", PASSWORD + "x"), ("ad", "a:" + PASSWORD), ("ada", "")):
        with pytest.raises(CredentialsWrong):
            await tenancy.auth.authenticate(basic(name, password))


async def test_nothing_that_a_password_could_be_guessed_from_is_kept(tenancy: Tenancy, cache: Any) -> None:
    await tenancy.auth.authenticate(basic("ada", PASSWORD))
    kept = repr(cache._entries)
    assert PASSWORD not in kept
    assert "argon2" not in kept


async def test_roles_are_fresh_when_this_process_changes_them(tenancy: Tenancy) -> None:
    header = f"Bearer {(await tenancy.sessions.login('ada', PASSWORD)).access_token}"
    await tenancy.auth.authenticate(header)
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    assert (await tenancy.auth.authenticate(header)).roles["acme"] is Role.ADMIN
    await tenancy.tenants.remove_member(ADMIN, "beta", "ada")
    assert set((await tenancy.auth.authenticate(header)).roles) == {"acme"}


async def test_roles_are_at_most_thirty_seconds_old_when_another_cache_kept_them(
    tenancy: Tenancy,
    build: Callable[..., Tenancy],
    open_replica: Callable[[], Database],
    clock: ManualClock,
    cache: Any,
) -> None:
    other = build(open_replica(), type(cache)(clock))
    header = f"Bearer {(await tenancy.sessions.login('ada', PASSWORD)).access_token}"
    await other.auth.authenticate(header)
    await tenancy.tenants.remove_member(ADMIN, "beta", "ada")
    clock.tick(30)
    assert set((await other.auth.authenticate(header)).roles) == {"acme"}


async def test_ten_failures_make_a_name_wait_and_then_it_may_try_again(tenancy: Tenancy, clock: ManualClock) -> None:
    for number in range(10):
        with pytest.raises(CredentialsWrong):
            await tenancy.sessions.login("ada", "wrong", f"192.0.2.{number}")
    with pytest.raises(LoginsThrottled) as refusal:
        await tenancy.sessions.login("ada", PASSWORD, "198.51.100.1")
    assert isinstance(refusal.value, RateLimited)
    assert refusal.value.retry_after_seconds == 300
    assert (await tenancy.sessions.login("zoe", PASSWORD, "192.0.2.1")).access_token
    clock.tick(301)
    assert (await tenancy.sessions.login("ada", PASSWORD, "198.51.100.1")).access_token


async def test_ten_failures_make_an_address_wait_whatever_names_it_tries(tenancy: Tenancy) -> None:
    for number in range(10):
        with pytest.raises(CredentialsWrong):
            await tenancy.auth.authenticate(basic(f"user{number}", "wrong"), "192.0.2.1")
    with pytest.raises(LoginsThrottled):
        await tenancy.sessions.login("ada", PASSWORD, "192.0.2.1")
    assert (await tenancy.sessions.login("ada", PASSWORD, "192.0.2.2")).access_token


async def test_unknown_names_wait_like_known_ones(tenancy: Tenancy) -> None:
    for _ in range(10):
        with pytest.raises(CredentialsWrong):
            await tenancy.sessions.login("nobody", "wrong")
    with pytest.raises(LoginsThrottled):
        await tenancy.sessions.login("nobody", "wrong")


async def test_an_unknown_address_is_not_one_big_client(tenancy: Tenancy) -> None:
    for number in range(12):
        with pytest.raises(CredentialsWrong):
            await tenancy.sessions.login(f"user{number}", "wrong", "")
    assert (await tenancy.sessions.login("ada", PASSWORD, "")).access_token


async def test_a_right_password_forgets_the_names_failures_but_not_the_addresss(tenancy: Tenancy) -> None:
    for _ in range(3):
        for _ in range(3):
            with pytest.raises(CredentialsWrong):
                await tenancy.sessions.login("ada", "wrong", "192.0.2.1")
        await tenancy.sessions.login("ada", PASSWORD, "192.0.2.1")
    with pytest.raises(CredentialsWrong):
        await tenancy.sessions.login("zoe", "wrong", "192.0.2.1")
    with pytest.raises(LoginsThrottled):
        await tenancy.sessions.login("ada", PASSWORD, "192.0.2.1")
    assert (await tenancy.sessions.login("ada", PASSWORD, "192.0.2.2")).access_token


async def test_a_crowd_of_guesses_gets_hardly_past_the_limit(tenancy: Tenancy) -> None:
    results = await asyncio.gather(
        *(tenancy.sessions.login("ada", f"guess {number}", "192.0.2.1") for number in range(40)),
        return_exceptions=True,
    )
    looked_at = [result for result in results if isinstance(result, CredentialsWrong)]
    # Ten, and at most one more for each of the other three slots.
    assert 10 <= len(looked_at) <= 13
    assert len(looked_at) + sum(isinstance(result, LoginsThrottled) for result in results) == 40


async def test_without_the_cache_everything_goes_on(tenancy: Tenancy, cache: Any) -> None:
    cache.away = True
    for _ in range(12):
        with pytest.raises(CredentialsWrong):
            await tenancy.sessions.login("ada", "wrong", "192.0.2.1")
    login = await tenancy.sessions.login("ada", PASSWORD, "192.0.2.1")
    ada = await tenancy.auth.authenticate(f"Bearer {login.access_token}")
    assert ada == await tenancy.auth.authenticate(basic("ada", PASSWORD))
    key = await tenancy.api_keys.create(ada, "ci")
    assert await tenancy.auth.authenticate(f"Bearer {key.text}") == ada
    await tenancy.api_keys.revoke(ada, key.key.id)
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    await tenancy.sessions.logout(login.access_token, None)
    for header in (f"Bearer {login.access_token}", f"Bearer {key.text}"):
        with pytest.raises(Unauthenticated):
            await tenancy.auth.authenticate(header)
