"""A new version of a large content crosses the WAN as far as it is new, and no tenant gains by what another one has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from common import byte_parts
from common.bittorrent.reuse import SMALLEST_BLOCK, BlockMapBuilder
from common.byte_ranges import Span
from common.digest import Digest
from regional.part_routes import PartRoutes
from regional.serving import listening

from .conftest import PIECE, FakeCentre, Rig, Rigs, Sample, Signer, sample, until

SIZE = 32 * PIECE
OLD = sample(SIZE, seed=11)


def changed(data: bytes, share: float, run: int, seed: int = 5) -> Sample:
    """Runs of new bytes on so much of the content, wherever chance puts them."""
    chance, made = random.Random(seed), bytearray(data)
    for place in chance.sample(range(len(data) // run), int(len(data) * share / run)):
        made[place * run : (place + 1) * run] = chance.randbytes(run)
    return Sample(bytes(made), Digest.of(bytes(made)))


NEW = changed(OLD.data, 0.1, 4096)


@dataclass
class PartCentre(FakeCentre):
    """A centre that has block maps and gives parts. `maps`: false ones by digest. `cut_parts`: bytes of the next
    answers, then the line breaks.
    """

    maps: dict[Digest, bytes] = field(default_factory=dict)
    parts_sent: int = 0
    map_gets: int = 0
    cut_parts: list[int] = field(default_factory=list)

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.get("/content/v1/{digest}/blocks", self.blocks),
            web.post("/content/v1/{digest}/parts", self.parts),
        ]

    async def blocks(self, request: web.Request) -> web.Response:
        key, refusal = self._key(request)
        if refusal is not None:
            return refusal
        self.map_gets += 1
        return web.Response(body=self.maps.get(key.digest) or map_of(self.contents[key.digest]))

    async def parts(self, request: web.Request) -> web.StreamResponse:
        key, refusal = self._key(request)
        if refusal is not None:
            return refusal
        data = self.contents[key.digest]
        spans = byte_parts.parse(await request.read(), len(data))
        body = b"".join(data[span.start : span.end] for span in spans)
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        sent = body[: self.cut_parts.pop(0)] if self.cut_parts else body
        self.parts_sent += len(sent)
        await response.write(sent)
        if len(sent) < len(body):
            assert request.transport is not None
            request.transport.close()
        return response


def map_of(data: bytes) -> bytes:
    builder = BlockMapBuilder(SMALLEST_BLOCK)
    builder.update(data)
    return builder.finish().encode()


@pytest.fixture
async def centre(signer: Signer) -> AsyncIterator[PartCentre]:
    subject = PartCentre(signer)
    subject.state = signer.statement
    for one in (OLD, NEW):
        subject.publish(one, "acme", "globex")
    app = web.Application()
    app.add_routes(subject.routes())
    async with listening(app, "127.0.0.1", 0) as port:
        subject.url = f"http://127.0.0.1:{port}"
        yield subject
        subject.resume.set()


def crossed(rig: Rig, subject: Sample, tenant: str = "acme") -> float:
    """As a share of its size."""
    return rig.edge.crossings.count(subject.key(tenant)) / len(subject.data)


async def held(rig: Rig, subject: Sample, tenant: str = "acme") -> bytes:
    await rig.hold(subject, tenant)
    return rig.directory.content_path(subject.digest).read_bytes()


async def test_a_tenth_changed_in_small_runs_crosses_as_a_tenth(rigs: Rigs, centre: PartCentre) -> None:
    async with rigs() as rig:
        await rig.hold(OLD)
        assert await held(rig, NEW) == NEW.data
        assert crossed(rig, NEW) < 0.105
        # What the regional counts is what left the centre: the parts and the map.
        assert rig.edge.crossings.count(NEW.key()) == centre.parts_sent + len(map_of(NEW.data))
        assert NEW.digest not in centre.sent
        assert rig.edge.reuse.reused_bytes == SIZE - centre.parts_sent
        assert rig.seeding.seeds(NEW.key())


async def test_what_another_tenant_has_is_not_looked_at(rigs: Rigs, centre: PartCentre) -> None:
    async with rigs() as rig:
        await rig.hold(OLD, "globex")
        assert await held(rig, NEW) == NEW.data
        assert crossed(rig, NEW) == 1
        assert centre.map_gets == 0


async def test_changes_in_large_runs_and_at_another_place_are_found(rigs: Rigs, centre: PartCentre) -> None:
    moved = Sample(OLD.data[4096:] + OLD.data[:4096], Digest.of(OLD.data[4096:] + OLD.data[:4096]))
    runs = changed(OLD.data, 0.1, 1 << 16)
    for one in (moved, runs):
        centre.publish(one, "acme")
    async with rigs() as rig:
        await rig.hold(OLD)
        assert await held(rig, moved) == moved.data
        assert crossed(rig, moved) < 0.01
        assert await held(rig, runs) == runs.data
        assert crossed(rig, runs) < 0.105


async def test_the_zeros_of_a_sparse_image_do_not_cross(rigs: Rigs, centre: PartCentre) -> None:
    data = OLD.data[: 3 * PIECE] + bytes(SIZE - 4 * PIECE) + OLD.data[-PIECE:]
    sparse = Sample(data, Digest.of(data))
    centre.publish(sparse, "acme")
    async with rigs() as rig:
        assert await held(rig, sparse) == data
        assert crossed(rig, sparse) < 0.13


async def test_a_damaged_donor_is_not_believed(rigs: Rigs, centre: PartCentre) -> None:
    async with rigs() as rig:
        await rig.hold(OLD)
        with rig.directory.content_path(OLD.digest).open("r+b") as file:
            for at in range(0, SIZE, PIECE):
                file.seek(at)
                file.write(b"damaged")
        assert await held(rig, NEW) == NEW.data
        assert crossed(rig, NEW) < 0.2


async def test_a_false_map_costs_bytes_and_nothing_else(rigs: Rigs, centre: PartCentre) -> None:
    centre.maps[NEW.digest] = map_of(OLD.data[PIECE:] + OLD.data[:PIECE])
    async with rigs() as rig:
        await rig.hold(OLD)
        assert await held(rig, NEW) == NEW.data


@pytest.mark.parametrize("answer", [b"nonsense", b"LSB1" + bytes(64)])
async def test_a_map_that_is_none_is_as_if_there_were_none(rigs: Rigs, centre: PartCentre, answer: bytes) -> None:
    centre.maps[NEW.digest] = answer
    async with rigs() as rig:
        await rig.hold(OLD)
        assert await held(rig, NEW) == NEW.data
        assert crossed(rig, NEW) == pytest.approx(1, abs=0.001)


async def test_parts_that_break_off_are_asked_for_again(rigs: Rigs, centre: PartCentre) -> None:
    centre.cut_parts = [300_000, 200_000, 5]
    async with rigs() as rig:
        await rig.hold(OLD)
        assert await held(rig, NEW) == NEW.data
        assert crossed(rig, NEW) < 0.15


async def test_a_process_that_died_while_copying_begins_with_what_is_good(rigs: Rigs, centre: PartCentre) -> None:
    """What kill -9 leaves: some pieces copied, some half, and the newest content without its end."""
    async with rigs() as rig:
        await rig.hold(OLD)
        partial = bytearray(SIZE)
        partial[: 9 * PIECE] = NEW.data[: 9 * PIECE]
        partial[9 * PIECE : 9 * PIECE + 5000] = NEW.data[9 * PIECE :][:5000]
        partial[20 * PIECE :] = bytes([255]) * (SIZE - 20 * PIECE)
        rig.directory.partial_path(NEW.digest).write_bytes(partial)
    async with rigs() as rig:
        assert await held(rig, NEW) == NEW.data
        assert crossed(rig, NEW) < 0.08


async def test_hosts_of_the_idc_get_map_and_parts_while_they_cross(
    rigs: Rigs, centre: PartCentre, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regional.content._check_bearer", lambda *_: None)
    async with rigs() as rig, aiohttp.ClientSession() as http:
        await rig.hold(OLD)
        app = web.Application()
        app.add_routes(PartRoutes(rig.edge, signer.verifier()).routes())
        async with listening(app, "127.0.0.1", 0) as port:
            url = f"http://127.0.0.1:{port}/content/v1/{NEW.digest}"
            headers = {"Authorization": f"Bearer {rig.token(NEW)}"}
            spans = [Span(at, at + 100) for at in range(50, SIZE - 100, 7777)]
            # The regional has no piece of it when they ask.
            asked = http.post(f"{url}/parts", data=byte_parts.encode(spans), headers=headers)
            async with asked as answer, http.get(f"{url}/blocks", headers=headers) as blocks:
                assert await answer.read() == b"".join(NEW.data[span.start : span.end] for span in spans)
                assert await blocks.read() == map_of(NEW.data)
    assert centre.map_gets == 1


async def test_eviction_of_the_donor_does_not_disturb(rigs: Rigs, centre: PartCentre) -> None:
    centre.cut_parts = [1000, 1000]
    async with rigs() as rig:
        await rig.hold(OLD)
        holding = asyncio.ensure_future(rig.hold(NEW))
        await until(lambda: rig.edge.held_bytes(NEW.digest) > 0)
        await rig.shelf.evict(OLD.digest)
        await holding
        assert rig.directory.content_path(NEW.digest).read_bytes() == NEW.data
        assert crossed(rig, NEW) < 0.15
