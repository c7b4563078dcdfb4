"""Guessing passwords is slow: after ten failures in five minutes a name, or an address, has to wait.

Invariant: names that do not exist are counted like those that do, so that waiting tells nothing. The counters are in
the cache; without it logins go on uncounted (hashing slots still bound them), because locking everybody out is worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import structlog

from common.clock import Clock
from common.errors import RateLimited, Unavailable
from control_plane.cache import Cache
from control_plane.tenants.model import TenantSettings

log = structlog.get_logger()


class LoginsThrottled(RateLimited):
    code = "logins_throttled"


class LoginThrottle:
    def __init__(self, cache: Cache, clock: Clock, settings: TenantSettings) -> None:
        self._cache = cache
        self._clock = clock
        self._limit = settings.login_failures
        self._window = settings.login_window.total_seconds()

    async def check(self, user: str, client: str) -> None:
        """Raises `LoginsThrottled`. `client` is "" when the address is unknown."""
        now = self._clock.now().timestamp()
        try:
            for subject in _subjects(user, client):
                until = await self._cache.get(f"{subject}/wait")
                if until is not None and float(until) > now:
                    raise LoginsThrottled(
                        "too many failed logins",
                        action="wait, then try again with the right password",
                        retry_after_seconds=float(until) - now,
                    )
        except Unavailable:
            log.warning("cache away, failed logins are not counted")

    async def failed(self, user: str, client: str) -> None:
        until = self._clock.now().timestamp() + self._window
        try:
            for subject in _subjects(user, client):
                if await self._cache.increment(f"{subject}/failures", self._window) >= self._limit:
                    await self._cache.set(f"{subject}/wait", str(until).encode(), self._window)
                    log.warning("logins throttled", subject=subject.rpartition("/")[0])
        except Unavailable:
            return

    async def succeeded(self, user: str) -> None:
        """Forgets the name's failures; not the address's, or a guesser could clear it with an account of its own."""
        try:
            await self._cache.delete(f"{next(_subjects(user, ''))}/failures")
        except Unavailable:
            return


def _subjects(user: str, client: str) -> Iterator[str]:
    # Hashed, because keys are short printable ASCII and what is typed as a name can be anything, even a password.
    yield f"tenants/login/user/{hashlib.sha256(user.encode()).hexdigest()}"
    if client:
        yield f"tenants/login/client/{hashlib.sha256(client.encode()).hexdigest()}"
