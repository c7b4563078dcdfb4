"""Is this the user's password? The one place that asks, for logins and for Basic authentication alike.

Invariant: every answer but yes is the same (`CredentialsWrong`) and takes the same time, whether the name is unknown,
the password wrong or the user disabled; every failure is counted before the next guess of the same slot is looked at.
"""

from __future__ import annotations

from common.errors import Unauthenticated
from control_plane.audit.model import Act, Outcome
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.tenants import user_store
from control_plane.tenants.acting import login_act
from control_plane.tenants.model import User
from control_plane.tenants.passwords import Passwords
from control_plane.tenants.throttle import LoginThrottle


class CredentialsWrong(Unauthenticated):
    code = "credentials_wrong"


class Credentials:
    def __init__(self, database: Database, passwords: Passwords, throttle: LoginThrottle, trail: AuditTrail) -> None:
        self._database = database
        self._passwords = passwords
        self._throttle = throttle
        self._trail = trail

    async def check(self, username: str, password: str, client: str) -> User:
        """Raises `CredentialsWrong`, `LoginsThrottled`, or `Unavailable` when too many logins are being checked."""
        await self._throttle.check(username, client)
        async with self._passwords.slot():
            # Again: a crowd of guesses that arrived together gets past the limit by at most the number of slots.
            await self._throttle.check(username, client)
            user = await self._find(username)
            verdict = await self._passwords.verify(password, user.password_hash if user is not None else None)
            if user is None or user.disabled or not verdict.matches:
                await self._throttle.failed(username, client)
                await self._trail.refused(_failed(user))
                raise CredentialsWrong("the user name or the password is wrong", action="check both and try again")
        await self._throttle.succeeded(username)
        if verdict.better_hash is not None:
            async with self._database.transaction() as unit:
                await user_store.replace_hash(unit.connection, user.id, user.password_hash, verdict.better_hash)
        return user

    async def _find(self, username: str) -> User | None:
        async with self._database.reading() as connection:
            return await user_store.find_user(connection, username)


def _failed(user: User | None) -> Act:
    why = "no such user" if user is None else "the user is disabled" if user.disabled else "wrong password"
    return login_act(user, "tenants.login_failed", Outcome.DENIED, why)
