"""Who may do what: a table, and what limits take away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Denied, NotFound, Unauthenticated
from control_plane.tenants.access import (
    ANONYMOUS,
    RANK,
    Permission,
    Principal,
    RepositoryScope,
    Role,
    lesser,
    permissions_of,
)

VIEWER, OPERATOR, ADMIN = (Principal("1", "ada", roles={"acme": role}) for role in Role)
PLATFORM = Principal("2", "root", platform_admin=True)

TABLE = {
    Permission.TENANT_READ: (True, True, True),
    Permission.TENANT_MANAGE: (False, False, True),
    Permission.IMAGE_PULL: (True, True, True),
    Permission.IMAGE_PUSH: (False, True, True),
    Permission.IMAGE_DELETE: (False, False, True),
    Permission.INSTANCE_READ: (True, True, True),
    Permission.INSTANCE_WRITE: (False, True, True),
    Permission.INSTANCE_EXEC: (False, True, True),
    Permission.MACHINE_READ: (True, True, True),
    Permission.MACHINE_WRITE: (False, True, True),
    Permission.MACHINE_APPROVE: (False, False, True),
    Permission.PLATFORM_READ: (True, True, True),
    Permission.PLATFORM_MANAGE: (False, False, False),
}


@pytest.mark.parametrize("permission", Permission)
def test_roles_grant_what_the_table_says(permission: Permission) -> None:
    granted = tuple(principal.may(permission, "acme") for principal in (VIEWER, OPERATOR, ADMIN))
    assert granted == TABLE[permission]


@pytest.mark.parametrize("permission", Permission)
def test_the_platform_admin_may_everything_and_the_anonymous_nothing(permission: Permission) -> None:
    assert PLATFORM.may(permission, "acme")
    assert PLATFORM.may(permission)
    assert not ANONYMOUS.may(permission, "acme")
    with pytest.raises(Unauthenticated):
        ANONYMOUS.require(permission, "acme")


def test_a_foreign_tenant_does_not_exist_and_an_own_one_refuses() -> None:
    with pytest.raises(NotFound):
        VIEWER.require(Permission.IMAGE_PUSH, "beta")
    with pytest.raises(Denied):
        VIEWER.require(Permission.IMAGE_PUSH, "acme")


def test_a_token_without_scopes_opens_nothing() -> None:
    bare = Principal("1", "ada", platform_admin=True, scopes=())
    assert [permission for permission in Permission if bare.may(permission, "acme")] == []
    with pytest.raises(Denied):
        bare.require(Permission.IMAGE_PULL, "acme")


def test_a_scope_opens_its_repository_and_no_other() -> None:
    pull = RepositoryScope("acme/web", frozenset({"pull"}))
    principal = Principal("1", "ada", roles={"acme": Role.ADMIN, "beta": Role.ADMIN}, scopes=(pull,))
    assert principal.may_on(Permission.IMAGE_PULL, "acme/web")
    assert not principal.may_on(Permission.IMAGE_PUSH, "acme/web")
    assert not principal.may_on(Permission.IMAGE_PULL, "acme/other")
    assert not principal.may_on(Permission.IMAGE_PULL, "acme/web/more")
    assert not principal.may(Permission.IMAGE_PULL, "beta")
    assert not principal.may(Permission.TENANT_MANAGE, "acme")
    assert not principal.may(Permission.PLATFORM_READ)


def test_a_scope_gives_no_right_that_the_role_has_not() -> None:
    everything = RepositoryScope("acme/web", frozenset({"*"}))
    principal = Principal("1", "ada", roles={"acme": Role.VIEWER}, scopes=(everything,))
    assert principal.may_on(Permission.IMAGE_PULL, "acme/web")
    assert not principal.may_on(Permission.IMAGE_PUSH, "acme/web")


def test_without_scopes_a_repository_is_as_open_as_its_tenant() -> None:
    assert OPERATOR.may_on(Permission.IMAGE_PUSH, "acme/web")
    assert not OPERATOR.may_on(Permission.IMAGE_PUSH, "beta/web")


def test_limited_credentials_manage_no_credentials() -> None:
    VIEWER.require_whole()
    for limited in (Principal("1", "ada", limited=True), Principal("1", "ada", scopes=())):
        with pytest.raises(Denied):
            limited.require_whole()
    with pytest.raises(Unauthenticated):
        ANONYMOUS.require_whole()


@given(one=st.sampled_from(Role), other=st.sampled_from(Role))
def test_the_lesser_role_grants_what_both_grant(one: Role, other: Role) -> None:
    assert permissions_of(lesser(one, other)) == permissions_of(one) & permissions_of(other)
    assert RANK[lesser(one, other)] == min(RANK[one], RANK[other])
