"""What is charged to whom, and given back, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.digest import Digest, DigestMismatch
from common.errors import QuotaExceeded
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.quota.model import Limits
from tests.control_plane.registry.people import ADA, BOTH, OTTO, image_manifest, index_manifest
from tests.control_plane.registry.pushing import WEB, chunks_of, push_blob, push_image
from tests.control_plane.registry.quota.quotas import ACME, ADAS, BIRCH, OTTOS, Ward

API = "acme/api"
DATA = b"x" * 100


async def used(ward: Ward) -> tuple[int, int, int]:
    """The bytes of the tenant, of ada and of otto."""
    await ward.check_exact()
    return tuple([(await ward.account(subject)).used_bytes for subject in (ACME, ADAS, OTTOS)])  # type: ignore[return-value]


async def test_a_blob_counts_once_for_the_tenant_and_is_the_first_pushers(ward: Ward) -> None:
    digest = await push_blob(ward.registry, DATA)
    await push_blob(ward.registry, DATA, API, OTTO)
    await ward.registry.uploads.mount(OTTO, "acme/third", digest, WEB)
    assert await used(ward) == (100, 100, 0)
    await ward.registry.contents.unlink_blob(ADA, WEB, digest)
    await ward.registry.contents.unlink_blob(ADA, API, digest)
    assert await used(ward) == (100, 100, 0)
    await ward.registry.contents.unlink_blob(ADA, "acme/third", digest)
    assert await used(ward) == (0, 0, 0)


async def test_tenants_that_share_the_bytes_pay_each(ward: Ward) -> None:
    digest = await push_blob(ward.registry, DATA, WEB, BOTH)
    await ward.registry.uploads.mount(BOTH, "birch/web", digest, WEB)
    await ward.check_exact()
    assert [(await ward.account(each)).used_bytes for each in (ACME, BIRCH)] == [100, 100]


async def test_a_manifest_is_charged_to_its_pusher_until_it_is_deleted(ward: Ward) -> None:
    image = await push_image(ward.registry, "a")
    contents = sum(map(len, (image.config, *image.layers)))
    other = image_manifest(image.config, image.layers[:1])
    await ward.registry.images.push(OTTO, WEB, other, OCI_MANIFEST)
    await ward.registry.images.push(OTTO, WEB, image.payload, OCI_MANIFEST, tags=["again"])
    total = contents + len(image.payload)
    assert await used(ward) == (total + len(other), total, len(other))
    await ward.registry.images.delete_manifest(ADA, WEB, Digest.of(other))
    assert await used(ward) == (total, total, 0)


async def test_an_image_is_a_repository(ward: Ward) -> None:
    await ward.limit(Limits(images=2))
    await push_blob(ward.registry, b"a", WEB)
    await push_blob(ward.registry, b"a", API, OTTO)
    with pytest.raises(QuotaExceeded, match="2 of 2 images"):
        await push_blob(ward.registry, b"a", "acme/third")
    with pytest.raises(QuotaExceeded):
        await ward.registry.uploads.mount(ADA, "acme/third", Digest.of(b"a"), WEB)
    await push_blob(ward.registry, b"b", API)
    await ward.check_exact()
    assert [(await ward.account(each)).images for each in (ACME, ADAS, OTTOS)] == [2, 1, 1]


async def test_a_tenant_that_goes_takes_its_charges_with_it(ward: Ward) -> None:
    await push_blob(ward.registry, b"one")
    await push_blob(ward.registry, b"two", API, OTTO)
    async with ward.database.transaction() as unit:
        assert await ward.registry.tenant_in_use(unit, "t-acme") is None
    assert await used(ward) == (0, 0, 0)
    assert (await ward.account()).images == 0


async def test_the_last_byte_fits_and_one_more_is_refused_with_the_figures(ward: Ward, blobs: MemoryBlobStore) -> None:
    await ward.limit(Limits(storage_bytes=150))
    await push_blob(ward.registry, DATA)
    with pytest.raises(QuotaExceeded) as refused:
        await push_blob(ward.registry, b"y" * 51)
    assert {key: refused.value.facts[key] for key in ("limit", "used", "reserved", "needed")} == {
        "limit": 150, "used": 100, "reserved": 0, "needed": 51,
    }  # fmt: skip
    assert await blobs.pending_uploads(ward.database.clock.now() + timedelta(days=9)) == []
    assert await blobs.stat(Digest.of(b"y" * 51)) is None
    await push_blob(ward.registry, b"y" * 50)
    assert await used(ward) == (150, 150, 0)


async def test_the_users_limit_holds_beside_the_tenants(ward: Ward) -> None:
    await ward.limit(Limits(storage_bytes=1000))
    await ward.limit_user(Limits(storage_bytes=120))
    await push_blob(ward.registry, DATA)
    with pytest.raises(QuotaExceeded, match="the user who pushes"):
        await push_blob(ward.registry, b"z" * 21)
    await push_blob(ward.registry, b"z" * 21, WEB, OTTO)
    assert await used(ward) == (121, 100, 21)


async def test_mounting_needs_room_and_says_so(ward: Ward) -> None:
    await push_blob(ward.registry, DATA, "birch/web", BOTH)
    await ward.limit(Limits(storage_bytes=99))
    with pytest.raises(QuotaExceeded) as refused:
        await ward.registry.uploads.mount(BOTH, WEB, Digest.of(DATA), "birch/web")
    assert refused.value.facts["needed"] == 100
    await ward.limit(Limits(storage_bytes=100))
    assert await ward.registry.uploads.mount(BOTH, WEB, Digest.of(DATA), "birch/web") is not None
    assert (await used(ward))[0] == 100


async def test_a_blob_that_the_tenant_has_can_be_pushed_when_all_is_full(ward: Ward) -> None:
    await push_blob(ward.registry, DATA)
    await ward.limit(Limits(storage_bytes=100))
    uploads = ward.registry.uploads
    await push_blob(ward.registry, DATA, API, OTTO)
    assert await uploads.mount(ADA, "acme/third", Digest.of(DATA), None) is not None
    upload = await uploads.start(ADA, "acme/fourth")
    await uploads.append(ADA, "acme/fourth", upload.upload_id, chunks_of(DATA), declared=100, digest=Digest.of(DATA))
    await uploads.finish(ADA, "acme/fourth", upload.upload_id, Digest.of(DATA))
    assert await used(ward) == (100, 100, 0)
    # Its name is no key for more bytes than it has.
    upload = await uploads.start(ADA, WEB)
    with pytest.raises(QuotaExceeded):
        await uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA + b"!"), digest=Digest.of(DATA))


async def test_a_stream_is_refused_before_its_first_byte_if_it_says_its_length(ward: Ward) -> None:
    await ward.limit(Limits(storage_bytes=100))
    upload = await ward.registry.uploads.start(ADA, WEB)

    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("a byte was asked for")
        yield b""

    with pytest.raises(QuotaExceeded):
        await ward.registry.uploads.append(ADA, WEB, upload.upload_id, never(), declared=101)


async def test_a_stream_of_unknown_length_is_refused_where_the_room_ends(ward: Ward, blobs: MemoryBlobStore) -> None:
    await ward.limit(Limits(storage_bytes=100))
    upload = await ward.registry.uploads.start(ADA, WEB)
    sent = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 9
            yield b"123456789"

    with pytest.raises(QuotaExceeded) as refused:
        await ward.registry.uploads.append(ADA, WEB, upload.upload_id, stream())
    assert sent == 108
    assert (refused.value.facts["reserved"], refused.value.facts["needed"]) == (99, 9)
    assert await blobs.pending_uploads(ward.database.clock.now() + timedelta(days=9)) == []
    assert (await ward.account()).reserved_bytes == 0


async def test_room_is_reserved_while_an_upload_lasts(ward: Ward, clock: ManualClock) -> None:
    await ward.limit(Limits(storage_bytes=100))
    uploads = ward.registry.uploads
    first = await uploads.start(ADA, WEB)
    await uploads.append(ADA, WEB, first.upload_id, chunks_of(b"a" * 60), declared=60)
    assert (await ward.account()).reserved_bytes == 60
    with pytest.raises(QuotaExceeded, match="60 reserved by uploads"):
        await push_blob(ward.registry, b"b" * 41)
    await push_blob(ward.registry, b"b" * 40)
    await ward.check_exact()
    await uploads.finish(ADA, WEB, first.upload_id, Digest.of(b"a" * 60))
    assert await used(ward) == (100, 100, 0)
    assert (await ward.account()).reserved_bytes == 0


async def test_what_was_reserved_is_given_back_when_an_upload_ends_badly(ward: Ward, clock: ManualClock) -> None:
    await ward.limit(Limits(storage_bytes=100))
    uploads = ward.registry.uploads

    async def begin() -> str:
        upload = await uploads.start(ADA, WEB)
        await uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA), declared=100)
        assert (await ward.account()).reserved_bytes == 100
        return upload.upload_id

    await uploads.cancel(ADA, WEB, await begin())
    assert (await ward.account()).reserved_bytes == 0
    with pytest.raises(DigestMismatch):
        await uploads.finish(ADA, WEB, await begin(), Digest.of(b"else"))
    assert (await ward.account()).reserved_bytes == 0
    await begin()
    clock.tick(2 * 86400)
    await uploads.expire()
    assert (await ward.account()).reserved_bytes == 0
    await push_blob(ward.registry, DATA)
    await ward.check_exact()


async def test_an_upload_that_stops_and_goes_on_reserves_each_byte_once(ward: Ward) -> None:
    await ward.limit(Limits(storage_bytes=1000))
    uploads = ward.registry.uploads
    upload = await uploads.start(ADA, WEB)

    async def broken() -> AsyncIterator[bytes]:
        yield b"a" * 40
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await uploads.append(ADA, WEB, upload.upload_id, broken(), declared=100)
    await uploads.append(ADA, WEB, upload.upload_id, chunks_of(b"a" * 60), 40, declared=60)
    assert (await ward.account()).reserved_bytes == 100
    await uploads.finish(ADA, WEB, upload.upload_id, Digest.of(b"a" * 100))
    assert await used(ward) == (100, 100, 0)


async def test_an_image_larger_than_allowed_is_refused_and_an_index_of_allowed_ones_is_not(ward: Ward) -> None:
    for data in (b"{}", b"a" * 60, b"b" * 60):
        await push_blob(ward.registry, data)
    await ward.limit(Limits(image_bytes=100))
    both = image_manifest(b"{}", [b"a" * 60, b"b" * 60])
    with pytest.raises(QuotaExceeded, match="122 bytes or more, 100 are allowed"):
        await ward.registry.images.push(ADA, WEB, both, OCI_MANIFEST)
    children = [image_manifest(b"{}", [layer * 60]) for layer in (b"a", b"b")]
    for child in children:
        await ward.registry.images.push(ADA, WEB, child, OCI_MANIFEST)
    index = index_manifest([(children[0], "amd64"), (children[1], "arm64")])
    await ward.registry.images.push(ADA, WEB, index, OCI_INDEX, tags=["latest"])
    with pytest.raises(QuotaExceeded, match="too large"):
        await push_blob(ward.registry, b"c" * 101)
    await ward.check_exact()


async def test_a_limit_below_the_use_stops_growth_and_removes_nothing(ward: Ward) -> None:
    digest = await push_blob(ward.registry, DATA)
    await push_blob(ward.registry, b"y" * 50)
    await ward.limit(Limits(storage_bytes=60))
    with pytest.raises(QuotaExceeded):
        await push_blob(ward.registry, b"!")
    await ward.registry.contents.unlink_blob(ADA, WEB, digest)
    await push_blob(ward.registry, b"z" * 10)
    assert (await used(ward))[0] == 60


async def test_a_limit_that_comes_down_while_bytes_come_in_holds_at_the_end(ward: Ward, blobs: MemoryBlobStore) -> None:
    upload = await ward.registry.uploads.start(ADA, WEB)
    await ward.registry.uploads.append(ADA, WEB, upload.upload_id, chunks_of(DATA))
    await ward.limit(Limits(storage_bytes=99))
    with pytest.raises(QuotaExceeded):
        await ward.registry.uploads.finish(ADA, WEB, upload.upload_id, Digest.of(DATA))
    assert await used(ward) == (0, 0, 0)
    assert (await ward.account()).images == 0
