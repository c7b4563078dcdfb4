"""Registry tokens carry what they were made for, and count for no more than who asked for them may now."""

from __future__ import annotations

from datetime import timedelta

import pytest

from common.clock import ManualClock
from control_plane.tenants.access import ANONYMOUS, Permission, Principal, RepositoryScope, Role
from control_plane.tenants.api_keys import ApiKeyInvalid
from control_plane.tenants.registry_tokens import ServiceUnknown
from control_plane.tenants.tenancy import Tenancy
from control_plane.tenants.tokens import TokenExpired, TokenInvalid

PASSWORD = "correct horse battery"
ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
SERVICE = "longshore"


def scope(repository: str, *actions: str) -> RepositoryScope:
    return RepositoryScope(repository, frozenset(actions))


async def issue(tenancy: Tenancy, *scopes: RepositoryScope, user: str = "ada") -> str:
    principal = await tenancy.auth.authenticate_basic(user, PASSWORD)
    return (await tenancy.registry_tokens.issue(principal, SERVICE, scopes)).token


async def test_a_token_opens_what_was_asked_for(tenancy: Tenancy, clock: ManualClock) -> None:
    ada = await tenancy.auth.authenticate_basic("ada", PASSWORD)
    token, expires_in, issued_at = await tenancy.registry_tokens.issue(
        ada, SERVICE, [scope("acme/web", "pull", "push"), scope("beta/base", "pull")]
    )
    assert (expires_in, issued_at) == (900, clock.now())
    principal = await tenancy.registry_tokens.verify(token)
    assert (principal.user_id, principal.name, principal.limited) == (ada.user_id, "ada", True)
    assert principal.may_on(Permission.IMAGE_PUSH, "acme/web")
    assert principal.may_on(Permission.IMAGE_PULL, "beta/base")
    assert not principal.may_on(Permission.IMAGE_PUSH, "acme/other")
    assert not principal.may(Permission.INSTANCE_WRITE, "acme")


async def test_the_catalogue_can_be_part_of_a_token(tenancy: Tenancy) -> None:
    asked = (scope("*", "catalog"), scope("acme/web", "pull"))
    assert (await tenancy.registry_tokens.verify(await issue(tenancy, *asked))).scopes == asked


async def test_nobody_can_have_a_token_and_stays_nobody(tenancy: Tenancy) -> None:
    issued = await tenancy.registry_tokens.issue(ANONYMOUS, SERVICE, [scope("acme/web", "pull")])
    nobody = await tenancy.registry_tokens.verify(issued.token)
    assert nobody.anonymous
    assert nobody.scopes == (scope("acme/web", "pull"),)
    assert not nobody.may_on(Permission.IMAGE_PULL, "acme/web")


async def test_a_lost_role_is_lost_for_tokens_that_were_made_before(tenancy: Tenancy) -> None:
    token = await issue(tenancy, scope("acme/web", "pull", "push"))
    await tenancy.tenants.put_member(ADMIN, "acme", "ada", Role.VIEWER)
    principal = await tenancy.registry_tokens.verify(token)
    assert principal.may_on(Permission.IMAGE_PULL, "acme/web")
    assert not principal.may_on(Permission.IMAGE_PUSH, "acme/web")
    await tenancy.tenants.remove_member(ADMIN, "acme", "ada")
    assert not (await tenancy.registry_tokens.verify(token)).may_on(Permission.IMAGE_PULL, "acme/web")


async def test_a_lost_platform_admin_is_lost_for_tokens_that_were_made_before(tenancy: Tenancy) -> None:
    await tenancy.accounts.set_state(ADMIN, "zoe", platform_admin=True)
    key = await tenancy.api_keys.create(await tenancy.auth.authenticate_basic("zoe", PASSWORD), "ci", tenant="acme")
    limited = await tenancy.auth.authenticate_bearer(key.text)
    issued = await tenancy.registry_tokens.issue(limited, SERVICE, [scope("acme/a", "delete"), scope("beta/b", "pull")])
    principal = await tenancy.registry_tokens.verify(issued.token)
    assert not principal.platform_admin
    assert principal.may_on(Permission.IMAGE_DELETE, "acme/a")
    assert not principal.may_on(Permission.IMAGE_PULL, "beta/b")
    await tenancy.accounts.set_state(ADMIN, "ada", platform_admin=True)
    await tenancy.accounts.set_state(ADMIN, "zoe", platform_admin=False)
    principal = await tenancy.registry_tokens.verify(issued.token)
    assert not principal.may_on(Permission.IMAGE_DELETE, "acme/a")


async def test_a_limited_key_gets_no_more_by_way_of_a_token(tenancy: Tenancy) -> None:
    ada = await tenancy.auth.authenticate_basic("ada", PASSWORD)
    key = await tenancy.api_keys.create(ada, "ci", tenant="acme", role=Role.VIEWER)
    limited = await tenancy.auth.authenticate_bearer(key.text)
    issued = await tenancy.registry_tokens.issue(limited, SERVICE, [scope("acme/a", "pull", "push")])
    principal = await tenancy.registry_tokens.verify(issued.token)
    assert (principal.roles, principal.tenant, principal.at_most) == ({"acme": Role.VIEWER}, "acme", Role.VIEWER)
    assert not principal.may_on(Permission.IMAGE_PUSH, "acme/a")
    again = await tenancy.registry_tokens.issue(principal, SERVICE, [scope("acme/a", "pull")])
    assert (await tenancy.registry_tokens.verify(again.token)).key_id == key.key.id
    await tenancy.api_keys.revoke(ada, key.key.id)
    for token in (issued.token, again.token):
        with pytest.raises(ApiKeyInvalid):
            await tenancy.registry_tokens.verify(token)


async def test_a_token_lasts_fifteen_minutes(tenancy: Tenancy, clock: ManualClock) -> None:
    token = await issue(tenancy, scope("acme/web", "pull"))
    clock.tick(899)
    await tenancy.registry_tokens.verify(token)
    clock.tick(1)
    with pytest.raises(TokenExpired):
        await tenancy.registry_tokens.verify(token)
    # What was begun with it may be finished, if its user still stands behind it.
    assert (await tenancy.registry_tokens.verify(token, timedelta(hours=1))).name == "ada"
    with pytest.raises(TokenExpired):
        await tenancy.registry_tokens.verify(token)
    await tenancy.accounts.set_state(ADMIN, "ada", disabled=True)
    with pytest.raises(TokenInvalid):
        await tenancy.registry_tokens.verify(token, timedelta(hours=1))


async def test_a_token_ends_with_its_users_password(tenancy: Tenancy) -> None:
    token = await issue(tenancy, scope("acme/web", "pull"))
    await tenancy.accounts.set_password(ADMIN, "ada", "another good one")
    with pytest.raises(TokenInvalid):
        await tenancy.registry_tokens.verify(token)


async def test_a_token_is_made_for_this_registry_only(tenancy: Tenancy) -> None:
    ada = await tenancy.auth.authenticate_basic("ada", PASSWORD)
    with pytest.raises(ServiceUnknown):
        await tenancy.registry_tokens.issue(ada, "registry.example.org", [])
    with pytest.raises(ServiceUnknown):
        await tenancy.registry_tokens.issue(ada, "longshore:api", [])


@pytest.mark.parametrize("token", ["", "a.b.c", "lsk_x"])
async def test_what_is_no_token_is_refused(tenancy: Tenancy, token: str) -> None:
    with pytest.raises(TokenInvalid):
        await tenancy.registry_tokens.verify(token)
