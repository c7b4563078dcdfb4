"""What every RuntimeDriver keeps of containers that others made: described, claimed, succeeded, else left alone. See
runtime_driver.py for `world`.
"""

from __future__ import annotations

import dataclasses

import pytest

from agent.model import ContainerState, Mount
from agent.runtimes import LABEL_ADOPT, Adoption, NotOurs
from tests.conformance.runtime_driver import AT_ONCE, SLEEPER, World, order, shown, started, state_of

OFFERED = dataclasses.replace(
    SLEEPER, environment={"COLOUR": "red"}, memory_bytes=64 << 20, mounts=(Mount("longshore-test-data", "/data"),)
)
OFFER = {LABEL_ADOPT: "acme/web", "team": "blue"}


class AdoptionContract:
    async def test_a_container_that_invites_adoption_is_described(self, world: World) -> None:
        await world.driver.pull("acme/web", world.manifest)
        offered = await world.offered_container("offered", OFFERED, OFFER)
        (found,) = await world.driver.strangers()
        assert (found.runtime_id, found.name, found.state) == (offered, "offered", ContainerState.RUNNING)
        assert found.manifests == {world.manifest}
        assert found.labels[LABEL_ADOPT] == "acme/web"
        assert found.spec.command == SLEEPER.command
        assert found.spec.environment == {"COLOUR": "red"}
        assert found.spec.memory_bytes == 64 << 20
        assert [(one.volume, one.target) for one in found.spec.mounts] == [("longshore-test-data", "/data")]
        assert found.spec.network == ""
        assert found.beyond

    async def test_only_who_invites_or_is_named_is_described_and_no_agents_own(self, world: World) -> None:
        ours = await started(world)
        neighbours = await world.neighbour.create(order(world))
        foreign = await world.foreign_container("somebody-elses")
        assert await world.driver.strangers() == []
        assert [one.runtime_id for one in await world.driver.strangers([foreign])] == [foreign]
        assert [one.runtime_id for one in await world.driver.strangers(["somebody-elses"])] == [foreign]
        assert await world.driver.strangers([ours, neighbours, "nobody"]) == []

    async def test_a_claimed_container_is_ours_until_the_claim_ends(self, world: World) -> None:
        await world.driver.pull("acme/web", world.manifest)
        offered = await world.offered_container("offered", OFFERED, OFFER)
        with pytest.raises(NotOurs):
            await world.driver.stop(offered, AT_ONCE)
        world.driver.claim({offered: Adoption("an-instance", 7, "c" * 32)})
        container = await shown(world.driver, offered)
        assert container is not None
        assert (container.instance_id, container.generation, container.spec_hash) == ("an-instance", 7, "c" * 32)
        assert container.adopted
        assert container.state is ContainerState.RUNNING, "it was not touched"
        assert await world.driver.strangers(["offered"]) == []
        await world.driver.stop(offered, AT_ONCE)
        await world.driver.start(offered)
        assert await state_of(world.driver, offered) is ContainerState.RUNNING
        world.driver.claim({})
        assert await world.driver.containers() == []
        with pytest.raises(NotOurs):
            await world.driver.remove(offered)

    async def test_another_agents_container_cannot_be_claimed(self, world: World) -> None:
        await world.driver.pull("acme/web", world.manifest)
        neighbours = await world.neighbour.create(order(world))
        world.driver.claim({neighbours: Adoption("an-instance", 1, "c" * 32)})
        assert await world.driver.containers() == []
        with pytest.raises(NotOurs):
            await world.driver.start(neighbours)
        assert len(await world.neighbour.containers()) == 1

    async def test_a_claim_on_what_is_gone_is_no_container(self, world: World) -> None:
        world.driver.claim({"0" * 64: Adoption("an-instance", 1, "c" * 32)})
        assert await world.driver.containers() == []

    async def test_a_successor_takes_over_what_the_specification_leaves_open(self, world: World) -> None:
        await world.driver.pull("acme/web", world.manifest)
        offered = await world.offered_container("offered", OFFERED, OFFER)
        world.driver.claim({offered: Adoption("an-instance", 1, "")})
        await world.driver.stop(offered, AT_ONCE)
        wanted = order(world, successor_of=offered, instance_id="an-instance", spec=SLEEPER)
        successor = await world.driver.create(wanted)
        assert await world.kept_beyond(successor)
        await world.driver.start(successor)
        await world.driver.remove(offered)
        world.driver.claim({})
        (container,) = await world.driver.containers()
        assert (container.runtime_id, container.adopted) == (successor, True)
        assert container.state is ContainerState.RUNNING
        again = await world.driver.create(
            dataclasses.replace(wanted, name="the-next", spec_hash="d" * 32, successor_of=successor)
        )
        assert await world.kept_beyond(again), "what was taken over once is taken over again"
