"""API keys: shown once, never more than their user, gone when revoked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from common.clock import ManualClock
from common.errors import Denied, NotFound, Unauthenticated
from control_plane.database import Database
from control_plane.tenants.access import ANONYMOUS, Permission, Principal, Role
from control_plane.tenants.api_keys import ApiKeyInvalid, ApiKeyUnknown, ExpiryInPast, RoleAboveOwn
from control_plane.tenants.tables import api_keys
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.paging import PageRequest

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)


async def ada_of(tenancy: Tenancy) -> Principal:
    return await tenancy.auth.authenticate_basic("ada", PASSWORD)


async def test_a_key_is_shown_once_and_stored_as_a_hash(tenancy: Tenancy, database: Database) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci")
    assert made.text.startswith(f"lsk_{made.key.id.replace('-', '')}_")
    secret = made.text.rpartition("_")[2]
    async with database.reading() as connection:
        row = (await connection.execute(select(api_keys))).one()
    assert secret not in repr(row)
    listed = await tenancy.api_keys.list(await ada_of(tenancy), PageRequest())
    assert [key.name for key in listed.items] == ["ci"]
    assert secret not in repr(made)


async def test_a_key_limited_to_a_tenant_opens_that_tenant(tenancy: Tenancy) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci", tenant="beta")
    principal = await tenancy.auth.authenticate_bearer(made.text)
    assert principal.roles == {"beta": Role.VIEWER}
    assert principal.limited
    with pytest.raises(NotFound):
        principal.require(Permission.TENANT_READ, "acme")


async def test_a_key_limited_to_a_role_may_no_more_anywhere(tenancy: Tenancy) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci", role=Role.VIEWER)
    assert (await tenancy.auth.authenticate_bearer(made.text)).roles == {"acme": Role.VIEWER, "beta": Role.VIEWER}


async def test_a_key_loses_what_its_user_loses(tenancy: Tenancy) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci", tenant="acme", role=Role.OPERATOR)
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.VIEWER)
    assert (await tenancy.auth.authenticate_bearer(made.text)).roles == {"acme": Role.VIEWER}
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    assert (await tenancy.auth.authenticate_bearer(made.text)).roles == {"acme": Role.OPERATOR}
    await tenancy.tenants.put_member(ADMIN, "acme", "zoe", Role.ADMIN)
    await tenancy.tenants.remove_member(ADMIN, "acme", "ada")
    assert (await tenancy.auth.authenticate_bearer(made.text)).roles == {}


async def test_a_limited_key_of_the_platform_admin_is_no_platform_admin(tenancy: Tenancy) -> None:
    await tenancy.accounts.set_state(ADMIN, "zoe", platform_admin=True)
    zoe = await tenancy.auth.authenticate_basic("zoe", PASSWORD)
    whole = await tenancy.api_keys.create(zoe, "whole")
    narrow = await tenancy.api_keys.create(zoe, "narrow", tenant="acme", role=Role.OPERATOR)
    nowhere = await tenancy.api_keys.create(zoe, "nowhere", role=Role.ADMIN)
    assert (await tenancy.auth.authenticate_bearer(whole.text)).platform_admin
    limited = await tenancy.auth.authenticate_bearer(narrow.text)
    assert (limited.platform_admin, limited.roles) == (False, {"acme": Role.OPERATOR})
    assert (await tenancy.auth.authenticate_bearer(nowhere.text)).roles == {}


async def test_a_key_is_not_made_above_its_owner_or_for_a_foreign_tenant(tenancy: Tenancy) -> None:
    ada = await ada_of(tenancy)
    with pytest.raises(RoleAboveOwn):
        await tenancy.api_keys.create(ada, "ci", tenant="beta", role=Role.OPERATOR)
    with pytest.raises(NotFound):
        await tenancy.api_keys.create(ada, "ci", tenant="gamma")
    with pytest.raises(NotFound):
        await tenancy.api_keys.create(ADMIN, "ci", tenant="nowhere")
    assert (await tenancy.api_keys.list(ada, PageRequest())).total_count == 0


async def test_a_limited_key_makes_lists_and_revokes_no_keys(tenancy: Tenancy) -> None:
    ada = await ada_of(tenancy)
    made = await tenancy.api_keys.create(ada, "ci", tenant="acme")
    limited = await tenancy.auth.authenticate_bearer(made.text)
    for attempt in (
        tenancy.api_keys.create(limited, "more"),
        tenancy.api_keys.list(limited, PageRequest()),
        tenancy.api_keys.revoke(limited, made.key.id),
        tenancy.accounts.change_own_password(limited, PASSWORD, "another good one"),
    ):
        with pytest.raises(Denied):
            await attempt
    with pytest.raises(Unauthenticated):
        await tenancy.api_keys.create(ANONYMOUS, "ci")


async def test_a_revoked_key_is_refused_at_once(tenancy: Tenancy) -> None:
    ada = await ada_of(tenancy)
    made = await tenancy.api_keys.create(ada, "ci")
    await tenancy.auth.authenticate_bearer(made.text)
    await tenancy.api_keys.revoke(ada, made.key.id)
    await tenancy.api_keys.revoke(ada, made.key.id)
    with pytest.raises(ApiKeyInvalid):
        await tenancy.auth.authenticate_bearer(made.text)
    assert (await tenancy.api_keys.list(ada, PageRequest())).total_count == 0


async def test_a_key_expires(tenancy: Tenancy, clock: ManualClock) -> None:
    ada = await ada_of(tenancy)
    with pytest.raises(ExpiryInPast):
        await tenancy.api_keys.create(ada, "ci", expires_at=clock.now())
    made = await tenancy.api_keys.create(ada, "ci", expires_at=clock.now() + timedelta(seconds=10))
    assert (await tenancy.auth.authenticate_bearer(made.text)).name == "ada"
    clock.tick(10)
    with pytest.raises(ApiKeyInvalid):
        await tenancy.auth.authenticate_bearer(made.text)


async def test_keys_of_others_do_not_exist_except_for_the_platform_admin(tenancy: Tenancy) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci")
    zoe = await tenancy.auth.authenticate_basic("zoe", PASSWORD)
    for key_id in (made.key.id, "nonsense", "a\x00", "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(ApiKeyUnknown):
            await tenancy.api_keys.revoke(zoe, key_id)
    with pytest.raises(Denied):
        await tenancy.api_keys.list(zoe, PageRequest(), "ada")
    listed = await tenancy.api_keys.list(ADMIN, PageRequest(), "ada")
    assert [key.id for key in listed.items] == [made.key.id]
    with pytest.raises(NotFound):
        await tenancy.api_keys.list(ADMIN, PageRequest(), "nobody")
    await tenancy.api_keys.revoke(ADMIN, made.key.id)
    with pytest.raises(ApiKeyInvalid):
        await tenancy.auth.authenticate_bearer(made.text)


async def test_a_key_goes_with_the_tenant_it_was_limited_to(tenancy: Tenancy) -> None:
    ada = await ada_of(tenancy)
    made = await tenancy.api_keys.create(ada, "ci", tenant="beta")
    kept = await tenancy.api_keys.create(ada, "all")
    await tenancy.tenants.delete(ADMIN, "beta")
    assert [key.id for key in (await tenancy.api_keys.list(ada, PageRequest())).items] == [kept.key.id]
    with pytest.raises(ApiKeyInvalid):
        await tenancy.auth.authenticate_bearer(made.text)


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text[:-1] + "g", lambda text: text + "0"])
async def test_a_key_that_is_nearly_right_is_wrong(tenancy: Tenancy, change: Callable[[str], str]) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci")
    with pytest.raises(ApiKeyInvalid):
        await tenancy.auth.authenticate_bearer(change(made.text))


async def test_a_key_with_another_keys_secret_is_wrong(tenancy: Tenancy) -> None:
    one, other = [(await tenancy.api_keys.create(await ada_of(tenancy), "ci")).text for _ in range(2)]
    with pytest.raises(ApiKeyInvalid):
        await tenancy.auth.authenticate_bearer(one.rpartition("_")[0] + "_" + other.rpartition("_")[2])


async def test_use_is_recorded_once_a_minute_whatever_the_traffic(
    tenancy: Tenancy, database: Database, clock: ManualClock, count_queries: Any
) -> None:
    ada = await ada_of(tenancy)
    made = await tenancy.api_keys.create(ada, "ci")

    async def last_used() -> Any:
        return (await tenancy.api_keys.list(ada, PageRequest())).items[0].last_used_at

    assert await last_used() is None
    first = clock.now()
    with count_queries(database) as seen:
        for _ in range(30):
            await tenancy.auth.authenticate_bearer(made.text)
            clock.tick(1)
    assert await last_used() == first
    assert sum(statement.startswith("UPDATE") for statement in seen.statements) == 1
    clock.tick(30)
    await tenancy.auth.authenticate_bearer(made.text)
    assert await last_used() == first + timedelta(seconds=60)


async def test_replicas_record_one_use_a_minute_between_them(
    tenancy: Tenancy, build: Callable[..., Tenancy], open_replica: Callable[[], Database], clock: ManualClock
) -> None:
    ada = await ada_of(tenancy)
    made = await tenancy.api_keys.create(ada, "ci")
    await tenancy.auth.authenticate_bearer(made.text)
    first = clock.now()
    clock.tick(20)
    await build(open_replica()).auth.authenticate_bearer(made.text)
    assert (await tenancy.api_keys.list(ada, PageRequest())).items[0].last_used_at == first


async def test_checking_a_key_again_costs_no_query(tenancy: Tenancy, database: Database, count_queries: Any) -> None:
    made = await tenancy.api_keys.create(await ada_of(tenancy), "ci")
    await tenancy.auth.authenticate_bearer(made.text)
    with count_queries(database) as seen:
        for _ in range(20):
            await tenancy.auth.authenticate_bearer(made.text)
    assert seen.count == 0
