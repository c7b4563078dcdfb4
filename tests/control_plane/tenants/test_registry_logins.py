"""Refresh tokens of registry clients: they last, and end with what made them."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from common.clock import ManualClock
from common.errors import Denied, NotFound, Unauthenticated
from control_plane.database import Database
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.tenants.registry_logins import RegistryLoginInvalid, RegistryLoginUnknown
from control_plane.tenants.tables import registry_logins
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.paging import PageRequest

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
PAGE = PageRequest(1, 200)


async def ada_of(tenancy: Tenancy) -> Principal:
    return await tenancy.auth.authenticate_basic("ada", PASSWORD)


async def opened(tenancy: Tenancy, principal: Principal, client: str = "docker") -> str:
    token = await tenancy.registry_tokens.open_login(principal, client)
    assert token is not None
    return token


async def test_it_speaks_for_who_logged_in_until_it_expires(tenancy: Tenancy, clock: ManualClock) -> None:
    token = await opened(tenancy, await ada_of(tenancy))
    clock.tick(89 * 86400)
    resumed = await tenancy.registry_tokens.resume_login(token)
    assert resumed == await ada_of(tenancy)
    clock.tick(86400)
    with pytest.raises(RegistryLoginInvalid):
        await tenancy.registry_tokens.resume_login(token)
    assert await tenancy.registry_logins.forget_expired() == 1


async def test_what_is_stored_is_not_what_was_shown(tenancy: Tenancy, database: Database) -> None:
    token = await opened(tenancy, await ada_of(tenancy), "docker\n\x00" + "x" * 100)
    async with database.reading() as connection:
        (row,) = (await connection.execute(select(registry_logins))).all()
    assert token.rpartition("_")[2] not in str(row)
    assert row.client == "docker" + "x" * 58


async def test_another_password_ends_it(tenancy: Tenancy) -> None:
    token = await opened(tenancy, await ada_of(tenancy))
    await tenancy.accounts.set_password(ADMIN, "ada", "another good password")
    with pytest.raises(RegistryLoginInvalid):
        await tenancy.registry_tokens.resume_login(token)


async def test_it_ends_with_the_key_that_made_it(tenancy: Tenancy) -> None:
    ada = await ada_of(tenancy)
    key = await tenancy.api_keys.create(ada, "ci", tenant="acme")
    token = await opened(tenancy, await tenancy.auth.authenticate_basic("any", key.text))
    resumed = await tenancy.registry_tokens.resume_login(token)
    assert resumed is not None
    assert (resumed.tenant, resumed.key_id) == ("acme", key.key.id), "no more than the key may"
    await tenancy.api_keys.revoke(ada, key.key.id)
    with pytest.raises(Unauthenticated):
        await tenancy.registry_tokens.resume_login(token)


async def test_its_owner_ends_it_and_others_do_not(tenancy: Tenancy, clock: ManualClock) -> None:
    ada, zoe = await ada_of(tenancy), await tenancy.auth.authenticate_basic("zoe", PASSWORD)
    tokens = []
    for name in ("docker", "buildkit"):
        clock.tick(1)
        tokens.append(await opened(tenancy, ada, name))
    for token in tokens:
        await tenancy.registry_tokens.resume_login(token)
    listed = (await tenancy.registry_logins.list(ada, PAGE)).items
    assert [each.client for each in listed] == ["buildkit", "docker"]
    assert all(each.last_used_at for each in listed)
    for login_id in (listed[0].id, "nonsense", listed[0].id.upper()):
        with pytest.raises(RegistryLoginUnknown):
            await tenancy.registry_logins.end(zoe, login_id)
    with pytest.raises((Denied, NotFound)):
        await tenancy.registry_logins.list(zoe, PAGE, "ada")
    await tenancy.registry_logins.end(ada, listed[0].id)
    with pytest.raises(RegistryLoginInvalid):
        await tenancy.registry_tokens.resume_login(tokens[1])
    assert await tenancy.registry_tokens.resume_login(tokens[0]) == ada
    assert len((await tenancy.registry_logins.list(ADMIN, PAGE, "ada")).items) == 1


async def test_of_one_owner_the_newest_hundred_are_kept(tenancy: Tenancy, clock: ManualClock) -> None:
    ada = await ada_of(tenancy)
    first = await opened(tenancy, ada)
    for _ in range(100):
        clock.tick(1)
        last = await opened(tenancy, ada)
    with pytest.raises(RegistryLoginInvalid):
        await tenancy.registry_tokens.resume_login(first)
    assert await tenancy.registry_tokens.resume_login(last) == ada


async def test_nobody_gets_none(tenancy: Tenancy) -> None:
    assert await tenancy.registry_tokens.open_login(ANONYMOUS, "docker") is None


@pytest.mark.parametrize("text", ["lsd_", "lsd_nonsense", f"lsd_{'0' * 32}_{'0' * 64}", "lsd_\x00"])
async def test_what_was_never_handed_out_opens_nothing(tenancy: Tenancy, text: str) -> None:
    with pytest.raises(RegistryLoginInvalid):
        await tenancy.registry_tokens.resume_login(text)


async def test_what_looks_otherwise_is_somebody_elses_to_judge(tenancy: Tenancy) -> None:
    assert await tenancy.registry_tokens.resume_login("lsk_key") is None
