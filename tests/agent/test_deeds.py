"""What commands do on a real cache and a memory engine, beside a reconciler that works meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.commands_model import Command, Verb
from agent.cut_off import CutOff
from agent.deeds import Deeds, NotAssigned, NothingRuns, OnTheMove
from agent.model import DesiredState, Phase
from agent.runtimes import SnapshotUnknown
from common.digest import Digest
from proto.agent.v1 import agent_pb2, moves_pb2
from tests.agent.lab import Agent, FakeSource, Lab, message_of
from tests.agent.samples import INSTANCE, assignment, noise, sample
from tests.agent.test_reconciler import eventually

SAMPLE = sample(noise(200_000, "layer"))
SPARE = noise(50_000, "spare")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with FakeSource() as centre:
        centre.hold(*SAMPLE.bytes_of.values())
        yield Lab(tmp_path, centre)


def deeds_of(agent: Agent) -> Deeds:
    reconciler = agent.reconciler
    return Deeds(
        agent.book,
        lambda: agent.driver if agent.lab.has_engine else None,
        agent.cache,
        agent.fetcher.eviction,
        reconciler.hold,
        reconciler.try_again,
        lambda: {"facts": {"cpus": 2}},
    )


async def do(agent: Agent, verb: Verb, instance_id: str = INSTANCE, argument: str = "") -> Any:
    return json.loads(await deeds_of(agent).carry_out(Command("c", verb, instance_id, 0, 60, argument=argument)))


async def running(agent: Agent) -> None:
    agent.reconcile()
    await agent.assign(assignment(SAMPLE.image))
    await agent.until(INSTANCE, Phase.RUNNING)


async def test_a_restart_is_one_stop_and_one_start(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent)
        (before,) = lab.engine.running(INSTANCE)
        assert await do(agent, Verb.RESTART) == {"runtime_id": before.runtime_id}
        await asyncio.sleep(0.2)  # several rounds of the reconciler
        (after,) = lab.engine.running(INSTANCE)
        assert (after.runtime_id, after.starts) == (before.runtime_id, before.starts + 1)


async def test_what_does_not_run_is_not_restarted(lab: Lab) -> None:
    async with lab.open() as agent:
        with pytest.raises(NotAssigned):
            await do(agent, Verb.RESTART)
        await agent.assign(assignment(SAMPLE.image, DesiredState.STOPPED))
        with pytest.raises(NothingRuns, match="not wanted running"):
            await do(agent, Verb.RESTART)
        await agent.assign(assignment(SAMPLE.image))
        with pytest.raises(NothingRuns, match="no container of web runs"):
            await do(agent, Verb.RESTART)


async def test_nothing_is_done_to_an_instance_that_a_command_works_on(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent)
        async with agent.reconciler.hold(INSTANCE):
            await agent.assign(assignment(SAMPLE.image, DesiredState.STOPPED, generation=2))
            await asyncio.sleep(0.2)
            assert len(lab.engine.running(INSTANCE)) == 1
        await eventually(lambda: not lab.engine.running(INSTANCE))


async def test_damaged_contents_are_found_and_fetched_again(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent)
        digest = SAMPLE.image.contents[1].digest
        path = agent.cache.find(digest)
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(b"\0" * path.stat().st_size)
        assert await do(agent, Verb.REFETCH) == {"verified": 2, "damaged": [str(digest)], "missing": 0}
        await eventually(lambda: digest in agent.cache.held)
        assert await do(agent, Verb.REFETCH) == {"verified": 3, "damaged": [], "missing": 0}
        assert len(lab.engine.running(INSTANCE)) == 1


async def test_a_refetch_tries_again_at_once_what_waited(lab: Lab) -> None:
    lab.centre.refuse = 403
    async with lab.open() as agent:
        agent.reconciler._attempts.random = lambda: 1.0  # type: ignore[method-assign]
        agent.reconcile()
        await agent.assign(assignment(SAMPLE.image))
        await eventually(lambda: (agent.reconciler._attempts.seconds_to_next() or 0) > 0.5)
        lab.centre.refuse = 0
        assert (await do(agent, Verb.REFETCH))["missing"] == 3
        await agent.until(INSTANCE, Phase.RUNNING)


async def test_pruning_drops_what_nobody_needs_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    async with lab.open() as agent:
        await running(agent)
        await agent.cache.publish_bytes(Digest.of(SPARE), [SPARE])
        held = agent.cache.held
        assert (await do(agent, Verb.PRUNE_CACHE, ""))["freed_bytes"] == len(SPARE)
        assert agent.cache.held == held - {Digest.of(SPARE)}
        assert (await do(agent, Verb.PRUNE_CACHE, ""))["freed_bytes"] == 0


async def test_diagnostics_tell_what_is_wanted_and_what_is_there(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent)
        told = await do(agent, Verb.COLLECT_DIAGNOSTICS, "")
        assert told["facts"] == {"cpus": 2}
        assert told["assignments"][0]["name"] == "acme/web"
        assert told["engine"]["containers"][0]["state"] == "running"
        assert told["cache"]["contents"] == 3
        lab.engine.away = True
        assert "error" in (await do(agent, Verb.COLLECT_DIAGNOSTICS, ""))["engine"]
        lab.engine.away = False


async def test_an_exclusive_instance_stops_while_its_host_is_cut_off_and_starts_when_it_is_back(lab: Lab) -> None:
    async with lab.open() as agent:
        alone = [CutOff(0.0)]
        agent.reconciler._cut_off = lambda: alone[0]
        agent.reconcile()
        message = message_of(assignment(SAMPLE.image))
        message.stop_when_cut_off_seconds = 60
        await agent.book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[message]))
        await eventually(lambda: len(lab.engine.running(INSTANCE)) == 1)
        alone[0] = CutOff(61.0)
        await eventually(lambda: not lab.engine.running(INSTANCE))
        alone[0] = CutOff(0.0)
        await eventually(lambda: len(lab.engine.running(INSTANCE)) == 1)


async def test_snapshots_are_taken_listed_restored_and_deleted(lab: Lab) -> None:
    async with lab.open() as agent:
        with pytest.raises(NotAssigned):
            await do(agent, Verb.LIST_SNAPSHOTS)
        await running(agent)
        (container,) = lab.engine.running(INSTANCE)
        files = lab.engine.files.setdefault(container.runtime_id, {})
        files["/mark"] = b"early"
        for _ in range(2):
            assert await do(agent, Verb.SNAPSHOT, argument="first") == {"name": "first"}
        files["/mark"] = b"late"
        assert [one["name"] for one in (await do(agent, Verb.LIST_SNAPSHOTS))["snapshots"]] == ["first"]
        await do(agent, Verb.RESTORE_SNAPSHOT, argument="first")
        assert lab.engine.files[container.runtime_id]["/mark"] == b"early"
        with pytest.raises(SnapshotUnknown):
            await do(agent, Verb.RESTORE_SNAPSHOT, argument="second")
        await do(agent, Verb.DELETE_SNAPSHOT, argument="first")
        assert await do(agent, Verb.LIST_SNAPSHOTS) == {"snapshots": []}


async def test_what_moves_is_left_alone(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent)
        message = message_of(assignment(SAMPLE.image, DesiredState.STOPPED, generation=2))
        message.hand_over.CopyFrom(moves_pb2.HandOver(move_id="m", target_host_id="host-2"))
        await agent.book.replace(agent_pb2.AssignmentSet(results_in=9, assignments=[message]))
        for verb in (Verb.SNAPSHOT, Verb.RESTORE_SNAPSHOT, Verb.DELETE_SNAPSHOT):
            with pytest.raises(OnTheMove):
                await do(agent, verb, argument="first")
