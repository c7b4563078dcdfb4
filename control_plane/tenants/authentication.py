"""An `Authorization` header becomes a principal; implements `principals.Authenticator`.

Invariant: no header is the anonymous principal, a header that is wrong in any way is `Unauthenticated`. A token costs
one cached look-up. A password costs 25 ms of argon2id, so what was right is remembered for a minute under a keyed hash
that only this process can make: the cache never holds anything that a password could be guessed from.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from common.errors import Unauthenticated, Unavailable
from control_plane.audit.model import Outcome
from control_plane.audit.service import AuditTrail
from control_plane.cache import Cache
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.tenants.acting import login_act
from control_plane.tenants.api_keys import KEY_PREFIX, ApiKeyService
from control_plane.tenants.credentials import Credentials
from control_plane.tenants.model import TenantSettings, User
from control_plane.tenants.robot_keys import ROBOT_PREFIX, RobotKeys
from control_plane.tenants.standings import Standings
from control_plane.tenants.throttle import LoginThrottle
from control_plane.tenants.tokens import AccessTokens, TokenInvalid

_KEY_PREFIXES = (KEY_PREFIX, ROBOT_PREFIX)
# The prefix and the id: what of a key may be looked at.
_KEY_NAME_LENGTH = 36


class HeaderInvalid(Unauthenticated):
    code = "authorization_invalid"


class AuthService:
    """Bearer access tokens, Bearer API keys and robots' keys, Basic with a password or a key in its place."""

    def __init__(
        self,
        cache: Cache,
        credentials: Credentials,
        standings: Standings,
        tokens: AccessTokens,
        api_keys: ApiKeyService,
        robot_keys: RobotKeys,
        throttle: LoginThrottle,
        trail: AuditTrail,
        settings: TenantSettings,
    ) -> None:
        self._cache = cache
        self._credentials = credentials
        self._robot_keys = robot_keys
        self._throttle = throttle
        self._trail = trail
        self._standings = standings
        self._tokens = tokens
        self._api_keys = api_keys
        self._basic_seconds = settings.basic_lifetime.total_seconds()
        self._pepper = secrets.token_bytes(32)
        self._checking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        """Raises `Unauthenticated`, or `LoginsThrottled` after too many wrong passwords."""
        if authorization_header is None:
            return ANONYMOUS
        scheme, _, value = authorization_header.strip().partition(" ")
        value = value.strip()
        if scheme.lower() == "bearer" and value:
            return await self.authenticate_bearer(value, client)
        if scheme.lower() == "basic" and value:
            username, password = _parse_basic(value)
            return await self.authenticate_basic(username, password, client)
        raise HeaderInvalid(
            "the Authorization header is neither Bearer nor Basic", action="send an access token or an API key"
        )

    async def authenticate_bearer(self, token: str, client: str = "") -> Principal:
        """An access token, an API key or a robot's key. Raises `Unauthenticated`, `LoginsThrottled`."""
        if token.startswith(_KEY_PREFIXES):
            return await self._by_key(token, token[:_KEY_NAME_LENGTH], client)
        found = await self._tokens.read(token)
        standing = await self._standings.get(found.user_id)
        if standing is None or standing.disabled or standing.token_generation != found.generation:
            raise _ended()
        if await self._standings.has_ended(standing, found.id):
            raise _ended()
        return standing.principal()

    async def authenticate_basic(self, username: str, password: str, client: str = "") -> Principal:
        """A name with its password, or any name with a key. Raises as `authenticate`."""
        if password.startswith(_KEY_PREFIXES):
            return await self._by_key(password, username, client)
        key = self._key(username, password)
        # A pull opens a dozen connections with the same password at once: one of them checks, the others learn.
        async with self._one_at_a_time(key):
            principal = await self._recall(key)
            if principal is None:
                user = await self._credentials.check(username, password, client)
                await self._remember(key, user)
                standing = await self._standings.get(user.id)
                if standing is None or standing.disabled:
                    raise _ended()
                principal = standing.principal()
                # A `docker login`, say; as long as it is remembered it is the same one.
                self._trail.note(login_act(user, "tenants.login", Outcome.SUCCESS, details={"via": "basic"}))
        return principal

    async def _by_key(self, key: str, name: str, client: str) -> Principal:
        """A right key always opens: nobody guesses 256 bits, and a fleet of builders behind one address must not be
        shut out by one of them that kept an old key. Wrong ones are counted, apart from passwords, and slowed down.
        """
        keys = self._robot_keys if key.startswith(ROBOT_PREFIX) else self._api_keys
        try:
            return await keys.authenticate(key)
        except Unauthenticated:
            name, client = f"key {name}", f"key {client}" if client else ""
            await self._throttle.check(name, client)
            await self._throttle.failed(name, client)
            await self._trail.refused(login_act(None, "tenants.login_failed", Outcome.DENIED, "no such key"))
            raise

    async def _recall(self, key: str) -> Principal | None:
        try:
            kept = await self._cache.get(key)
        except Unavailable:
            return None
        if kept is None:
            return None
        user_id, generation = json.loads(kept)
        standing = await self._standings.get(user_id)
        if standing is None or standing.disabled or standing.token_generation != generation:
            return None
        return standing.principal()

    async def _remember(self, key: str, user: User) -> None:
        with contextlib.suppress(Unavailable):
            await self._cache.set(key, json.dumps([user.id, user.token_generation]).encode(), self._basic_seconds)

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self, key: str) -> AsyncIterator[None]:
        lock = self._checking.get(key)
        if lock is None:
            lock = self._checking[key] = asyncio.Lock()
        async with lock:
            yield

    def _key(self, username: str, password: str) -> str:
        text = f"{len(username)}:{username}:{password}".encode("utf-8", errors="surrogatepass")
        return f"tenants/basic/{hmac.new(self._pepper, text, hashlib.sha256).hexdigest()}"


def _parse_basic(value: str) -> tuple[str, str]:
    # RFC 7617: base64 of name, colon, password; UTF-8 as our challenges say.
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    username, colon, password = text.partition(":")
    if not colon:
        raise HeaderInvalid("the Basic credentials cannot be read", action="send base64 of name:password")
    return username, password


def _ended() -> TokenInvalid:
    return TokenInvalid("the login has ended", action="log in again")
