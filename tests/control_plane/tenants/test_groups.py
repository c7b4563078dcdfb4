"""Groups: members of a tenant that are granted things together."""

from __future__ import annotations

import pytest

from common.errors import Denied, NotFound
from control_plane.tenants.access import Principal, Role
from control_plane.tenants.groups import GroupExists, GroupUnknown
from control_plane.tenants.model import GroupNameInvalid
from control_plane.tenants.service import MemberUnknown
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.paging import PageRequest

ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
PASSWORD = "correct horse battery"
PAGE = PageRequest(1, 50)


async def groups_of(tenancy: Tenancy, user: str) -> frozenset[str]:
    return (await tenancy.auth.authenticate_basic(user, PASSWORD)).groups


async def test_a_member_of_a_group_is_one_until_it_is_taken_out(tenancy: Tenancy) -> None:
    group = await tenancy.groups.create(ADMIN, "acme", "devs")
    assert await groups_of(tenancy, "ada") == frozenset()
    assert (await tenancy.groups.put_member(ADMIN, "acme", "devs", "ada")).members == ("ada",)
    await tenancy.groups.put_member(ADMIN, "acme", "devs", "ada")
    assert await groups_of(tenancy, "ada") == {group.id}
    await tenancy.groups.remove_member(ADMIN, "acme", "devs", "ada")
    assert await groups_of(tenancy, "ada") == frozenset()
    with pytest.raises(MemberUnknown):
        await tenancy.groups.remove_member(ADMIN, "acme", "devs", "ada")


async def test_who_leaves_the_tenant_or_loses_the_group_is_out_of_it(tenancy: Tenancy) -> None:
    for name in ("devs", "ops"):
        await tenancy.groups.create(ADMIN, "acme", name)
        await tenancy.groups.put_member(ADMIN, "acme", name, "ada")
    await tenancy.groups.delete(ADMIN, "acme", "ops")
    assert len(await groups_of(tenancy, "ada")) == 1
    await tenancy.tenants.remove_member(ADMIN, "acme", "ada")
    assert await groups_of(tenancy, "ada") == frozenset()
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.VIEWER)
    assert await groups_of(tenancy, "ada") == frozenset()


async def test_a_group_is_of_its_tenants_members_only(tenancy: Tenancy) -> None:
    await tenancy.groups.create(ADMIN, "acme", "devs")
    for outsider in ("zoe", "nobody", "a\x00"):
        with pytest.raises(MemberUnknown):
            await tenancy.groups.put_member(ADMIN, "acme", "devs", outsider)
    with pytest.raises(GroupUnknown):
        await tenancy.groups.put_member(ADMIN, "beta", "devs", "ada")
    with pytest.raises(GroupExists):
        await tenancy.groups.create(ADMIN, "acme", "devs")
    with pytest.raises(GroupNameInvalid):
        await tenancy.groups.create(ADMIN, "acme", "De vs")
    assert [group.name for group in (await tenancy.groups.list(ADMIN, "acme", PAGE)).items] == ["devs"]


async def test_only_who_manages_the_tenant_changes_groups(tenancy: Tenancy) -> None:
    await tenancy.groups.create(ADMIN, "acme", "devs")
    viewer = Principal("v", "vera", roles={"acme": Role.VIEWER})
    stranger = Principal("b", "bob", roles={"beta": Role.ADMIN})
    for principal, refusal in ((viewer, Denied), (stranger, NotFound)):
        for use in (
            tenancy.groups.create(principal, "acme", "x"),
            tenancy.groups.delete(principal, "acme", "devs"),
            tenancy.groups.put_member(principal, "acme", "devs", "ada"),
            tenancy.groups.remove_member(principal, "acme", "devs", "ada"),
        ):
            with pytest.raises(refusal):
                await use
    assert (await tenancy.groups.list(viewer, "acme", PAGE)).total_count == 1
    with pytest.raises(NotFound):
        await tenancy.groups.list(stranger, "acme", PAGE)
