from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from common.clock import ManualClock
from common.content_token import ContentVerifier, TokenExpired, TokenInvalid
from common.digest import Digest
from common.errors import Internal
from control_plane.database import Database
from control_plane.sealing import SealBroken, SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.tables import content_keys, swarm_secrets
from control_plane.swarm.tokens import ContentTokens, window_start

DIGEST = Digest.of(b"a blob")


def mint(tokens: ContentTokens, bearer: str = "host/h1") -> str:
    return tokens.mint(bearer, "east", "t-acme", DIGEST)


def verifier(tokens: ContentTokens, clock: ManualClock) -> ContentVerifier:
    verifying = ContentVerifier(clock)
    verifying.replace_keys(tokens.verifying_keys())
    return verifying


def test_a_minted_token_says_who_may_read_what(tokens: ContentTokens, clock: ManualClock) -> None:
    claim = verifier(tokens, clock).verify(mint(tokens), DIGEST)
    assert (claim.bearer, claim.idc, claim.tenant_id, claim.digests) == ("host/h1", "east", "t-acme", (DIGEST,))


def test_within_one_window_the_same_question_gives_the_same_token(
    tokens: ContentTokens, keys: ContentKeys, clock: ManualClock
) -> None:
    first = mint(tokens)
    clock.tick(timedelta(hours=11, minutes=59).total_seconds())
    assert mint(tokens) == first
    assert mint(ContentTokens(keys, clock)) == first  # not because it was remembered
    clock.tick(120)
    assert mint(tokens) != first


def test_a_token_of_the_windows_last_minute_still_lives_a_day(tokens: ContentTokens, clock: ManualClock) -> None:
    clock.tick(timedelta(hours=11, minutes=59).total_seconds())
    token = mint(tokens)
    clock.tick(timedelta(hours=24).total_seconds())
    assert verifier(tokens, clock).verify(token)
    clock.tick(timedelta(minutes=10).total_seconds())
    with pytest.raises(TokenExpired):
        verifier(tokens, clock).verify(token)


def test_windows_begin_at_midnight_and_noon(clock: ManualClock) -> None:
    start = clock.now()
    assert window_start(start) == start
    assert window_start(start + timedelta(hours=11, minutes=59)) == start
    assert window_start(start + timedelta(hours=12)) == start + timedelta(hours=12)
    assert window_start(start + timedelta(days=3, hours=13)) == start + timedelta(days=3, hours=12)


async def test_replicas_that_start_together_agree_on_one_key(
    open_replica: Callable[[], Database], box: SealedBox, clock: ManualClock
) -> None:
    first, second = (ContentKeys(open_replica(), box, clock) for _ in range(2))
    await asyncio.gather(first.load(), second.load())
    assert first.verifying() == second.verifying()
    assert first.swarm_secret() == second.swarm_secret()
    assert mint(ContentTokens(first, clock)) == mint(ContentTokens(second, clock))


async def test_a_second_start_reads_the_keys_of_the_first(
    database: Database, keys: ContentKeys, box: SealedBox, clock: ManualClock
) -> None:
    again = ContentKeys(database, box, clock)
    await again.load()
    assert again.verifying() == keys.verifying()
    assert again.swarm_secret() == keys.swarm_secret()


async def test_a_rotated_key_verifies_at_once_and_signs_later(
    tokens: ContentTokens, keys: ContentKeys, clock: ManualClock
) -> None:
    old = mint(tokens)
    key_id = await keys.rotate()
    assert key_id in tokens.verifying_keys()
    assert mint(tokens) == old
    clock.tick(timedelta(hours=1).total_seconds())
    new = mint(tokens)
    assert new != old
    assert verifier(tokens, clock).verify(old)
    assert verifier(tokens, clock).verify(new)


async def test_a_key_goes_when_no_living_token_can_be_of_it(
    tokens: ContentTokens, keys: ContentKeys, clock: ManualClock
) -> None:
    old = mint(tokens)
    await keys.rotate()
    clock.tick(timedelta(hours=50).total_seconds())
    await keys.rotate()
    assert len(keys.verifying()) == 2
    with pytest.raises(TokenInvalid):
        verifier(tokens, clock).verify(old)


async def test_other_replicas_learn_a_rotated_key_when_they_load(
    keys: ContentKeys, open_replica: Callable[[], Database], box: SealedBox, clock: ManualClock
) -> None:
    other = ContentKeys(open_replica(), box, clock)
    await other.load()
    await keys.rotate()
    await other.load()
    assert other.verifying() == keys.verifying()


@pytest.mark.usefixtures("keys")
async def test_private_parts_are_never_stored_in_the_clear(database: Database) -> None:
    async with database.reading() as connection:
        sealed = bytes((await connection.execute(select(content_keys.c.sealed_private_pem))).scalar_one())
        secret = bytes((await connection.execute(select(swarm_secrets.c.sealed))).scalar_one())
    assert b"PRIVATE KEY" not in sealed
    assert len(secret) > 32


@pytest.mark.usefixtures("keys")
async def test_a_key_that_was_moved_to_another_row_does_not_open(
    database: Database, box: SealedBox, clock: ManualClock
) -> None:
    async with database.transaction() as unit:
        await unit.connection.execute(update(content_keys).values(key_id="another"))
    with pytest.raises(SealBroken):
        await ContentKeys(database, box, clock).load()


@pytest.mark.usefixtures("keys")
async def test_another_sealing_key_opens_nothing_and_changes_nothing(database: Database, clock: ManualClock) -> None:
    stranger = SealedBox(KeyRing({b"87654321": bytes(32)}))
    with pytest.raises(SealBroken):
        await ContentKeys(database, stranger, clock).load()


async def test_nothing_is_signed_before_keys_are_loaded(database: Database, box: SealedBox, clock: ManualClock) -> None:
    keys = ContentKeys(database, box, clock)
    with pytest.raises(Internal):
        keys.signing()
    with pytest.raises(Internal):
        keys.swarm_secret()
    assert keys.verifying() == {}
