"""Logging in and out: an access token for a day, and a refresh token that is good for one use.

Invariant: a refresh token that is used twice was stolen from one of its two users, so its family ends, with every
access token that came from it (RFC 9700 section 4.14.2). What was ended stays ended: the row is committed before the
answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from common.clock import Clock
from common.errors import Unauthenticated
from common.identifiers import new_id
from control_plane.audit.model import Outcome
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import token_store, user_store
from control_plane.tenants.acting import login_act
from control_plane.tenants.credentials import Credentials
from control_plane.tenants.model import AccessToken, Login, RefreshToken, Standing, TenantSettings, User
from control_plane.tenants.opaque import OpaqueSecret
from control_plane.tenants.standings import Standings
from control_plane.tenants.tokens import AccessTokens

log = structlog.get_logger()

REFRESH_PREFIX = "lsr_"


class RefreshTokenInvalid(Unauthenticated):
    code = "refresh_token_invalid"


class RefreshTokenReused(RefreshTokenInvalid):
    """It was used before: every login that came from it has ended."""

    code = "refresh_token_reused"


@dataclass(frozen=True, slots=True)
class _Issued:
    """A row that was written, and what the tokens for it are made of."""

    row: RefreshToken
    refresh_token: str
    user: User


class SessionService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        credentials: Credentials,
        standings: Standings,
        tokens: AccessTokens,
        settings: TenantSettings,
        trail: AuditTrail,
    ) -> None:
        self._trail = trail
        self._database = database
        self._clock = clock
        self._credentials = credentials
        self._standings = standings
        self._tokens = tokens
        self._settings = settings

    async def login(self, username: str, password: str, client: str = "") -> Login:
        """Raises `CredentialsWrong`, `LoginsThrottled`."""
        user = await self._credentials.check(username, password, client)
        async with self._database.transaction() as unit:
            issued = await self._add(unit, user, family_id=None)
            self._trail.record(unit, login_act(user, "tenants.login", Outcome.SUCCESS))
        log.info("user logged in", user=user.name)
        return await self._login(issued)

    async def refresh(self, refresh_token: str) -> Login:
        """Raises `RefreshTokenInvalid`, `RefreshTokenReused`. A lost answer means a new login, never a second use."""
        given = OpaqueSecret.parse(REFRESH_PREFIX, refresh_token)
        if given is None:
            raise _invalid()
        async with self._database.transaction() as unit:
            token = await token_store.find_refresh_token(unit.connection, given.id)
            if token is None or not given.matches(token.secret_hash) or token.expires_at <= self._clock.now():
                raise _invalid()
            issued = await self._exchange(unit, token)
        if issued is None:
            # Raised only here: raised above, it would undo the end of the family.
            await self._standings.forget([token.user_id])
            log.warning("refresh token used twice", user_id=token.user_id, family=token.family_id)
            raise RefreshTokenReused(
                "this refresh token was used before; its login has been ended", action="log in again"
            )
        return await self._login(issued)

    async def logout(self, access_token: str | None, refresh_token: str | None) -> None:
        """End what the tokens belong to. Whatever is no token of ours is no login either, so nothing is left to end;
        only sending none at all raises `Unauthenticated`.
        """
        if not access_token and not refresh_token:
            raise Unauthenticated("no token says which login to end", action="send the access or the refresh token")
        access = await self._read(access_token) if access_token else None
        given = OpaqueSecret.parse(REFRESH_PREFIX, refresh_token or "")
        ended: set[str] = set()
        async with self._database.transaction() as unit:
            now = self._clock.now()
            if access is not None:
                await token_store.revoke_access(unit.connection, access.id, access.user_id, access.expires_at)
                family = await token_store.family_of_access(unit.connection, access.id)
                if family is not None:
                    await token_store.revoke_family(unit.connection, family, now)
                ended.add(access.user_id)
            token = await token_store.find_refresh_token(unit.connection, given.id) if given is not None else None
            if token is not None and given is not None and given.matches(token.secret_hash):
                await token_store.revoke_family(unit.connection, token.family_id, now)
                ended.add(token.user_id)
            for user_id in ended:
                user = await user_store.find_user_by_id(unit.connection, user_id)
                self._trail.record(unit, login_act(user, "tenants.logout", Outcome.SUCCESS))
        await self._standings.forget(ended)

    async def forget_expired(self) -> int:
        """For a periodic job: drop rows that can end or renew nothing any more; returns how many."""
        async with self._database.transaction() as unit:
            return await token_store.forget_expired(unit.connection, self._clock.now())

    async def _exchange(self, unit: UnitOfWork, token: RefreshToken) -> _Issued | None:
        """The next link of the family, or None after ending it because this one was used before."""
        if not await token_store.use_refresh_token(unit.connection, token.id, self._clock.now()):
            await token_store.revoke_family(unit.connection, token.family_id, self._clock.now())
            user = await user_store.find_user_by_id(unit.connection, token.user_id)
            self._trail.record(unit, login_act(user, "tenants.refresh_token_reused", Outcome.DENIED))
            return None
        user = await user_store.find_user_by_id(unit.connection, token.user_id)
        if user is None or user.disabled or user.token_generation != token.generation:
            raise _invalid()
        return await self._add(unit, user, token.family_id)

    async def _add(self, unit: UnitOfWork, user: User, family_id: str | None) -> _Issued:
        now = self._clock.now()
        secret = OpaqueSecret.generate(new_id(self._clock))
        row = RefreshToken(
            id=secret.id,
            family_id=family_id or secret.id,
            user_id=user.id,
            secret_hash=secret.hash,
            # Of the row that the password was checked against: if it has changed since, this login is void.
            generation=user.token_generation,
            access_id=new_id(self._clock),
            access_expires_at=now + self._settings.access_lifetime,
            created_at=now,
            expires_at=now + self._settings.refresh_lifetime,
            used_at=None,
            revoked_at=None,
        )
        await token_store.add_refresh_token(unit.connection, row)
        return _Issued(row, secret.text(REFRESH_PREFIX), user)

    async def _login(self, issued: _Issued) -> Login:
        row, user = issued.row, issued.user
        held = await self._standings.get(user.id)
        roles = held.roles if held is not None else {}
        standing = Standing(user.id, user.name, user.platform_admin, user.disabled, row.generation, roles)
        access_token = await self._tokens.issue(row.access_id, standing, row.created_at, row.access_expires_at)
        expires_in = int((row.access_expires_at - row.created_at).total_seconds())
        return Login(access_token, issued.refresh_token, expires_in)

    async def _read(self, access_token: str) -> AccessToken | None:
        try:
            return await self._tokens.read(access_token)
        except Unauthenticated:
            return None


def _invalid() -> RefreshTokenInvalid:
    return RefreshTokenInvalid("the refresh token is not valid any more", action="log in again")
