"""Passwords: argon2id with the parameters OWASP names, bcrypt accepted from elsewhere and replaced at the next login.

Invariant: a wrong password and an unknown user cost the same time, and hashing never runs on the event loop: one hash
takes 25 ms and 19 MiB, so at most `slots` run at once and a bounded number waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from common.errors import Invalid, Unavailable

# OWASP Password Storage Cheat Sheet: argon2id, 19 MiB, two passes, one lane. 25 ms here; the library's default is 169.
_MEMORY_KIB = 19 * 1024
_PASSES = 2
_LANES = 1
# bcrypt hashes the first 72 bytes; the systems that made such hashes cut silently, bcrypt 5 raises instead.
_BCRYPT_BYTES = 72
MAX_PASSWORD_LENGTH = 1024
# No letters or digits that look alike: the first password is read from a terminal and typed.
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_GENERATED_LENGTH = 24
_WAITING_PER_SLOT = 16
_WAIT_SECONDS = 10.0


class PasswordWeak(Invalid):
    code = "password_weak"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`better_hash`: what to store instead, if the hash that matched is of an older kind."""

    matches: bool
    better_hash: str | None = None


def generate_password() -> str:
    """24 characters of 57: 139 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_GENERATED_LENGTH))


def check_new_password(password: str, user: str, minimum_length: int) -> None:
    """Raises `PasswordWeak`. Length is what counts (NIST SP 800-63B section 5.1.1.2): no rules on its letters."""
    if not minimum_length <= len(password) <= MAX_PASSWORD_LENGTH:
        raise PasswordWeak(
            f"the password has {len(password)} characters",
            action=f"use {minimum_length} to {MAX_PASSWORD_LENGTH} characters",
        )
    if hmac.compare_digest(password.casefold().encode(), user.casefold().encode()):
        raise PasswordWeak("the password is the user's name", action="choose another one")


class Passwords:
    """Hashes and verifies, a few at a time."""

    def __init__(self, slots: int = 4) -> None:
        self._argon2 = Argon2Hasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES)
        self._hash = PasswordHash((self._argon2, BcryptHasher()))
        self._slots = asyncio.Semaphore(slots)
        self._waiting = 0
        self._most_waiting = slots * _WAITING_PER_SLOT
        self._nobody: str | None = None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one while hashing. Raises `Unavailable` when too many wait already, or after 10 s."""
        if self._waiting >= self._most_waiting:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def hash(self, password: str) -> str:
        async with self.slot():
            return await asyncio.to_thread(self._argon2.hash, password)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Call it inside a `slot`. `stored` None is a user that does not exist: never matches, costs the same."""
        return await asyncio.to_thread(self._verify, password, stored)

    def _verify(self, password: str, stored: str | None) -> Verdict:
        if len(password) > MAX_PASSWORD_LENGTH:
            return Verdict(False)
        if stored is None:
            self._nobody = self._nobody or self._argon2.hash(generate_password())
            self._argon2.verify(password, self._nobody)
            return Verdict(False)
        if BcryptHasher.identify(stored):
            return self._verify_bcrypt(password, stored)
        try:
            matches, better = self._hash.verify_and_update(password, stored)
        except UnknownHashError:
            return Verdict(False)
        return Verdict(matches, better)

    def _verify_bcrypt(self, password: str, stored: str) -> Verdict:
        encoded = password.encode()
        try:
            matches = self._hash.verify(encoded[:_BCRYPT_BYTES], stored)
        except ValueError:  # a NUL byte, which no bcrypt hash can stand for
            return Verdict(False)
        # What lies beyond the 72 bytes was never checked, so it must not become part of the new hash.
        upgradable = matches and len(encoded) <= _BCRYPT_BYTES
        return Verdict(matches, self._argon2.hash(password) if upgradable else None)


def _busy() -> Unavailable:
    return Unavailable("too many logins are being checked", action="try again", retry_after_seconds=2)
