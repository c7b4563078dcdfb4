"""Passwords are hashed as OWASP says, foreign hashes are replaced, and nothing tells who exists."""

from __future__ import annotations

import asyncio
import time

import bcrypt
import pytest

from common.errors import Unavailable
from control_plane.tenants.passwords import Passwords, PasswordWeak, Verdict, check_new_password, generate_password

PASSWORD = "correct horse battery"


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


async def test_hashes_are_argon2id_with_owasps_parameters(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(PASSWORD, stored) == Verdict(True)
    assert await passwords.verify(PASSWORD + "!", stored) == Verdict(False)
    assert stored != await passwords.hash(PASSWORD)


@pytest.mark.parametrize("prefix", [b"$2a$", b"$2b$", b"$2y$"])
async def test_a_bcrypt_hash_is_accepted_and_replaced(passwords: Passwords, prefix: bytes) -> None:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).replace(b"$2b$", prefix).decode()
    verdict = await passwords.verify(PASSWORD, stored)
    assert verdict.matches
    assert verdict.better_hash is not None
    assert verdict.better_hash.startswith("$argon2id$")
    assert await passwords.verify(PASSWORD, verdict.better_hash) == Verdict(True)
    assert await passwords.verify("wrong", stored) == Verdict(False)


async def test_what_bcrypt_never_checked_does_not_become_the_password(passwords: Passwords) -> None:
    stored = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    assert await passwords.verify("a" * 72 + "typo", stored) == Verdict(True, None)
    assert (await passwords.verify("a" * 72, stored)).better_hash is not None
    assert await passwords.verify("a" * 71, stored) == Verdict(False)


@pytest.mark.parametrize("stored", ["", "plain", "$1$md5", "$argon2id$v=19$m=8$", "$2b$04$short"])
async def test_a_hash_that_is_none_matches_nothing(passwords: Passwords, stored: str) -> None:
    assert await passwords.verify("plain", stored) == Verdict(False)
    assert await passwords.verify("", stored) == Verdict(False)


@pytest.mark.parametrize("password", ["", "\x00", "a\x00b", "x" * 100_000, "😀" * 30])
async def test_strange_passwords_are_wrong_and_nothing_else(passwords: Passwords, password: str) -> None:
    for stored in (await passwords.hash(PASSWORD), bcrypt.hashpw(b"abc", bcrypt.gensalt(4)).decode(), None):
        assert await passwords.verify(password, stored) == Verdict(False)


async def test_an_unknown_user_costs_what_a_wrong_password_costs(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    await passwords.verify("wrong", None)

    async def least(known: str | None) -> float:
        spent = []
        for _ in range(7):
            started = time.perf_counter()
            await passwords.verify("wrong", known)
            spent.append(time.perf_counter() - started)
        return min(spent)

    ratio = await least(None) / await least(stored)
    assert 0.4 < ratio < 2.5


async def test_too_many_at_once_are_turned_away_instead_of_queued() -> None:
    passwords = Passwords(slots=1)
    results = await asyncio.gather(*(passwords.hash("x") for _ in range(40)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert len(results) - len(refused) in (16, 17)
    assert (await passwords.hash("x")).startswith("$argon2id$")


def test_generated_passwords_are_long_and_different() -> None:
    made = {generate_password() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 20


@pytest.mark.parametrize("password", ["short", "x" * 1025, "Ada-Lovelace"])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(PasswordWeak):
        check_new_password(password, "ada-lovelace", 8)
