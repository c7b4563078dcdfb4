"""Users: the first admin is made once, and whatever changes a user ends what was issued to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import bcrypt
import pytest
from sqlalchemy import update

from common.errors import Denied, Unauthenticated
from control_plane.database import Database
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.accounts import LastPlatformAdmin, UserExists, UserUnknown
from control_plane.tenants.credentials import CredentialsWrong
from control_plane.tenants.model import SigningKeyRow, UserNameInvalid
from control_plane.tenants.passwords import PasswordWeak
from control_plane.tenants.sessions import RefreshTokenInvalid
from control_plane.tenants.tables import users
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.paging import PageRequest

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)


async def bearer(tenancy: Tenancy, name: str, password: str = PASSWORD) -> str:
    return f"Bearer {(await tenancy.sessions.login(name, password)).access_token}"


async def test_the_first_start_makes_an_admin_and_tells_its_password_once(
    build: Callable[..., Tenancy], signing_row: SigningKeyRow
) -> None:
    tenancy = build()
    password = await tenancy.accounts.ensure_platform_admin()
    assert password is not None
    assert len(password) >= 20
    assert await tenancy.accounts.ensure_platform_admin() is None
    assert await build().accounts.ensure_platform_admin() is None
    principal = await tenancy.auth.authenticate(await bearer(tenancy, "admin", password))
    assert principal.platform_admin


async def test_of_two_replicas_that_start_at_once_one_tells_the_password(
    build: Callable[..., Tenancy], open_replica: Callable[[], Database], signing_row: SigningKeyRow
) -> None:
    replicas = [build(), build(open_replica()), build(open_replica())]
    told = await asyncio.gather(*(replica.accounts.ensure_platform_admin() for replica in replicas))
    (password,) = [each for each in told if each is not None]
    for replica in replicas:
        assert (await replica.auth.authenticate_basic("admin", password)).platform_admin


async def test_a_lost_admin_password_can_be_replaced_at_the_machine(
    build: Callable[..., Tenancy], signing_row: SigningKeyRow
) -> None:
    tenancy = build()
    lost = await tenancy.accounts.ensure_platform_admin()
    assert lost is not None
    session = await bearer(tenancy, "admin", lost)
    found = await tenancy.accounts.reset_platform_admin()
    assert (await tenancy.auth.authenticate_basic("admin", found)).platform_admin
    with pytest.raises(Unauthenticated):
        await tenancy.auth.authenticate_basic("admin", lost)
    with pytest.raises(Unauthenticated):
        await tenancy.auth.authenticate(session)


async def test_the_reset_makes_the_admin_if_there_is_none(
    build: Callable[..., Tenancy], signing_row: SigningKeyRow
) -> None:
    tenancy = build()
    password = await tenancy.accounts.reset_platform_admin()
    assert (await tenancy.auth.authenticate_basic("admin", password)).platform_admin
    assert await tenancy.accounts.ensure_platform_admin() is None


async def test_only_the_platform_admin_makes_and_sees_users(tenancy: Tenancy) -> None:
    ada = await tenancy.auth.authenticate(await bearer(tenancy, "ada"))
    for attempt in (
        tenancy.accounts.create(ada, "eve", PASSWORD),
        tenancy.accounts.list(ada, PageRequest()),
        tenancy.accounts.get(ada, "zoe"),
        tenancy.accounts.set_state(ada, "zoe", disabled=True),
        tenancy.accounts.set_password(ada, "zoe", PASSWORD + "2"),
    ):
        with pytest.raises(Denied):
            await attempt


async def test_a_name_is_taken_once(tenancy: Tenancy) -> None:
    with pytest.raises(UserExists):
        await tenancy.accounts.create(ADMIN, "ada", "another password")
    assert (await tenancy.auth.authenticate_basic("ada", PASSWORD)).name == "ada"


async def test_bad_names_and_weak_passwords_make_no_user(tenancy: Tenancy) -> None:
    with pytest.raises(UserNameInvalid):
        await tenancy.accounts.create(ADMIN, "Eve Adams", PASSWORD)
    with pytest.raises(PasswordWeak):
        await tenancy.accounts.create(ADMIN, "eve", "short")
    with pytest.raises(PasswordWeak):
        await tenancy.accounts.create(ADMIN, "eve-adams", "Eve-Adams")
    listed = await tenancy.accounts.list(ADMIN, PageRequest())
    assert [user.name for user in listed.items] == ["ada", "zoe"]


async def test_a_disabled_user_is_out_at_once_and_back_when_enabled(tenancy: Tenancy) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    made = await tenancy.api_keys.create(await tenancy.auth.authenticate_bearer(login.access_token), "ci")
    await tenancy.auth.authenticate_basic("ada", PASSWORD)
    await tenancy.accounts.set_state(ADMIN, "ada", disabled=True)
    for attempt in (
        tenancy.auth.authenticate_bearer(login.access_token),
        tenancy.auth.authenticate_bearer(made.text),
        tenancy.auth.authenticate_basic("ada", PASSWORD),
        tenancy.sessions.refresh(login.refresh_token),
        tenancy.sessions.login("ada", PASSWORD),
    ):
        with pytest.raises(Unauthenticated):
            await attempt
    await tenancy.accounts.set_state(ADMIN, "ada", disabled=False)
    assert (await tenancy.auth.authenticate_basic("ada", PASSWORD)).roles == {
        "acme": Role.OPERATOR,
        "beta": Role.VIEWER,
    }
    with pytest.raises(Unauthenticated):
        await tenancy.auth.authenticate_bearer(login.access_token)


async def test_a_new_password_ends_every_login(tenancy: Tenancy) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    principal = await tenancy.auth.authenticate_bearer(login.access_token)
    await tenancy.auth.authenticate_basic("ada", PASSWORD)
    await tenancy.accounts.change_own_password(principal, PASSWORD, "another good one")
    for attempt in (
        tenancy.auth.authenticate_bearer(login.access_token),
        tenancy.auth.authenticate_basic("ada", PASSWORD),
        tenancy.sessions.refresh(login.refresh_token),
    ):
        with pytest.raises(Unauthenticated):
            await attempt
    assert (await tenancy.auth.authenticate_basic("ada", "another good one")).name == "ada"


async def test_ones_own_password_is_changed_only_by_who_knows_it(tenancy: Tenancy) -> None:
    ada = await tenancy.auth.authenticate_basic("ada", PASSWORD)
    with pytest.raises(CredentialsWrong):
        await tenancy.accounts.change_own_password(ada, "wrong", "another good one")
    with pytest.raises(PasswordWeak):
        await tenancy.accounts.change_own_password(ada, PASSWORD, "ada")
    assert (await tenancy.auth.authenticate_basic("ada", PASSWORD)).name == "ada"


async def test_the_platform_admin_gives_a_user_another_password(tenancy: Tenancy) -> None:
    await tenancy.accounts.set_password(ADMIN, "zoe", "another good one")
    assert (await tenancy.auth.authenticate_basic("zoe", "another good one")).name == "zoe"
    with pytest.raises(UserUnknown):
        await tenancy.accounts.set_password(ADMIN, "nobody", "another good one")
    with pytest.raises(UserUnknown):
        await tenancy.accounts.get(ADMIN, "a\x00")


async def test_the_last_platform_admin_stays(tenancy: Tenancy) -> None:
    await tenancy.accounts.ensure_platform_admin()
    with pytest.raises(LastPlatformAdmin):
        await tenancy.accounts.set_state(ADMIN, "admin", disabled=True)
    with pytest.raises(LastPlatformAdmin):
        await tenancy.accounts.set_state(ADMIN, "admin", platform_admin=False)
    await tenancy.accounts.set_state(ADMIN, "ada", platform_admin=True)
    await tenancy.accounts.set_state(ADMIN, "admin", disabled=True)
    with pytest.raises(LastPlatformAdmin):
        await tenancy.accounts.set_state(ADMIN, "ada", disabled=True)


async def test_two_admins_who_disable_each_other_leave_one(
    tenancy: Tenancy, build: Callable[..., Tenancy], open_replica: Callable[[], Database]
) -> None:
    for name in ("ada", "zoe"):
        await tenancy.accounts.set_state(ADMIN, name, platform_admin=True)
    other = build(open_replica())
    results = await asyncio.gather(
        tenancy.accounts.set_state(ADMIN, "ada", disabled=True),
        other.accounts.set_state(ADMIN, "zoe", disabled=True),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results if isinstance(result, Exception)] == ["LastPlatformAdmin"]


async def test_a_password_from_elsewhere_is_hashed_anew_at_the_next_login(tenancy: Tenancy, database: Database) -> None:
    imported = bcrypt.hashpw(b"from the old system", bcrypt.gensalt(4)).decode()
    async with database.transaction() as unit:
        await unit.connection.execute(update(users).where(users.c.name == "zoe").values(password_hash=imported))
    login = await tenancy.sessions.login("zoe", "from the old system")
    assert (await tenancy.accounts.get(ADMIN, "zoe")).password_hash.startswith("$argon2id$")
    # The password is the same, so nothing that was issued has to end.
    assert (await tenancy.auth.authenticate_bearer(login.access_token)).name == "zoe"
    assert (await tenancy.sessions.login("zoe", "from the old system")).access_token


async def test_a_login_that_was_checked_before_the_password_changed_is_void(
    tenancy: Tenancy, database: Database
) -> None:
    login = await tenancy.sessions.login("ada", PASSWORD)
    # As if the row had been inserted just after the change: its generation is the old one.
    async with database.transaction() as unit:
        await unit.connection.execute(update(users).where(users.c.name == "ada").values(token_generation=2))
    with pytest.raises(RefreshTokenInvalid):
        await tenancy.sessions.refresh(login.refresh_token)
