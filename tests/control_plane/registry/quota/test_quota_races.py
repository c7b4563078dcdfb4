"""Many at once: the limit holds to the byte, and the accounts are right at every moment, on both engines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.errors import NotFound, QuotaExceeded, Unavailable
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.quota.model import Limits
from tests.control_plane.registry.people import ADA, BOTH, OTTO
from tests.control_plane.registry.pushing import WEB, chunks_of, push_blob
from tests.control_plane.registry.quota.quotas import ACME, ADAS, Ward, open_ward

PUSHES = 500
LIMIT = 450_000  # of some 700,000 that are pushed and stay


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 512):
        await asyncio.sleep(0)
        yield data[start : start + 512]


async def push_somehow(ward: Ward, number: int, chance: random.Random) -> bool:
    """One push of up to 4 KB, in one of the ways that clients have; whether there was room."""
    data = chance.randbytes(chance.randrange(1, 4096)) if number % 7 else b"shared by many" * 20
    repository, who = f"acme/r{number % 5}", chance.choice((ADA, OTTO, BOTH))
    uploads, digest = ward.registry.uploads, Digest.of(data)
    try:
        if number % 3 == 0:
            await uploads.push_whole(who, repository, digest, in_pieces(data), len(data))
        elif number % 3 == 1:
            upload = await uploads.start(who, repository)
            await uploads.append(who, repository, upload.upload_id, in_pieces(data))
            if number % 5 == 1:
                await uploads.cancel(who, repository, upload.upload_id)
            else:
                await uploads.finish(who, repository, upload.upload_id, digest)
        else:
            await uploads.push_whole(BOTH, "birch/origin", digest, in_pieces(data), len(data))
            await uploads.mount(BOTH, repository, digest, "birch/origin")
        if number % 6 == 0:
            await ward.registry.contents.unlink_blob(ADA, repository, digest)
    except QuotaExceeded:
        return False
    except NotFound:
        return True  # two unlinked the blob that many share
    return True


async def test_500_concurrent_pushes_never_exceed_the_limit_and_end_exact(
    database: Database, open_replica: Callable[[], Database], blobs: MemoryBlobStore, clock: ManualClock
) -> None:
    wards = [open_ward(each, blobs, clock) for each in (database, open_replica())]
    ward = wards[0]
    await ward.limit(Limits(storage_bytes=LIMIT))
    await ward.limit_user(Limits(storage_bytes=LIMIT // 4))
    done = asyncio.Event()
    most = 0

    async def watch() -> int:
        looks = 0
        nonlocal most
        while not done.is_set():
            for subject, limit in ((ACME, LIMIT), (ADAS, LIMIT // 4)):
                account = await ward.account(subject)
                assert account.used_bytes + account.reserved_bytes <= limit
                most = max(most, account.used_bytes + account.reserved_bytes) if subject is ACME else most
            assert not (await ward.quota.recount.recalculate(ACME)).any
            looks += 1
            await asyncio.sleep(0.01)
        return looks

    watching = asyncio.create_task(watch())  # noqa: TID251
    # 40 at a time: each waits for a database connection no longer than we let anybody wait.
    room = asyncio.Semaphore(40)

    async def push(number: int) -> bool:
        async with room:
            return await push_somehow(wards[number % 2], number, random.Random(number))

    outcomes = await asyncio.gather(*map(push, range(PUSHES)))
    done.set()
    assert await watching > 3
    assert outcomes.count(False) > 20
    assert outcomes.count(True) > 200
    assert most > LIMIT * 0.95
    await ward.check_exact()
    assert (await ward.account()).reserved_bytes == 0


async def test_whoever_links_and_unlinks_one_blob_at_once_pays_for_it_once_or_not_at_all(
    database: Database, open_replica: Callable[[], Database], blobs: MemoryBlobStore, clock: ManualClock
) -> None:
    wards = [open_ward(each, blobs, clock) for each in (database, open_replica())]
    data = b"the same"
    digest = Digest.of(data)

    async def go_round(number: int) -> None:
        ward, repository = wards[number % 2], f"acme/r{number % 4}"
        for _ in range(10):
            await push_blob(ward.registry, data, repository, (ADA, OTTO)[number % 2])
            try:
                await ward.registry.contents.unlink_blob(ADA, repository, digest)
            except NotFound:
                continue

    await asyncio.gather(*map(go_round, range(8)))
    await wards[0].check_exact()
    assert (await wards[0].account()).used_bytes == 0


async def test_a_tenant_that_is_cleared_while_it_is_pushed_to_stays_exact(ward: Ward) -> None:
    async def push(number: int) -> None:
        for turn in range(5):
            await push_blob(ward.registry, b"%d %d" % (number, turn), f"acme/r{number % 3}")

    async def clear() -> None:
        for _ in range(8):
            async with ward.database.transaction() as unit:
                await ward.registry.tenant_in_use(unit, "t-acme")
            await asyncio.sleep(0.005)

    outcomes = await asyncio.gather(clear(), *map(push, range(8)), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes), outcomes
    await ward.check_exact()


async def test_a_cancelled_push_gives_its_room_back(ward: Ward) -> None:
    await ward.limit(Limits(storage_bytes=1000))
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"a" * 400
        begun.set()
        await asyncio.Event().wait()

    data = b"a" * 900
    pushing = asyncio.create_task(ward.registry.uploads.push_whole(ADA, WEB, Digest.of(data), endless(), 900))  # noqa: TID251
    await begun.wait()
    assert (await ward.account()).reserved_bytes == 900
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    await ward.check_exact()
    assert (await ward.account()).reserved_bytes == 0
    await ward.registry.uploads.push_whole(ADA, WEB, Digest.of(data), chunks_of(data), 900)
