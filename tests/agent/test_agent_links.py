"""A host's line: limits of the centre, and preheats that give way and stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.journal import Journal
from agent.model import Assignment, DesiredState, Effort, Image, Phase
from proto.content.v1 import content_pb2
from tests.agent.lab import FakeSource, Lab
from tests.agent.samples import Sample, assignment, noise, sample
from tests.pace import BUSY_SECONDS

MB = 1_000_000
PREHEAT = "01900000-0000-7000-8000-0000000000a1"
RUNNING = "01900000-0000-7000-8000-0000000000b2"


def down(rate: int, tenant_id: str = "") -> content_pb2.Limits:
    rule = content_pb2.LimitRule(link=content_pb2.LINK_HOST_DOWN, bytes_per_second=rate, tenant_id=tenant_id)
    return content_pb2.Limits(rules=[rule])


def held(image: Image, effort: Effort, instance_id: str = PREHEAT) -> Assignment:
    return assignment(image, DesiredState.HELD, instance_id=instance_id, effort=effort)


def layers(*samples: Sample) -> Sequence[bytes]:
    return [data for one in samples for data in one.bytes_of.values()]


def largest(one: Sample) -> int:
    return max(len(data) for data in one.bytes_of.values())


@pytest.mark.parametrize("tenant_id", ["", "tenant-1"])
async def test_a_limit_holds_for_what_comes_over_http(tmp_path: Path, tenant_id: str) -> None:
    image = sample(noise(3 * MB))
    async with FakeSource() as centre:
        centre.hold(*layers(image), metainfo=False)
        async with Lab(tmp_path, centre).open() as agent:
            await agent.book.limit(down(2 * MB, tenant_id))
            await agent.links.round()
            agent.reconcile()
            began = asyncio.get_running_loop().time()
            await agent.assign(assignment(image.image, DesiredState.HELD))
            await agent.until(image_id(), Phase.VERIFIED)
            took = asyncio.get_running_loop().time() - began
            assert 3 * MB / (2 * MB) * 0.85 < took < 3 + BUSY_SECONDS
            stored = await Journal(tmp_path / "journal").load_message("limits", content_pb2.Limits())
            assert stored == down(2 * MB, tenant_id)


def image_id() -> str:
    return assignment(sample(b"x").image).instance_id


async def test_a_preheat_gives_way_to_what_somebody_waits_for(tmp_path: Path) -> None:
    warm, wanted = sample(noise(4 * MB, "warm")), sample(noise(4 * MB, "wanted"), tag="2")
    async with FakeSource() as centre:
        centre.hold(*layers(warm, wanted), metainfo=False)
        async with Lab(tmp_path, centre).open() as agent:
            await agent.book.limit(down(4 * MB))
            agent.keep_links()
            agent.reconcile()
            await agent.assign(held(warm.image, Effort.LOWER))
            await agent.until(PREHEAT, Phase.FETCHING)
            await agent.assign(held(warm.image, Effort.LOWER), held(wanted.image, Effort.ORDINARY, RUNNING))
            begun = sum(centre.sent.values())
            await agent.until(RUNNING, Phase.VERIFIED)
            moved = agent.fetcher.held_bytes(warm.image.contents[-1], "tenant-1")
            assert moved - begun < 1.2 * MB  # at most what it had, and a small share of one second
            await agent.assign(held(warm.image, Effort.LOWER))
            await agent.until(PREHEAT, Phase.VERIFIED)


async def test_a_preheat_stands_still_outside_its_window_and_loses_nothing(tmp_path: Path) -> None:
    image = sample(noise(6 * MB))
    async with FakeSource() as centre, FakeSource() as regional:
        centre.hold(*layers(image))
        regional.hold(*layers(image))
        lab = Lab(tmp_path, centre, regionals=[regional])
        await lab.regional_seed(max(image.bytes_of.values(), key=len))
        async with lab.open() as agent:
            await agent.introduce_regionals()
            await agent.book.limit(down(2 * MB))
            agent.keep_links()
            agent.reconcile()
            layer = image.image.contents[-1]
            await agent.assign(held(image.image, Effort.LOWER))
            async with asyncio.timeout(BUSY_SECONDS):
                while (kept := agent.fetcher.held_bytes(layer, "tenant-1")) < 2 * MB:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await agent.assign(held(image.image, Effort.PAUSED))
            await agent.until(PREHEAT, Phase.PENDING)
            assert "stands still" in agent.told()[PREHEAT].detail
            async with asyncio.timeout(BUSY_SECONDS):
                while agent.swarms.member(("tenant-1", layer.digest)) is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            before = agent.ledger.provenance("tenant-1", layer.digest)
            gathered = before.from_regional_bytes + before.from_peers_bytes + before.from_centre_bytes
            assert gathered < layer.size_bytes

            with capture_logs() as logs:
                await agent.assign(held(image.image, Effort.LOWER))
                await agent.until(PREHEAT, Phase.VERIFIED)
            (resumed,) = [entry for entry in logs if entry["event"] == "swarm resumed"]
            # Whole pieces: the last one is shorter than the others.
            assert resumed["held"] >= kept * resumed["pieces"] // layer.size_bytes


async def test_what_somebody_wants_now_is_no_preheat_any_more(tmp_path: Path) -> None:
    image = sample(noise(MB))
    async with FakeSource() as centre, Lab(tmp_path, centre).open() as agent:
        layer = image.image.contents[-1]
        await agent.assign(held(image.image, Effort.PAUSED))
        assert agent.book.effort("tenant-1", layer.digest) is Effort.PAUSED
        await agent.assign(held(image.image, Effort.PAUSED), held(image.image, Effort.ORDINARY, RUNNING))
        assert agent.book.effort("tenant-1", layer.digest) is Effort.ORDINARY
