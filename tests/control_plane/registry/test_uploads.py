"""Push sessions, on both database engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from common.clock import ManualClock
from common.digest import Digest, DigestMismatch
from common.errors import Denied, Failure, Unauthenticated
from control_plane.blobs import DiskFull, UploadOffsetWrong, UploadUnknown
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry import tables
from control_plane.registry.failures import BlobUnknown, RepositoryUnknown, ScopeInsufficient
from control_plane.registry.jobs import SCHEDULES, build_handlers
from control_plane.registry.service import RegistryService
from control_plane.registry.uploads import UPLOAD_LIFETIME
from control_plane.tenants.access import ANONYMOUS, Principal, RepositoryScope
from tests.control_plane.registry.people import ADA, BOB, BOTH, OTTO, ROOT, VERA, Directory
from tests.control_plane.registry.pushing import WEB, chunks_of, push_blob

DATA = b"some bytes of a layer"
DIGEST = Digest.of(DATA)


async def sees(registry: RegistryService, principal: Principal, repository: str, digest: Digest = DIGEST) -> bool:
    try:
        await registry.contents.present_blob_size(principal, repository, digest)
    except (BlobUnknown, RepositoryUnknown):
        return False
    return True


async def test_a_blob_pushed_in_chunks_can_be_pulled(registry: RegistryService) -> None:
    uploads = registry.uploads
    upload = await uploads.start(ADA, WEB)
    assert await uploads.size(ADA, WEB, upload.upload_id) == 0
    assert await uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA[:5]), 0) == 5
    assert await uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA[5:])) == len(DATA)
    pushed = await uploads.finish(ADA, WEB, upload.upload_id, DIGEST)
    assert (pushed.repository, pushed.digest, pushed.size) == (WEB, DIGEST, len(DATA))
    assert await sees(registry, VERA, WEB)
    async with registry.contents.open_blob(DIGEST, len(DATA)) as reader:
        assert b"".join([piece async for piece in reader.read(0, len(DATA))]) == DATA


async def test_a_repeated_last_request_gets_its_answer_again(registry: RegistryService) -> None:
    upload = await registry.uploads.start(ADA, WEB)
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA))
    first = await registry.uploads.finish(ADA, WEB, upload.upload_id, DIGEST)
    assert await registry.uploads.finish(ADA, WEB, upload.upload_id, DIGEST) == first
    assert await registry.uploads.size(ADA, WEB, upload.upload_id) == len(DATA)
    with pytest.raises(UploadUnknown):
        await registry.uploads.finish(ADA, WEB, upload.upload_id, Digest.of(b"else"))
    with pytest.raises(UploadUnknown):
        await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(b"more"))


async def test_a_false_digest_publishes_nothing_and_ends_the_session(registry: RegistryService) -> None:
    upload = await registry.uploads.start(ADA, WEB)
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA))
    with pytest.raises(DigestMismatch):
        await registry.uploads.finish(ADA, WEB, upload.upload_id, Digest.of(b"else"))
    for digest in (DIGEST, Digest.of(b"else")):
        assert not await sees(registry, ADA, WEB, digest)
    with pytest.raises(UploadUnknown):
        await registry.uploads.size(ADA, WEB, upload.upload_id)


async def test_a_false_digest_in_one_request_leaves_nothing(registry: RegistryService, blobs: MemoryBlobStore) -> None:
    with pytest.raises(DigestMismatch):
        await registry.uploads.push_whole(ADA, WEB, Digest.of(b"else"), chunks_of(DATA))
    assert list(await blobs.pending_uploads(ManualClock().now() + timedelta(days=365))) == []


async def test_a_session_belongs_to_its_principal_and_repository(registry: RegistryService) -> None:
    upload = await registry.uploads.start(ADA, WEB)
    for principal, repository, upload_id in (
        (OTTO, WEB, upload.upload_id),
        (ADA, "acme/other", upload.upload_id),
        (ROOT, WEB, upload.upload_id),
        (ADA, WEB, "00000000-0000-7000-8000-000000000000"),
        (ADA, WEB, "../../etc/passwd"),
    ):
        for attempt in (
            registry.uploads.size(principal, repository, upload_id),
            registry.uploads.append(principal, repository, upload_id, chunks_of(b"x")),
            registry.uploads.finish(principal, repository, upload_id, Digest.of(b"")),
            registry.uploads.cancel(principal, repository, upload_id),
        ):
            with pytest.raises(UploadUnknown):
                await attempt
    assert await registry.uploads.size(ADA, WEB, upload.upload_id) == 0


@pytest.mark.parametrize(
    ("principal", "repository", "refusal"),
    [
        (ANONYMOUS, WEB, Unauthenticated),
        (VERA, WEB, Denied),
        (BOB, WEB, Denied),
        (BOB, "absent/web", Denied),
        (ROOT, "absent/web", RepositoryUnknown),
    ],
)
async def test_who_may_not_push_does_not_begin(
    registry: RegistryService, blobs: MemoryBlobStore, principal: Principal, repository: str, refusal: type[Failure]
) -> None:
    with pytest.raises(refusal):
        await registry.uploads.start(principal, repository)
    with pytest.raises(refusal):
        await registry.uploads.push_whole(principal, repository, DIGEST, chunks_of(DATA))
    with pytest.raises(refusal):
        await registry.uploads.mount(principal, repository, DIGEST, "acme/other")
    assert await blobs.stat(DIGEST) is None


async def test_a_cancelled_session_is_gone(registry: RegistryService, blobs: MemoryBlobStore) -> None:
    upload = await registry.uploads.start(ADA, WEB)
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA))
    await registry.uploads.cancel(ADA, WEB, upload.upload_id)
    with pytest.raises(UploadUnknown):
        await registry.uploads.size(ADA, WEB, upload.upload_id)
    with pytest.raises(UploadUnknown):
        await blobs.upload_size(upload.upload_id)


async def test_chunks_out_of_order_change_nothing(registry: RegistryService) -> None:
    upload = await registry.uploads.start(ADA, WEB)
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(b"abc"), 0)
    for offset in (0, 2, 4):
        with pytest.raises(UploadOffsetWrong):
            await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(b"x"), offset)
    assert await registry.uploads.size(ADA, WEB, upload.upload_id) == 3


async def test_a_full_store_is_said_to_be_full_and_the_session_goes_on(database: Database, clock: ManualClock) -> None:
    blobs = MemoryBlobStore(clock, capacity=10)
    registry = RegistryService(database, blobs, Directory("acme"), clock)
    upload = await registry.uploads.start(ADA, WEB)
    with pytest.raises(DiskFull):
        await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA))
    held = await registry.uploads.size(ADA, WEB, upload.upload_id)
    assert held == 10
    blobs._capacity = 1000
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA[held:]), held)
    await registry.uploads.finish(ADA, WEB, upload.upload_id, DIGEST)
    assert await sees(registry, ADA, WEB)


async def test_two_tenants_pushing_one_content_at_once_store_it_once_and_see_only_their_own(
    registry: RegistryService, blobs: MemoryBlobStore
) -> None:
    await asyncio.gather(
        *(push_blob(registry, DATA, f"acme/web{number}", ADA) for number in range(4)),
        *(push_blob(registry, DATA, f"birch/web{number}", BOB) for number in range(4)),
    )
    assert list(blobs._blobs) == [DIGEST]
    assert await sees(registry, ADA, "acme/web0")
    assert await sees(registry, BOB, "birch/web0")
    assert not await sees(registry, ADA, "birch/web0")
    assert not await sees(registry, ADA, "acme/empty")


async def test_a_content_that_another_tenant_holds_has_to_be_pushed(registry: RegistryService) -> None:
    await push_blob(registry, DATA, "birch/web", BOB)
    await push_blob(registry, b"something", WEB)
    assert not await sees(registry, ADA, WEB)


async def test_a_mount_links_what_the_principal_may_pull(registry: RegistryService) -> None:
    await push_blob(registry, DATA, "birch/base", BOB)
    mounted = await registry.uploads.mount(BOTH, "acme/new", DIGEST, "birch/base")
    assert mounted is not None
    assert mounted.size == len(DATA)
    assert await sees(registry, ADA, "acme/new")


async def test_a_mount_without_right_on_the_source_is_a_mount_of_nothing(registry: RegistryService) -> None:
    await push_blob(registry, DATA, "birch/base", BOB)
    assert await registry.uploads.mount(ADA, WEB, DIGEST, "birch/base") is None
    assert await registry.uploads.mount(ADA, WEB, DIGEST, "birch/absent") is None
    assert await registry.uploads.mount(ADA, WEB, DIGEST, None) is None
    assert not await sees(registry, ADA, WEB)


async def test_a_mount_without_source_finds_one_that_may_be_pulled(registry: RegistryService) -> None:
    await push_blob(registry, DATA, "birch/base", BOB)
    assert await registry.uploads.mount(BOTH, WEB, DIGEST, None) is not None
    assert await sees(registry, ADA, WEB)
    assert await registry.uploads.mount(BOTH, WEB, Digest.of(b"absent"), None) is None


async def test_a_token_that_lacks_the_source_is_told_to_get_another(registry: RegistryService) -> None:
    await push_blob(registry, DATA, "birch/base", BOB)
    confined = Principal(
        BOTH.user_id, "both", roles=BOTH.roles, scopes=(RepositoryScope(WEB, frozenset({"pull", "push"})),)
    )
    with pytest.raises(ScopeInsufficient):
        await registry.uploads.mount(confined, WEB, DIGEST, "birch/base")
    with pytest.raises(ScopeInsufficient) as refused:
        await registry.uploads.mount(confined, WEB, DIGEST, None)
    assert refused.value.facts["source"] == "birch/base"
    foreign = Principal("u-x", "x", roles={"acme": ADA.roles["acme"]}, scopes=confined.scopes)
    assert await registry.uploads.mount(foreign, WEB, DIGEST, None) is None


async def test_a_damaged_blob_is_not_mounted(registry: RegistryService, blobs: MemoryBlobStore) -> None:
    await push_blob(registry, DATA, "acme/base")
    blobs.damage(DIGEST, DATA[:-1])
    assert await registry.uploads.mount(ADA, WEB, DIGEST, "acme/base") is None


async def test_sessions_that_nobody_touches_expire(registry: RegistryService, clock: ManualClock) -> None:
    old = await registry.uploads.start(ADA, WEB)
    await registry.uploads.append(ADA, WEB, old.upload_id, chunks_of(DATA))
    slow = await registry.uploads.start(ADA, WEB)
    done = await registry.uploads.start(ADA, WEB)
    await registry.uploads.finish(ADA, WEB, done.upload_id, Digest.of(b""))
    clock.tick(UPLOAD_LIFETIME.total_seconds())
    await registry.uploads.append(ADA, WEB, slow.upload_id, chunks_of(b"still here"))
    clock.tick(1)
    young = await registry.uploads.start(ADA, WEB)
    assert await registry.uploads.expire(UPLOAD_LIFETIME) == 2
    assert await registry.uploads.size(ADA, WEB, young.upload_id) == 0
    assert await registry.uploads.size(ADA, WEB, slow.upload_id) == 10
    for gone in (old, done):
        with pytest.raises(UploadUnknown):
            await registry.uploads.size(ADA, WEB, gone.upload_id)
    assert await registry.uploads.expire(UPLOAD_LIFETIME) == 0


async def test_a_session_goes_on_in_another_replica(
    registry: RegistryService, blobs: MemoryBlobStore, clock: ManualClock, open_replica: Callable[[], Any]
) -> None:
    other = RegistryService(open_replica(), blobs, Directory("acme"), clock, names=registry.uploads._names)
    upload = await registry.uploads.start(ADA, WEB)
    await other.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA[:3]))
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA[3:]), 3)
    await other.uploads.finish(ADA, WEB, upload.upload_id, DIGEST)
    assert await sees(registry, ADA, WEB)


async def test_an_upload_has_no_row_before_its_bytes_are_published(
    registry: RegistryService, database: Database
) -> None:
    async def rows() -> int:
        async with database.reading() as connection:
            return (await connection.execute(select(func.count()).select_from(tables.uploads))).scalar_one()

    upload = await registry.uploads.start(ADA, WEB)
    await registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA))
    assert await rows() == 0
    await registry.uploads.finish(ADA, WEB, upload.upload_id, DIGEST)
    assert await rows() == 1
    await registry.uploads.cancel(ADA, WEB, upload.upload_id)
    assert await rows() == 0
    with pytest.raises(UploadUnknown):
        await registry.uploads.cancel(ADA, WEB, upload.upload_id)


async def test_a_client_that_breaks_off_one_request_push_leaves_nothing(
    registry: RegistryService, blobs: MemoryBlobStore, clock: ManualClock
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:5]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await registry.uploads.push_whole(ADA, WEB, DIGEST, broken())
    assert list(await blobs.pending_uploads(clock.now() + timedelta(days=1))) == []


async def test_the_periodic_job_expires_them(registry: RegistryService, clock: ManualClock) -> None:
    upload = await registry.uploads.start(ADA, WEB)
    clock.tick(3601)
    [(kind, handler)] = build_handlers(registry, timedelta(hours=1)).items()
    assert [kind] == [schedule.kind for schedule in SCHEDULES]
    assert await handler(None) == {"expired": 1}  # type: ignore[arg-type]
    with pytest.raises(UploadUnknown):
        await registry.uploads.size(ADA, WEB, upload.upload_id)
