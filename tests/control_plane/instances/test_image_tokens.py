"""One token for all contents of an image, as far as one token may go, for hosts that take it."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from common.clock import ManualClock
from common.content_token import MOST_DIGESTS, ContentVerifier, TokenForOther
from common.digest import Digest
from control_plane.database import Database
from control_plane.fleet import store as fleet_store
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.tables import hosts, regionals
from control_plane.instances.service import InstanceService
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import OPERATOR, run_request
from tests.control_plane.swarm.parts import Shelf


@pytest.fixture
async def able(fleet: None, database: Database) -> None:
    """Every host and regional takes image tokens."""
    async with database.transaction() as unit:
        for table in (hosts, regionals):
            await unit.connection.execute(update(table).values(image_tokens=True))


@pytest.fixture
def verifier(tokens: ContentTokens, clock: ManualClock) -> ContentVerifier:
    verifier = ContentVerifier(clock)
    verifier.replace_keys(tokens.verifying_keys())
    return verifier


async def told(
    assignments: LayeredAssignments, host_id: str = "host-e1", held: dict[str, agent_pb2.Assignment] | None = None
) -> agent_pb2.Image:
    ((_, assignment),) = (await assignments.assignments(host_id, held)).assignments.items()
    return assignment.image


@pytest.mark.usefixtures("able")
async def test_one_token_is_good_for_every_content_of_the_image_and_for_nothing_else(
    service: InstanceService, assignments: LayeredAssignments, verifier: ContentVerifier
) -> None:
    await service.run(OPERATOR, run_request("east/e1"))

    image = await told(assignments)

    contents = (image.manifest, *image.contents)
    assert [content.token for content in contents] == [""] * len(contents)
    for content in contents:
        claim = verifier.verify(image.token, Digest.parse(content.digest))
        assert (claim.bearer, claim.idc, claim.tenant_id) == ("host/host-e1", "east", "t-acme")
    assert {str(digest) for digest in claim.digests} == {content.digest for content in contents}
    with pytest.raises(TokenForOther):
        verifier.verify(image.token, Digest.of(b"another"))


@pytest.mark.usefixtures("able")
async def test_contents_beyond_what_one_token_holds_have_their_own(
    service: InstanceService, assignments: LayeredAssignments, verifier: ContentVerifier, shelf: Shelf
) -> None:
    shelf.put_image("acme/deep:1", *(b"layer %d" % number for number in range(60)))
    await service.run(OPERATOR, run_request("east/e1", image="acme/deep:1"))

    image = await told(assignments)

    contents = (image.manifest, *image.contents)
    assert len(contents) == 62
    assert [bool(content.token) for content in contents] == [False] * MOST_DIGESTS + [True] * (62 - MOST_DIGESTS)
    for content in contents:
        assert verifier.verify(content.token or image.token, Digest.parse(content.digest))
    assert len(image.token) < 4_000, "servers take 8 kB of headers"


@pytest.mark.usefixtures("able")
async def test_a_layer_that_an_image_has_twice_counts_once(
    service: InstanceService, assignments: LayeredAssignments, verifier: ContentVerifier, shelf: Shelf
) -> None:
    shelf.put_image("acme/twice:1", b"same", b"same", b"other")
    await service.run(OPERATOR, run_request("east/e1", image="acme/twice:1"))

    image = await told(assignments)

    assert len(verifier.verify(image.token).digests) == 4
    assert len(image.contents) == 4


@pytest.mark.usefixtures("able")
async def test_what_a_host_holds_is_told_again_once_a_regional_refuses_its_token(
    service: InstanceService, assignments: LayeredAssignments, verifier: ContentVerifier, database: Database
) -> None:
    await service.run(OPERATOR, run_request("east/e1"))
    held = dict((await assignments.assignments("host-e1")).assignments)
    again = (await assignments.assignments("host-e1", held)).assignments
    assert all(again[key] is message for key, message in held.items()), "nothing changed"

    async with database.transaction() as unit:
        await unit.connection.execute(update(regionals).values(image_tokens=False))
        await fleet_store.bump_assignments(unit.connection, ["host-e1"])

    image = await told(assignments, held=held)
    assert image.token == ""
    for content in (image.manifest, *image.contents):
        assert verifier.verify(content.token).digests == (Digest.parse(content.digest),)
