"""Logins, and changes of who may what, are in the audit trail; what was typed as a name is not."""

from __future__ import annotations

import base64

import pytest
from sqlalchemy import text

from common.errors import Unauthenticated
from control_plane.audit.model import OperatorKind
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.tenants.access import ANONYMOUS, Principal, RobotScope, Role
from control_plane.tenants.acting import act_of, operator_of
from control_plane.tenants.auditing import owner_in
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.origin import bound
from tests.control_plane.tenants.conftest import ADMIN, PASSWORD, BuildTenancy


@pytest.fixture
def trail(database: Database) -> AuditTrail:
    return AuditTrail(database, database.clock)


async def recorded(database: Database, trail: AuditTrail) -> list[tuple[str, str, str]]:
    """Operation, operator and subject of everything since the last call."""
    await trail.flush()
    async with database.transaction() as unit:
        fields = "entry->>'operation', entry->>'operator', entry->>'subject'"
        rows = (await unit.connection.execute(text(f"SELECT {fields} FROM audit_inbox ORDER BY id"))).all()
        await unit.connection.execute(text("DELETE FROM audit_inbox"))
    return [(row[0], row[1], row[2]) for row in rows]


async def test_who_may_what_is_changed_with_an_entry(
    tenancy: Tenancy, build: BuildTenancy, database: Database, trail: AuditTrail
) -> None:
    audited = build(trail=trail)
    await recorded(database, trail)
    await audited.accounts.create(ADMIN, "mia", PASSWORD)
    await audited.tenants.put_member(ADMIN, "acme", "mia", Role.VIEWER)
    await audited.tenants.remove_member(ADMIN, "acme", "mia")
    await audited.accounts.set_password(ADMIN, "mia", PASSWORD + "!")
    await audited.accounts.set_state(ADMIN, "mia", disabled=True)
    await audited.tenants.create(ADMIN, "delta")
    await audited.tenants.delete(ADMIN, "delta")
    assert await recorded(database, trail) == [
        ("tenants.user_created", "root", "mia"),
        ("tenants.member_put", "root", "mia"),
        ("tenants.member_removed", "root", "mia"),
        ("tenants.password_changed", "root", "mia"),
        ("tenants.user_changed", "root", "mia"),
        ("tenants.tenant_created", "root", ""),
        ("tenants.tenant_deleted", "root", ""),
    ]


async def test_logins_of_every_kind_are_recorded(
    tenancy: Tenancy, build: BuildTenancy, database: Database, trail: AuditTrail
) -> None:
    audited = build(trail=trail)
    await recorded(database, trail)
    login = await audited.sessions.login("ada", PASSWORD)
    await audited.sessions.logout(login.access_token, None)
    basic = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    for _ in range(3):  # remembered for a minute: one login
        await audited.auth.authenticate(basic)
    for name in ("ada", "a password typed as a name"):
        with pytest.raises(Unauthenticated):
            await audited.sessions.login(name, "wrong")
    # What commits with its change stands before what was buffered.
    assert sorted(await recorded(database, trail)) == [
        ("tenants.login", "ada", "ada"),
        ("tenants.login", "ada", "ada"),
        ("tenants.login_failed", "ada", "ada"),
        ("tenants.login_failed", "anonymous", ""),
        ("tenants.logout", "ada", "ada"),
    ]


def test_operators_are_who_asks_or_the_system() -> None:
    robot = Principal("r-1", "robot$acme+ci", robot=(RobotScope("acme/*", frozenset({"pull"})),), key_id="k-1")
    assert operator_of(robot).kind is OperatorKind.ROBOT
    assert operator_of(ANONYMOUS).kind is OperatorKind.ANONYMOUS
    assert operator_of(None).kind is OperatorKind.SYSTEM
    with bound({"type": "http", "longshore.principal": robot}):
        assert operator_of(None).name == "robot$acme+ci"
    assert act_of(robot, "registry.pull").details == {"key_id": "k-1"}


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/api/v1/tenants/acme/members/x", ("acme", "")),
        ("/api/v1/repositories/acme/web/front/-/grants", ("acme", "acme/web/front")),
        ("/api/v1/users/ada", ("", "")),
        ("/api/v1/tenants", ("", "")),
    ],
)
def test_the_owner_stands_in_the_path(path: str, owner: tuple[str, str]) -> None:
    assert owner_in(path) == owner
