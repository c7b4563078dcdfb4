"""What roles, visibility, grants and tokens permit together; the pure part, and `Rights` on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.errors import Denied, Failure, Unauthenticated
from control_plane.registry.access import access_permits, role_permits
from control_plane.registry.failures import RepositoryUnknown, ScopeInsufficient
from control_plane.registry.grants import MANAGE, NEEDED, Grant, GranteeKind, Level, RepositoryAccess, Visibility
from control_plane.registry.scopes import CATALOG, DELETE, PULL, PUSH
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import ANONYMOUS, Principal, RepositoryScope, RobotScope, Role, permissions_of
from control_plane.tenants.model import Standing
from tests.control_plane.registry.people import ADA, BOB, BOTH, OTTO, ROOT, VERA

WEB = "acme/web"
PUBLIC = RepositoryAccess(Visibility.PUBLIC)
ROBOT = Principal(
    "r-ci",
    "robot/acme/ci",
    limited=True,
    tenant="acme",
    robot=(RobotScope("acme/web*", frozenset({PULL, PUSH})), RobotScope("birch/*", frozenset({PULL}))),
)


def confined(principal: Principal, *actions: str, repository: str = WEB) -> Principal:
    return replace(principal, scopes=(RepositoryScope(repository, frozenset(actions)),))


@pytest.mark.parametrize(
    ("principal", "action", "refusal"),
    [
        (ADA, PULL, None),
        (ADA, PUSH, None),
        (ADA, DELETE, None),
        (ADA, MANAGE, None),
        (OTTO, PUSH, None),
        (OTTO, DELETE, Denied),
        (OTTO, MANAGE, Denied),
        (VERA, PULL, None),
        (VERA, PUSH, Denied),
        (ROOT, DELETE, None),
        # What is not yours does not exist when you read, and is refused when you write.
        (BOB, PULL, RepositoryUnknown),
        (BOB, PUSH, Denied),
        (BOB, DELETE, Denied),
        (BOB, MANAGE, RepositoryUnknown),
        (ANONYMOUS, PULL, Unauthenticated),
        (ANONYMOUS, PUSH, Unauthenticated),
        (ANONYMOUS, MANAGE, Unauthenticated),
        # A registry token narrows; it never widens.
        (confined(ADA, PULL), PULL, None),
        (confined(ADA, PULL), PUSH, ScopeInsufficient),
        (confined(ADA, PULL, repository="acme/other"), PULL, ScopeInsufficient),
        (confined(VERA, PULL, PUSH), PUSH, Denied),
        (confined(BOB, PULL), PULL, RepositoryUnknown),
        (confined(ROOT, PULL), DELETE, ScopeInsufficient),
        (replace(ADA, scopes=()), PULL, ScopeInsufficient),
        # A robot may what its patterns say, in its tenant.
        (ROBOT, PUSH, None),
        (ROBOT, DELETE, Denied),
        (ROBOT, MANAGE, Denied),
        (replace(ROBOT, tenant="birch"), PULL, RepositoryUnknown),
        (replace(ROBOT, robot=()), PULL, RepositoryUnknown),
        (confined(ROBOT, PULL), PUSH, ScopeInsufficient),
    ],
)
async def test_role_and_token_decide_together(
    local_registry: RegistryService, principal: Principal, action: str, refusal: type[Failure] | None
) -> None:
    rights = local_registry.rights
    assert await rights.may(principal, WEB, action) is (refusal is None)
    if refusal is None:
        await rights.require(principal, WEB, action)
    else:
        with pytest.raises(refusal) as refused:
            await rights.require(principal, WEB, action)
        assert type(refused.value) is refusal


async def test_a_foreign_tenant_and_none_at_all_look_the_same(local_registry: RegistryService) -> None:
    for principal in (BOB, ROBOT, ANONYMOUS):
        for action in (PULL, PUSH, MANAGE):
            answers = []
            for name in ("cedar/web", "absent/web"):
                with pytest.raises(Failure) as refused:
                    await local_registry.rights.require(principal, name, action)
                answers.append(f"{type(refused.value)} {refused.value}".replace(name, "?"))
            assert answers[0] == answers[1]


async def test_a_token_gets_what_is_permitted_of_what_was_asked(local_registry: RegistryService) -> None:
    grant = local_registry.rights.grant
    asked = [RepositoryScope(WEB, frozenset({PULL, PUSH, DELETE})), RepositoryScope("birch/x", frozenset({PULL}))]
    assert await grant(OTTO, asked) == (RepositoryScope(WEB, frozenset({PULL, PUSH})),)
    assert await grant(VERA, asked) == (RepositoryScope(WEB, frozenset({PULL})),)
    assert await grant(ANONYMOUS, [*asked, CATALOG]) == ()
    assert await grant(ROBOT, asked) == (RepositoryScope(WEB, frozenset({PULL, PUSH})),)
    assert await grant(BOB, [CATALOG]) == (CATALOG,)
    assert await grant(confined(ADA, PULL), [*asked, CATALOG]) == (RepositoryScope(WEB, frozenset({PULL})),)


NOW = ManualClock().now()


def granted(kind: GranteeKind, grantee: str, level: Level, hours: int | None = None) -> RepositoryAccess:
    expires_at = None if hours is None else NOW + timedelta(hours=hours)
    return RepositoryAccess(grants=(Grant(kind, grantee, level, expires_at),))


TO_BOB = granted(GranteeKind.USER, "u-bob", Level.WRITE)
TO_BIRCH = granted(GranteeKind.TENANT, "birch", Level.WRITE)
TO_CREW = granted(GranteeKind.GROUP, "g-crew", Level.ADMIN)
BILL = Principal("u-bill", "bill", roles={"birch": Role.VIEWER})
BIRCH_ROBOT = replace(ROBOT, tenant="birch")


@pytest.mark.parametrize(
    ("principal", "access", "actions"),
    [
        (ANONYMOUS, PUBLIC, {PULL}),
        (BOB, PUBLIC, {PULL}),
        (replace(ROBOT, robot=()), PUBLIC, {PULL}),
        (ANONYMOUS, TO_BOB, set()),
        (BOB, TO_BOB, {PULL, PUSH}),
        (BILL, TO_BOB, set()),
        (BOB, granted(GranteeKind.USER, "u-bob", Level.READ), {PULL}),
        (BOB, granted(GranteeKind.USER, "u-bob", Level.ADMIN), {PULL, PUSH, DELETE, MANAGE}),
        (BOB, granted(GranteeKind.USER, "u-bob", Level.READ, 1), {PULL}),
        (BOB, granted(GranteeKind.USER, "u-bob", Level.READ, 0), set()),
        (BOB, granted(GranteeKind.USER, "u-bob", Level.READ, -1), set()),
        # A member gets at most what its role in the granted tenant permits there.
        (BOB, TO_BIRCH, {PULL, PUSH}),
        (BILL, TO_BIRCH, {PULL}),
        (VERA, TO_BIRCH, set()),
        # A key that is limited takes its limits along.
        (replace(BOB, tenant="birch"), TO_BOB, set()),
        (replace(BOB, tenant="birch"), TO_BIRCH, {PULL, PUSH}),
        (replace(BOB, tenant="acme"), TO_BOB, {PULL, PUSH}),
        (replace(BOB, at_most=Role.VIEWER), TO_BOB, {PULL}),
        # A robot of the granted tenant, if its patterns name the repository.
        (BIRCH_ROBOT, TO_BIRCH, {PULL, PUSH}),
        (replace(BIRCH_ROBOT, robot=(RobotScope("birch/*", frozenset({PULL})),)), TO_BIRCH, set()),
        (ROBOT, TO_BIRCH, set()),
        (replace(ROBOT, user_id="u-bob"), TO_BOB, set()),
        (replace(BILL, groups=frozenset({"g-crew"})), TO_CREW, {PULL, PUSH, DELETE, MANAGE}),
        (replace(BILL, groups=frozenset({"g-other"})), TO_CREW, set()),
        # Kinds do not mix, whatever their ids.
        (replace(BOB, user_id="g-crew"), TO_CREW, set()),
    ],
)
def test_visibility_and_grants_open_what_they_say(
    principal: Principal, access: RepositoryAccess, actions: set[str]
) -> None:
    permitted = {
        action for action in (PULL, PUSH, DELETE, MANAGE) if access_permits(principal, WEB, action, access, NOW)
    }
    assert permitted == actions


async def test_a_listing_shows_the_tenants_of_the_principal_and_no_more_than_its_token(
    local_registry: RegistryService,
) -> None:
    visible = local_registry.rights.visible
    assert (await visible(VERA)).tenants == ("acme",)
    assert (await visible(BOTH)).tenant_ids == ("t-acme", "t-birch")
    assert (await visible(ANONYMOUS)).tenants == ()
    assert (await visible(ROOT)).everything
    assert (await visible(VERA)).among is None
    assert (await visible(confined(VERA, PULL))).among == (WEB,)
    assert (await visible(confined(VERA, PUSH))).among == ()
    assert (await visible(confined(ROOT, PULL))).among == (WEB,)
    assert (await visible(replace(VERA, scopes=(CATALOG,)))).among is None
    robots = await visible(ROBOT)
    assert (robots.tenants, robots.user_id, robots.patterns) == ((), None, ("acme/web*", "birch/*"))


ROLES = st.dictionaries(st.sampled_from(["acme", "birch"]), st.sampled_from(Role), max_size=2)
GRANTS = st.builds(
    Grant,
    st.sampled_from(GranteeKind),
    st.sampled_from(["u-1", "u-2", "g-1", "g-2", "acme", "birch"]),
    st.sampled_from(Level),
    st.none() | st.timedeltas(timedelta(hours=-1), timedelta(hours=1)).map(lambda ahead: NOW + ahead),
)


@given(
    roles=ROLES,
    access=st.builds(RepositoryAccess, st.sampled_from(Visibility), st.lists(GRANTS, max_size=4).map(tuple)),
    groups=st.frozensets(st.sampled_from(["g-1", "g-2"])),
    platform_admin=st.booleans(),
    tenant=st.none() | st.sampled_from(["acme", "birch"]),
    role=st.none() | st.sampled_from(Role),
)
def test_a_limited_key_never_may_more_than_its_owner_or_its_role(
    roles: dict[str, Role],
    access: RepositoryAccess,
    groups: frozenset[str],
    platform_admin: bool,
    tenant: str | None,
    role: Role | None,
) -> None:
    standing = Standing("u-1", "ada", platform_admin, False, 1, roles, groups=groups)
    owner, key = standing.principal(), standing.limited_to(tenant, role)
    everybody = {action for action in NEEDED if access_permits(ANONYMOUS, WEB, action, access, NOW)}
    for action in NEEDED:
        by_key = role_permits(key, WEB, action) or access_permits(key, WEB, action, access, NOW)
        by_owner = role_permits(owner, WEB, action) or access_permits(owner, WEB, action, access, NOW)
        assert by_owner or not by_key
        if by_key and role is not None and action not in everybody:
            assert NEEDED[action] in permissions_of(role)
    assert everybody <= {PULL}
