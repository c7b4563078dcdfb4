from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import Denied, Failure, Unauthenticated
from control_plane.registry.access import grant, may, require, visible_repositories, visible_tenants
from control_plane.registry.failures import RepositoryUnknown, ScopeInsufficient
from control_plane.registry.scopes import CATALOG, DELETE, PULL, PUSH
from control_plane.tenants.access import ANONYMOUS, Principal, RepositoryScope
from tests.control_plane.registry.people import ADA, BOB, OTTO, ROOT, VERA

WEB = "acme/web"


def confined(principal: Principal, *actions: str, repository: str = WEB) -> Principal:
    return replace(principal, scopes=(RepositoryScope(repository, frozenset(actions)),))


@pytest.mark.parametrize(
    ("principal", "action", "refusal"),
    [
        (ADA, PULL, None),
        (ADA, PUSH, None),
        (ADA, DELETE, None),
        (OTTO, PUSH, None),
        (OTTO, DELETE, Denied),
        (VERA, PULL, None),
        (VERA, PUSH, Denied),
        (ROOT, DELETE, None),
        # What is not yours does not exist when you read, and is refused when you write.
        (BOB, PULL, RepositoryUnknown),
        (BOB, PUSH, Denied),
        (BOB, DELETE, Denied),
        (ANONYMOUS, PULL, Unauthenticated),
        (ANONYMOUS, PUSH, Unauthenticated),
        # A registry token narrows; it never widens.
        (confined(ADA, PULL), PULL, None),
        (confined(ADA, PULL), PUSH, ScopeInsufficient),
        (confined(ADA, PULL, repository="acme/other"), PULL, ScopeInsufficient),
        (confined(VERA, PULL, PUSH), PUSH, Denied),
        (confined(BOB, PULL), PULL, RepositoryUnknown),
        (confined(ROOT, PULL), DELETE, ScopeInsufficient),
        (replace(ADA, scopes=()), PULL, ScopeInsufficient),
    ],
)
def test_role_and_token_decide_together(principal: Principal, action: str, refusal: type[Failure] | None) -> None:
    assert may(principal, WEB, action) is (refusal is None)
    if refusal is None:
        require(principal, WEB, action)
    else:
        with pytest.raises(refusal) as refused:
            require(principal, WEB, action)
        assert type(refused.value) is refusal


def test_a_foreign_tenant_and_none_at_all_look_the_same() -> None:
    for action in (PULL, PUSH):
        answers = []
        for name in ("acme/web", "absent/web"):
            with pytest.raises(Failure) as refused:
                require(BOB, name, action)
            answers.append(str(refused.value).replace(name, "?"))
        assert answers[0] == answers[1]


def test_a_grant_is_what_the_role_permits_of_what_was_asked() -> None:
    asked = [RepositoryScope(WEB, frozenset({PULL, PUSH, DELETE})), RepositoryScope("birch/x", frozenset({PULL}))]
    assert grant(OTTO, asked) == (RepositoryScope(WEB, frozenset({PULL, PUSH})),)
    assert grant(VERA, asked) == (RepositoryScope(WEB, frozenset({PULL})),)
    assert grant(ANONYMOUS, asked) == ()
    assert grant(BOB, [CATALOG]) == (CATALOG,)
    assert grant(confined(ADA, PULL), asked) == (RepositoryScope(WEB, frozenset({PULL})),)


def test_a_listing_shows_the_tenants_of_the_principal_and_no_more_than_its_token() -> None:
    assert visible_tenants(VERA) == ("acme",)
    assert visible_tenants(ANONYMOUS) == ()
    assert visible_tenants(ROOT) is None
    assert visible_repositories(VERA) is None
    assert visible_repositories(confined(VERA, PULL)) == (WEB,)
    assert visible_repositories(confined(VERA, PUSH)) == ()
    assert visible_repositories(replace(VERA, scopes=(CATALOG,))) is None
