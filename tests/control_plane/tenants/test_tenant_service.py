"""Tenants and members: named once, seen by their own, never without an admin, never deleted with content."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, String, Table, insert, select

from common.errors import Denied, NotFound
from control_plane.database import Database, UnitOfWork
from control_plane.database.outbox import outbox
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.accounts import UserUnknown
from control_plane.tenants.directory import TenantUnknown
from control_plane.tenants.model import TenantNameInvalid
from control_plane.tenants.service import (
    LastTenantAdmin,
    MemberUnknown,
    TenantExists,
    TenantNotEmpty,
)
from control_plane.tenants.tables import tenants
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.paging import PageRequest

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
ALL = PageRequest()


async def principal_of(tenancy: Tenancy, name: str) -> Principal:
    return await tenancy.auth.authenticate_basic(name, PASSWORD)


async def test_the_platform_admin_sees_all_and_others_their_own(tenancy: Tenancy) -> None:
    async def names(principal: Principal) -> list[str]:
        return [tenant.name for tenant in (await tenancy.tenants.list(principal, ALL)).items]

    assert await names(ADMIN) == ["acme", "beta", "gamma"]
    assert await names(await principal_of(tenancy, "ada")) == ["acme", "beta"]
    assert await names(await principal_of(tenancy, "zoe")) == []


async def test_lists_come_in_pages(tenancy: Tenancy) -> None:
    page = await tenancy.tenants.list(ADMIN, PageRequest(2, 2))
    assert ([tenant.name for tenant in page.items], page.total_count, page.total_pages) == (["gamma"], 3, 2)


async def test_a_foreign_tenant_cannot_be_told_from_none(tenancy: Tenancy) -> None:
    ada = await principal_of(tenancy, "ada")
    answers = []
    for name in ("gamma", "nowhere"):
        for attempt in (
            tenancy.tenants.get(ada, name),
            tenancy.tenants.delete(ada, name),
            tenancy.tenants.members(ada, name, ALL),
            tenancy.tenants.put_member(ada, name, "ada", Role.ADMIN),
            tenancy.tenants.remove_member(ada, name, "ada"),
        ):
            with pytest.raises(NotFound) as refusal:
                await attempt
            answers.append((refusal.value.code, str(refusal.value).replace(name, "")))
    assert len(set(answers)) == 1


async def test_only_the_platform_admin_makes_and_deletes_tenants(tenancy: Tenancy) -> None:
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    ada = await principal_of(tenancy, "ada")
    with pytest.raises(Denied):
        await tenancy.tenants.create(ada, "mine")
    with pytest.raises(Denied):
        await tenancy.tenants.delete(ada, "acme")


async def test_a_name_is_taken_once_and_reserved_names_never(tenancy: Tenancy) -> None:
    with pytest.raises(TenantExists):
        await tenancy.tenants.create(ADMIN, "acme")
    for name in ("admin", "api", "v2", "Not A Name"):
        with pytest.raises(TenantNameInvalid):
            await tenancy.tenants.create(ADMIN, name)
    assert (await tenancy.tenants.create(ADMIN, "library")).display_name == "library"
    assert (await tenancy.tenants.list(ADMIN, ALL)).total_count == 4


async def test_members_have_one_role_each(tenancy: Tenancy) -> None:
    await tenancy.tenants.put_member(ADMIN, "acme", "zoe", Role.VIEWER)
    await tenancy.tenants.put_member(ADMIN, "acme", "zoe", Role.ADMIN)
    listed = await tenancy.tenants.members(await principal_of(tenancy, "ada"), "acme", ALL)
    assert [(member.user, member.role) for member in listed.items] == [("ada", Role.OPERATOR), ("zoe", Role.ADMIN)]


async def test_members_are_managed_by_admins_of_the_tenant(tenancy: Tenancy) -> None:
    ada = await principal_of(tenancy, "ada")
    with pytest.raises(Denied):
        await tenancy.tenants.put_member(ada, "acme", "zoe", Role.VIEWER)
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    ada = await principal_of(tenancy, "ada")
    await tenancy.tenants.put_member(ada, "acme", "zoe", Role.VIEWER)
    await tenancy.tenants.remove_member(ada, "acme", "zoe")
    with pytest.raises(MemberUnknown):
        await tenancy.tenants.remove_member(ada, "acme", "zoe")
    for name in ("nobody", "a\x00"):
        with pytest.raises(UserUnknown):
            await tenancy.tenants.put_member(ada, "acme", name, Role.VIEWER)
    with pytest.raises(TenantUnknown):
        await tenancy.tenants.put_member(ADMIN, "no\x00where", "zoe", Role.VIEWER)


async def test_the_last_admin_stays(tenancy: Tenancy) -> None:
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)
    with pytest.raises(LastTenantAdmin):
        await tenancy.tenants.remove_member(ADMIN, "acme", "ada")
    with pytest.raises(LastTenantAdmin):
        await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.OPERATOR)
    assert (await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.ADMIN)).role is Role.ADMIN
    await tenancy.tenants.put_member(ADMIN, "acme", "zoe", Role.ADMIN)
    await tenancy.tenants.remove_member(ADMIN, "acme", "ada")


async def test_an_admin_who_cannot_log_in_does_not_count(tenancy: Tenancy) -> None:
    for name in ("ada", "zoe"):
        await tenancy.tenants.put_member(ADMIN, "acme", name, Role.ADMIN)
    await tenancy.accounts.set_state(ADMIN, "zoe", disabled=True)
    with pytest.raises(LastTenantAdmin):
        await tenancy.tenants.remove_member(ADMIN, "acme", "ada")
    await tenancy.tenants.remove_member(ADMIN, "acme", "zoe")


async def test_two_admins_who_remove_each_other_leave_one(
    tenancy: Tenancy, build: Callable[..., Tenancy], open_replica: Callable[[], Database]
) -> None:
    for name in ("ada", "zoe"):
        await tenancy.tenants.put_member(ADMIN, "acme", name, Role.ADMIN)
    other = build(open_replica())
    results = await asyncio.gather(
        tenancy.tenants.remove_member(ADMIN, "acme", "ada"),
        other.tenants.remove_member(ADMIN, "acme", "zoe"),
        return_exceptions=True,
    )
    assert [type(result) for result in results if isinstance(result, Exception)] == [LastTenantAdmin]
    assert (await tenancy.tenants.members(ADMIN, "acme", ALL)).total_count == 1


async def test_a_tenant_with_content_is_not_deleted(build: Callable[..., Tenancy], tenancy: Tenancy) -> None:
    held: dict[str, str] = {}

    async def repositories(unit: UnitOfWork, tenant_id: str) -> str | None:
        return held.get(tenant_id)

    async def nothing(unit: UnitOfWork, tenant_id: str) -> str | None:
        return None

    asking = build(in_use=(nothing, repositories))
    acme = await asking.tenants.get(ADMIN, "acme")
    held[acme.id] = "3 repositories"
    with pytest.raises(TenantNotEmpty) as refusal:
        await asking.tenants.delete(ADMIN, "acme")
    assert "3 repositories" in refusal.value.detail
    held.clear()
    await asking.tenants.delete(ADMIN, "acme")
    with pytest.raises(TenantUnknown):
        await asking.tenants.get(ADMIN, "acme")
    assert (await principal_of(asking, "ada")).roles == {"beta": Role.VIEWER}


async def test_what_refers_to_a_tenant_keeps_it_even_if_nobody_asked(tenancy: Tenancy, database: Database) -> None:
    elsewhere = MetaData()
    Table("tenants", elsewhere, Column("id", String(36), primary_key=True))
    things = Table(
        "things", elsewhere, Column("id", String(8)), Column("tenant_id", String(36), ForeignKey("tenants.id"))
    )
    acme = await tenancy.tenants.get(ADMIN, "acme")
    async with database.transaction() as unit:
        await unit.connection.run_sync(things.create)
        await unit.connection.execute(insert(things).values(id="1", tenant_id=acme.id))
    with pytest.raises(TenantNotEmpty):
        await tenancy.tenants.delete(ADMIN, "acme")
    assert (await tenancy.tenants.members(ADMIN, "acme", ALL)).total_count == 1


async def test_a_tenant_made_again_has_no_old_members(tenancy: Tenancy) -> None:
    await principal_of(tenancy, "ada")
    await tenancy.tenants.delete(ADMIN, "beta")
    await tenancy.tenants.create(ADMIN, "beta")
    assert set((await principal_of(tenancy, "ada")).roles) == {"acme"}
    assert (await tenancy.tenants.members(ADMIN, "beta", ALL)).total_count == 0


async def test_changes_are_announced_and_refusals_are_not(tenancy: Tenancy, database: Database) -> None:
    with pytest.raises(TenantExists):
        await tenancy.tenants.create(ADMIN, "acme")
    await tenancy.tenants.delete(ADMIN, "gamma")
    async with database.reading() as connection:
        topics = list(await connection.scalars(select(outbox.c.topic).order_by(outbox.c.id)))
        names = list(await connection.scalars(select(tenants.c.name).order_by(tenants.c.name)))
    assert topics.count("tenants.tenant_created") == 3
    assert topics[-1] == "tenants.tenant_deleted"
    assert names == ["acme", "beta"]


async def test_the_directory_translates_names_and_ids(tenancy: Tenancy) -> None:
    acme = await tenancy.tenants.get(ADMIN, "acme")
    assert await tenancy.directory.ids_of(["acme", "nowhere"]) == {"acme": acme.id}
    assert await tenancy.directory.names_of([acme.id, "x"]) == {acme.id: "acme"}
    assert await tenancy.directory.ids_of([]) == {}
    assert await tenancy.directory.ids_of(["a\x00", "Not A Name", "acme"]) == {"acme": acme.id}
    assert await tenancy.directory.id_of("acme") == acme.id
    with pytest.raises(TenantUnknown):
        await tenancy.directory.id_of("nowhere")


async def test_asking_for_an_id_again_costs_no_query_and_a_new_tenant_has_its_own(
    tenancy: Tenancy, database: Database, count_queries: Any
) -> None:
    former = await tenancy.directory.id_of("gamma")
    with count_queries(database) as seen:
        assert await tenancy.directory.id_of("gamma") == former
    assert seen.count == 0
    await tenancy.tenants.delete(ADMIN, "gamma")
    with pytest.raises(TenantUnknown):
        await tenancy.directory.id_of("gamma")
    made = await tenancy.tenants.create(ADMIN, "gamma")
    assert await tenancy.directory.id_of("gamma") == made.id != former
