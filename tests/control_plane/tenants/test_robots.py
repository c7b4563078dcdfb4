"""Robots: what their keys open, and until when."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.errors import Denied, NotFound, Unauthenticated
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.tenants.access import Permission, Principal, RepositoryScope, RobotScope, Role
from control_plane.tenants.api_keys import ExpiryInPast
from control_plane.tenants.robot_keys import RobotKeyInvalid
from control_plane.tenants.robot_model import RobotNameInvalid, RobotScopeInvalid, check_robot_scopes
from control_plane.tenants.robots import MAX_KEYS, RobotChange, RobotExists, RobotKeyUnknown, RobotUnknown
from control_plane.tenants.tenancy import Tenancy
from control_plane.tenants.throttle import LoginsThrottled
from control_plane.web.paging import PageRequest

ADMIN = Principal(user_id="admin", name="root", platform_admin=True)
PUSHER = (RobotScope("acme/web*", frozenset({"pull", "push"})),)
PAGE = PageRequest(1, 50)


async def made(tenancy: Tenancy, name: str = "ci", **more: object) -> str:
    return (await tenancy.robots.create(ADMIN, "acme", name, PUSHER, **more)).text  # type: ignore[arg-type]


async def test_a_robots_key_speaks_for_the_robot_wherever_it_is_shown(tenancy: Tenancy) -> None:
    key = await made(tenancy)
    for principal in (
        await tenancy.auth.authenticate_bearer(key),
        await tenancy.auth.authenticate_basic("robot/acme/ci", key),
        await tenancy.auth.authenticate(f"Bearer {key}"),
    ):
        assert (principal.name, principal.tenant, principal.robot) == ("robot/acme/ci", "acme", PUSHER)
        assert principal.limited
        assert not principal.anonymous


async def test_a_robot_has_no_right_but_its_scopes(tenancy: Tenancy) -> None:
    robot = await tenancy.auth.authenticate_bearer(await made(tenancy))
    for permission in Permission:
        assert not robot.may(permission, "acme")
        assert not robot.may(permission)
    with pytest.raises(Denied):
        robot.require_whole()
    for use in (
        tenancy.robots.list(robot, "acme", PAGE),
        tenancy.robots.create(robot, "acme", "more", PUSHER),
        tenancy.robots.rotate(robot, "acme", "ci"),
        tenancy.api_keys.create(robot, "ci"),
        tenancy.tenants.list(robot, PAGE),
    ):
        with pytest.raises((Denied, NotFound)):
            await use


async def test_only_who_manages_the_tenant_manages_its_robots(tenancy: Tenancy) -> None:
    await made(tenancy)
    operator = Principal("o", "otto", roles={"acme": Role.OPERATOR})
    stranger = Principal("b", "bob", roles={"beta": Role.ADMIN})
    limited = Principal("a", "ada", roles={"acme": Role.ADMIN}, limited=True)
    for principal, refusal in ((operator, Denied), (stranger, NotFound), (limited, Denied)):
        for use in (
            tenancy.robots.create(principal, "acme", "x", PUSHER),
            tenancy.robots.change(principal, "acme", "ci", RobotChange(disabled=True)),
            tenancy.robots.rotate(principal, "acme", "ci"),
            tenancy.robots.end_key(principal, "acme", "ci", "x"),
            tenancy.robots.delete(principal, "acme", "ci"),
        ):
            with pytest.raises(refusal):
                await use
    # The name of another tenant's robot under one's own tenant is the name of nobody.
    with pytest.raises(RobotUnknown):
        await tenancy.robots.get(stranger, "beta", "ci")
    with pytest.raises(RobotUnknown):
        await tenancy.robots.delete(stranger, "beta", "ci")


async def test_a_disabled_expired_or_deleted_robot_is_refused_at_once(tenancy: Tenancy, clock: ManualClock) -> None:
    keys = {name: await made(tenancy, name) for name in ("off", "gone", "old")}
    await tenancy.robots.change(ADMIN, "acme", "old", RobotChange(expires_at=clock.now() + timedelta(hours=1)))
    tokens = {}
    for name, key in keys.items():
        robot = await tenancy.auth.authenticate_bearer(key)
        scope = RepositoryScope("acme/web", frozenset({"pull"}))
        tokens[name] = (await tenancy.registry_tokens.issue(robot, "longshore", [scope])).token
        assert (await tenancy.registry_tokens.verify(tokens[name])).robot == PUSHER
    await tenancy.robots.change(ADMIN, "acme", "off", RobotChange(disabled=True))
    await tenancy.robots.delete(ADMIN, "acme", "gone")
    for name in ("off", "gone"):
        with pytest.raises(RobotKeyInvalid):
            await tenancy.auth.authenticate_bearer(keys[name])
        with pytest.raises(RobotKeyInvalid):
            await tenancy.registry_tokens.verify(tokens[name])
    await tenancy.auth.authenticate_bearer(keys["old"])
    clock.tick(3600)
    with pytest.raises(RobotKeyInvalid):
        await tenancy.auth.authenticate_bearer(keys["old"])
    await tenancy.robots.change(ADMIN, "acme", "old", RobotChange(never_expires=True))
    await tenancy.robots.change(ADMIN, "acme", "off", RobotChange(disabled=False))
    for name in ("off", "old"):
        await tenancy.auth.authenticate_bearer(keys[name])


async def test_a_smaller_scope_counts_for_tokens_made_before(tenancy: Tenancy) -> None:
    robot = await tenancy.auth.authenticate_bearer(await made(tenancy))
    scope = RepositoryScope("acme/web", frozenset({"pull", "push"}))
    token = (await tenancy.registry_tokens.issue(robot, "longshore", [scope])).token
    smaller = (RobotScope("acme/other", frozenset({"pull"})),)
    await tenancy.robots.change(ADMIN, "acme", "ci", RobotChange(scopes=smaller))
    assert (await tenancy.registry_tokens.verify(token)).robot == smaller


async def test_a_new_key_can_be_spread_before_the_old_one_ends(tenancy: Tenancy, clock: ManualClock) -> None:
    old = await made(tenancy)
    new = (await tenancy.robots.rotate(ADMIN, "acme", "ci", timedelta(hours=2))).text
    for key in (old, new):
        await tenancy.auth.authenticate_bearer(key)
    clock.tick(2 * 3600)
    with pytest.raises(RobotKeyInvalid):
        await tenancy.auth.authenticate_bearer(old)
    await tenancy.auth.authenticate_bearer(new)
    assert await tenancy.robots.forget_ended() == 1
    newest = (await tenancy.robots.rotate(ADMIN, "acme", "ci")).text
    with pytest.raises(RobotKeyInvalid):
        await tenancy.auth.authenticate_bearer(new)
    [key] = (await tenancy.robots.get(ADMIN, "acme", "ci")).keys
    with pytest.raises(RobotKeyUnknown):
        await tenancy.robots.end_key(ADMIN, "acme", "ci", "x")
    await tenancy.robots.end_key(ADMIN, "acme", "ci", key.id)
    with pytest.raises(RobotKeyInvalid):
        await tenancy.auth.authenticate_bearer(newest)


async def test_keys_are_bounded_and_their_use_is_recorded(tenancy: Tenancy, clock: ManualClock) -> None:
    key = await made(tenancy)
    for _ in range(MAX_KEYS - 1):
        await tenancy.robots.rotate(ADMIN, "acme", "ci", None)
    with pytest.raises(Exception, match="has 10 keys"):
        await tenancy.robots.rotate(ADMIN, "acme", "ci", None)
    assert (await tenancy.robots.get(ADMIN, "acme", "ci")).last_used_at is None
    clock.tick(10)
    await tenancy.auth.authenticate_bearer(key)
    assert (await tenancy.robots.get(ADMIN, "acme", "ci")).last_used_at == clock.now()


async def test_a_robot_goes_with_its_tenant(tenancy: Tenancy) -> None:
    made_key = await tenancy.robots.create(ADMIN, "gamma", "ci", [RobotScope("gamma/*", frozenset({"pull"}))])
    await tenancy.auth.authenticate_bearer(made_key.text)
    await tenancy.tenants.delete(ADMIN, "gamma")
    with pytest.raises(RobotKeyInvalid):
        await tenancy.auth.authenticate_bearer(made_key.text)


async def test_a_known_key_is_checked_without_a_query(
    tenancy: Tenancy, database: Database, count_queries: Callable[[Database], AbstractContextManager[object]]
) -> None:
    key = await made(tenancy)
    await tenancy.auth.authenticate_bearer(key)
    with count_queries(database) as seen:
        await tenancy.auth.authenticate_bearer(key)
    assert seen.count == 0  # type: ignore[attr-defined]


async def test_another_replica_learns_of_it_within_its_short_memory(
    tenancy: Tenancy, build: Callable[..., Tenancy], open_replica: Callable[[], Database], clock: ManualClock
) -> None:
    key = await made(tenancy)
    replica = build(open_replica(), MemoryCache(clock))
    await replica.auth.authenticate_bearer(key)
    await tenancy.robots.delete(ADMIN, "acme", "ci")
    clock.tick(30)
    with pytest.raises(RobotKeyInvalid):
        await replica.auth.authenticate_bearer(key)


async def test_wrong_keys_are_slowed_down_and_right_ones_are_not(tenancy: Tenancy) -> None:
    key = await made(tenancy)
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    refusals = []
    for _ in range(12):
        with pytest.raises((Unauthenticated, LoginsThrottled)) as refused:
            await tenancy.auth.authenticate_basic("robot/acme/ci", wrong, "192.0.2.9")
        refusals.append(type(refused.value))
    assert refusals == [RobotKeyInvalid] * 10 + [LoginsThrottled] * 2
    with pytest.raises(LoginsThrottled):
        await tenancy.auth.authenticate_bearer("lsk_nonsense", "192.0.2.9")
    await tenancy.auth.authenticate_basic("robot/acme/ci", key, "192.0.2.9")
    # A builder with an old key shuts out nobody who logs in from there with a password.
    await tenancy.auth.authenticate_basic("ada", "correct horse battery", "192.0.2.9")


async def test_names_are_taken_once_and_bad_input_changes_nothing(tenancy: Tenancy, clock: ManualClock) -> None:
    await made(tenancy)
    with pytest.raises(RobotExists):
        await made(tenancy)
    for bad in ("", "A", "a/b", "a b", "-a", "x" * 65, "a\x00"):
        with pytest.raises(RobotNameInvalid):
            await made(tenancy, bad)
    with pytest.raises(ExpiryInPast):
        await made(tenancy, "late", expires_at=clock.now())
    with pytest.raises(RobotUnknown):
        await tenancy.robots.get(ADMIN, "acme", "a\x00")
    assert [robot.name for robot in (await tenancy.robots.list(ADMIN, "acme", PAGE)).items] == ["ci"]


@pytest.mark.parametrize(
    "pattern", ["*", "*/web", "acme", "acme/", "a*/web", "acme/**", "acme/../x", "acme/[a]", "acme/we?", "acme/W*", ""]
)
def test_a_pattern_stays_in_one_tenant_and_means_what_it_seems_to(pattern: str) -> None:
    with pytest.raises(RobotScopeInvalid):
        check_robot_scopes([RobotScope(pattern, frozenset({"pull"}))])


@pytest.mark.parametrize("actions", [set(), {"*"}, {"pull", "manage"}])
def test_a_scope_names_actions_that_there_are(actions: set[str]) -> None:
    with pytest.raises(RobotScopeInvalid):
        check_robot_scopes([RobotScope("acme/web", frozenset(actions))])


@given(st.text(alphabet="ab-/*", min_size=1, max_size=12), st.text(alphabet="ab-/", min_size=1, max_size=12))
def test_a_star_stands_for_any_characters_and_nothing_else_does(pattern: str, name: str) -> None:
    def fits(rest: str, left: str) -> bool:
        if not rest:
            return not left
        if rest[0] == "*":
            return any(fits(rest[1:], left[place:]) for place in range(len(left) + 1))
        return bool(left) and left[0] == rest[0] and fits(rest[1:], left[1:])

    assert RobotScope(pattern, frozenset()).fits(name) == fits(pattern, name)
