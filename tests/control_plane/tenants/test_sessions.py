"""Logging in, staying logged in, and being logged out for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from common.clock import ManualClock
from common.errors import Unauthenticated
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.tenants import token_store
from control_plane.tenants.credentials import CredentialsWrong
from control_plane.tenants.model import Login
from control_plane.tenants.sessions import RefreshTokenInvalid, RefreshTokenReused
from control_plane.tenants.tables import refresh_tokens, revoked_tokens
from control_plane.tenants.tenancy import Tenancy
from control_plane.tenants.tokens import TokenExpired

PASSWORD = "correct horse battery"
DAY = 24 * 3600


async def refused(tenancy: Tenancy, login: Login) -> bool:
    try:
        await tenancy.auth.authenticate_bearer(login.access_token)
    except Unauthenticated:
        return True
    return False


async def test_a_login_gives_a_day_and_can_be_renewed(tenancy: Tenancy, clock: ManualClock) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    assert login.expires_in == DAY
    assert (await tenancy.auth.authenticate_bearer(login.access_token)).name == "ada"
    clock.tick(DAY)
    with pytest.raises(TokenExpired):
        await tenancy.auth.authenticate_bearer(login.access_token)
    renewed = await tenancy.sessions.refresh(login.refresh_token)
    assert (await tenancy.auth.authenticate_bearer(renewed.access_token)).name == "ada"


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("", ""), ("ada\x00", PASSWORD)]
)
async def test_every_wrong_login_gets_the_same_answer(tenancy: Tenancy, name: str, password: str) -> None:
    with pytest.raises(CredentialsWrong) as refusal:
        await tenancy.sessions.login(name, password)
    assert str(refusal.value) == "the user name or the password is wrong (check both and try again)"


async def test_a_refresh_token_is_good_for_a_week_from_its_own_making(tenancy: Tenancy, clock: ManualClock) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    for _ in range(3):
        clock.tick(6 * DAY)
        login = await tenancy.sessions.refresh(login.refresh_token)
    clock.tick(7 * DAY)
    with pytest.raises(RefreshTokenInvalid):
        await tenancy.sessions.refresh(login.refresh_token)


async def test_a_refresh_token_used_twice_ends_its_whole_family(tenancy: Tenancy) -> None:
    first = await tenancy.sessions.login("ada", PASSWORD)
    second = await tenancy.sessions.refresh(first.refresh_token)
    third = await tenancy.sessions.refresh(second.refresh_token)
    elsewhere = await tenancy.sessions.login("ada", PASSWORD)
    with pytest.raises(RefreshTokenReused):
        await tenancy.sessions.refresh(first.refresh_token)
    assert [await refused(tenancy, login) for login in (first, second, third)] == [True, True, True]
    with pytest.raises(RefreshTokenInvalid):
        await tenancy.sessions.refresh(third.refresh_token)
    assert not await refused(tenancy, elsewhere)
    assert (await tenancy.sessions.refresh(elsewhere.refresh_token)).access_token


async def test_two_uses_at_once_are_two_uses(
    tenancy: Tenancy, build: Callable[..., Tenancy], open_replica: Callable[[], Database]
) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    other = build(open_replica())
    results = await asyncio.gather(
        tenancy.sessions.refresh(login.refresh_token),
        other.sessions.refresh(login.refresh_token),
        return_exceptions=True,
    )
    (winner,) = [result for result in results if isinstance(result, Login)]
    assert [type(result) for result in results if isinstance(result, Exception)] == [RefreshTokenReused]
    assert await refused(tenancy, winner)


@pytest.mark.parametrize(
    "text", ["", "lsr_", "lsr_x_y", "lsk_" + "0" * 32 + "_" + "0" * 64, "lsr_" + "0" * 32 + "_" + "0" * 64]
)
async def test_what_is_no_refresh_token_renews_nothing(tenancy: Tenancy, text: str) -> None:
    with pytest.raises(RefreshTokenInvalid):
        await tenancy.sessions.refresh(text)


async def test_a_guessed_secret_neither_renews_nor_ends_anything(tenancy: Tenancy) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    guessed = login.refresh_token[:-1] + ("0" if login.refresh_token[-1] != "0" else "1")
    with pytest.raises(RefreshTokenInvalid):
        await tenancy.sessions.refresh(guessed)
    await tenancy.sessions.logout(None, guessed)
    assert not await refused(tenancy, login)
    assert (await tenancy.sessions.refresh(login.refresh_token)).access_token


async def test_logging_out_with_either_token_ends_both(tenancy: Tenancy) -> None:
    for by_access in (True, False):
        login = await tenancy.sessions.login("ada", PASSWORD)
        elsewhere = await tenancy.sessions.login("ada", PASSWORD)
        await tenancy.auth.authenticate_bearer(login.access_token)
        if by_access:
            await tenancy.sessions.logout(login.access_token, None)
        else:
            await tenancy.sessions.logout(None, login.refresh_token)
        assert await refused(tenancy, login)
        with pytest.raises(RefreshTokenInvalid):
            await tenancy.sessions.refresh(login.refresh_token)
        assert not await refused(tenancy, elsewhere)


async def test_logging_out_twice_is_harmless_and_nobody_cannot_log_out(tenancy: Tenancy) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    await tenancy.sessions.logout(login.access_token, login.refresh_token)
    await tenancy.sessions.logout(login.access_token, login.refresh_token)
    await tenancy.sessions.logout("nonsense", "nonsense")
    with pytest.raises(Unauthenticated):
        await tenancy.sessions.logout(None, None)


async def test_a_login_that_ended_is_refused_by_every_replica(
    tenancy: Tenancy, build: Callable[..., Tenancy], open_replica: Callable[[], Database], clock: ManualClock
) -> None:
    other = build(open_replica())
    login = await tenancy.sessions.login("ada", PASSWORD)
    await other.auth.authenticate_bearer(login.access_token)
    await tenancy.sessions.logout(login.access_token, None)
    assert await refused(other, login)


async def test_very_many_ended_logins_are_all_remembered(
    tenancy: Tenancy, database: Database, clock: ManualClock
) -> None:
    ended, alive = [await tenancy.sessions.login("ada", PASSWORD) for _ in range(2)]
    user_id = (await tenancy.auth.authenticate_bearer(ended.access_token)).user_id
    async with database.transaction() as unit:
        for _ in range(300):
            expires_at = clock.now() + timedelta(hours=1)
            await token_store.revoke_access(unit.connection, new_id(clock), str(user_id), expires_at)
    await tenancy.sessions.logout(ended.access_token, None)
    assert await refused(tenancy, ended)
    assert not await refused(tenancy, alive)


async def test_rows_that_mean_nothing_any_more_are_forgotten(
    tenancy: Tenancy, database: Database, clock: ManualClock
) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    await tenancy.sessions.logout(login.access_token, None)
    kept = await tenancy.sessions.login("ada", PASSWORD)
    assert await tenancy.sessions.forget_expired() == 0
    clock.tick(DAY)
    assert await tenancy.sessions.forget_expired() == 1
    assert (await tenancy.sessions.refresh(kept.refresh_token)).access_token
    clock.tick(7 * DAY)
    await tenancy.sessions.forget_expired()
    async with database.reading() as connection:
        for table in (refresh_tokens, revoked_tokens):
            assert await connection.scalar(select(func.count()).select_from(table)) == 0
