"""Read-through of package repositories: once, within bounds, never a part, and also while upstream is away."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.pace import BUSY_SECONDS
from tests.regional.conftest import until

from .upstream import Site, Upstream, site, upstream

PACKAGE = bytes(range(256)) * 12_000  # 3 MB
POOL = "pool/main/h/hello/hello_1.0+dfsg-1_all.deb"
WIRE = "pool/main/h/hello/hello_1.0%2Bdfsg-1_all.deb"
RELEASE = "dists/stable/InRelease"


@pytest.fixture
async def origin() -> AsyncIterator[Upstream]:
    async with upstream() as subject:
        subject.files = {WIRE: PACKAGE, RELEASE: b"one"}
        yield subject


@pytest.fixture
async def here(origin: Upstream, tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, origin.url) as subject:
        yield subject


async def test_a_package_crosses_once_and_is_held_for_good(origin: Upstream, here: Site) -> None:
    assert await here.read(POOL) == (200, "fetched", PACKAGE)
    await until(lambda: here.shelf.held_bytes() == len(PACKAGE))
    here.clock.ahead = 10_000_000
    assert await here.read(POOL) == (200, "held", PACKAGE)
    async with here.get(POOL, Range="bytes=5-9") as answer:
        assert (answer.status, await answer.read()) == (206, PACKAGE[5:10])
    assert origin.asked[WIRE] == 1
    assert not {"Cookie", "Authorization", "Referer"} & set(origin.headers[0])


async def test_many_who_ask_at_once_cost_one_fetch_and_read_while_it_crosses(origin: Upstream, here: Site) -> None:
    origin.hold = 1 << 20
    reads = [asyncio.ensure_future(here.read(POOL)) for _ in range(20)]
    async with here.get(POOL) as answer:
        assert await answer.content.readexactly(1 << 20) == PACKAGE[: 1 << 20]
        assert here.shelf.held_bytes() == 0
        origin.go.set()
        assert await answer.content.read() is not None
    assert {(status, body) for status, _, body in await asyncio.gather(*reads)} == {(200, PACKAGE)}
    assert origin.asked[WIRE] == 1


async def test_a_fetch_that_broke_goes_on_where_it_stopped(origin: Upstream, here: Site) -> None:
    origin.cut, origin.cuts = 1 << 20, 1
    assert await here.read(POOL) == (200, "fetched", PACKAGE)
    first, second = (headers.get("Range") for headers in origin.headers)
    assert first is None
    # How much of what came was read before the end was seen is the operating system's affair.
    assert second is not None
    assert 0 <= int(second.removeprefix("bytes=").removesuffix("-")) <= 1 << 20


async def test_a_part_is_never_served_as_the_whole_and_never_kept(origin: Upstream, here: Site) -> None:
    origin.cut, origin.cuts = 1 << 20, 1
    original = origin.files[WIRE]
    async with here.get(POOL) as answer:
        origin.files[WIRE] = b"something else now"
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    origin.files[WIRE] = original
    await until(lambda: not list((here.root.parent / "mirrors/coming").iterdir()))
    assert here.shelf.held_bytes() == 0
    assert await here.read(POOL) == (200, "fetched", PACKAGE)


async def test_an_answer_without_a_length_is_served_once_it_is_whole(origin: Upstream, here: Site) -> None:
    origin.chunked = True
    status, _, body = await here.read(POOL)
    assert (status, body) == (200, PACKAGE)


async def test_indices_are_asked_about_again_and_packages_are_not(origin: Upstream, here: Site) -> None:
    assert await here.read(RELEASE) == (200, "fetched", b"one")
    await until(lambda: here.shelf.held_bytes() == 3)
    origin.files[RELEASE] = b"newer"
    assert await here.read(RELEASE) == (200, "held", b"one")
    here.clock.ahead = 61
    assert (await here.read(RELEASE))[2] == b"newer"
    await until(lambda: here.shelf.held_bytes() == 5)
    here.clock.ahead = 122
    assert await here.read(RELEASE) == (200, "held", b"newer")
    assert origin.unchanged[RELEASE] == 1


@pytest.mark.parametrize("trouble", ["away", "500", "429"])
async def test_what_is_held_is_served_while_upstream_is_away(origin: Upstream, here: Site, trouble: str) -> None:
    await here.read(RELEASE)
    await until(lambda: here.shelf.held_bytes() == 3)
    here.clock.ahead = 61
    if trouble == "away":
        origin.redirects[RELEASE] = "http://127.0.0.1:1/elsewhere"
    else:
        origin.status[RELEASE] = int(trouble)
    async with here.get(RELEASE) as answer:
        assert (answer.status, answer.headers["X-Cache"], await answer.read()) == (200, "stale", b"one")
        assert answer.headers["Warning"].startswith("110 ")
    origin.status.clear()
    origin.redirects.clear()
    here.clock.ahead += 61
    assert (await here.read(RELEASE))[1] == "held"


async def test_an_upstream_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    async with site(tmp_path, "http://127.0.0.1:1") as here, here.get(RELEASE) as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "mirror_upstream_away"
        assert "Retry-After" in answer.headers


async def test_what_upstream_does_not_have_is_not_asked_for_again_at_once(origin: Upstream, here: Site) -> None:
    for _ in range(3):
        assert (await here.read("dists/stable/missing"))[0] == 404
    assert origin.asked["dists/stable/missing"] == 1
    here.clock.ahead = 31
    origin.files["dists/stable/missing"] = b"there"
    assert (await here.read("dists/stable/missing"))[2] == b"there"


async def test_what_upstream_took_away_is_gone(origin: Upstream, here: Site) -> None:
    await here.read(RELEASE)
    await until(lambda: here.shelf.held_bytes() == 3)
    del origin.files[RELEASE]
    here.clock.ahead = 61
    assert (await here.read(RELEASE))[0] == 404
    assert here.shelf.held_bytes() == 0


async def test_a_file_of_our_own_wins(origin: Upstream, here: Site) -> None:
    path = here.root / "repos/debian/12" / RELEASE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert (await here.read(RELEASE))[2] == b"mine"
    assert not origin.asked


async def test_redirects_lead_nowhere_but_to_the_configured_server(origin: Upstream, here: Site) -> None:
    async with upstream() as other:
        other.files["secret"] = b"hidden words"
        origin.redirects["a"] = f"{other.url}/secret"
        origin.redirects["b"] = "file:///etc/passwd"
        origin.redirects["c"] = "c"
        origin.redirects["d"] = "//169.254.169.254/latest"
        origin.redirects["e"] = f"/debian/{RELEASE}"
        for path in "abcd":
            status, _, body = await here.read(path)
            assert status == 503, path
            assert b"hidden" not in body
        assert (await here.read("e"))[2] == b"one"
        assert not other.asked


@pytest.mark.parametrize(
    "path", ["../../../secret", "%2e%2e/secret", "x?y=http://evil/", "http://evil/x", "//evil/x", "@evil/x", "a%23b"]
)
async def test_nothing_a_client_says_leads_anywhere_else(origin: Upstream, here: Site, path: str) -> None:
    status, _, _ = await here.read(path)
    assert status in (400, 404)
    assert all(host == f"127.0.0.1:{origin.port}" for host in (headers["Host"] for headers in origin.headers))
    assert not any("?" in asked or "#" in asked or ".." in asked for asked in origin.asked)


async def test_the_cache_stays_within_its_bounds(origin: Upstream, tmp_path: Path) -> None:
    for number in range(8):
        origin.files[f"pool/p{number}.deb"] = bytes([number]) * 300_000
    async with site(tmp_path, origin.url, limit_bytes=1 << 20) as here:
        for number in range(8):
            here.clock.ahead = number * 1000
            await here.read(f"pool/p{number}.deb")
            await until(lambda: not list((tmp_path / "mirrors/coming").iterdir()))
            await here.read("pool/p0.deb")  # the one that everybody wants stays
        assert here.shelf.held_bytes() == 900_000
        assert origin.asked["pool/p0.deb"] == 1
        bodies = list((tmp_path / "mirrors/bodies").iterdir())
        assert sum(path.stat().st_size for path in bodies) == 900_000
        origin.files["pool/huge.deb"] = bytes(2 << 20)
        assert (await here.read("pool/huge.deb"))[0] == 413


async def test_what_was_held_is_held_after_a_restart_and_halves_are_gone(origin: Upstream, tmp_path: Path) -> None:
    async with site(tmp_path, origin.url) as here:
        await here.read(POOL)
        await until(lambda: here.shelf.held_bytes() == len(PACKAGE))
    mirrors = tmp_path / "mirrors"
    (mirrors / "coming/half").write_bytes(b"x")
    (mirrors / "bodies/nobody").write_bytes(b"x")
    async with site(tmp_path, "http://127.0.0.1:1") as here:
        assert (await here.read(POOL))[0] == 503  # another address is another file
    async with site(tmp_path, origin.url) as here:
        assert (await here.read(POOL))[1] == "held"
    assert not list((mirrors / "coming").iterdir())
    assert len(list((mirrors / "bodies").iterdir())) == 1


async def test_an_index_that_is_damaged_costs_the_cache_and_not_the_start(origin: Upstream, tmp_path: Path) -> None:
    async with site(tmp_path, origin.url) as here:
        await here.read(RELEASE)
        await until(lambda: here.shelf.held_bytes() == 3)
    for path in (tmp_path / "mirrors").glob("index.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    async with site(tmp_path, origin.url) as here:
        assert await here.read(RELEASE) == (200, "fetched", b"one")


async def test_a_full_disk_is_said_to_be_full_and_keeps_nothing(
    origin: Upstream, here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.read(RELEASE)
    await until(lambda: here.shelf.held_bytes() == 3)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    origin.chunked = True
    async with here.get(POOL) as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "mirror_not_stored"
    origin.files[RELEASE] = b"newer"
    here.clock.ahead = 61
    assert await here.read(RELEASE) == (200, "stale", b"one")
    monkeypatch.undo()
    assert not list((here.root.parent / "mirrors/coming").iterdir())
    assert (await here.read(POOL))[2] == PACKAGE


async def test_a_stop_in_the_middle_of_a_fetch_ends_at_once(origin: Upstream, tmp_path: Path) -> None:
    origin.hold = 1 << 20
    async with asyncio.timeout(BUSY_SECONDS + 5):
        async with site(tmp_path, origin.url) as here, here.get(POOL) as answer:
            await answer.content.readexactly(1 << 20)
    assert not list((tmp_path / "mirrors/coming").iterdir())
    origin.go.set()
