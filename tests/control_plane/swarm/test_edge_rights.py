"""What a regional may fetch for somebody: what the very repository holds and the asker may pull; on both engines."""

from __future__ import annotations

import pytest

from common.clock import ManualClock
from common.content_token import ContentVerifier
from common.digest import Digest
from common.errors import Denied, NotFound, Unauthenticated
from common.reference import NameInvalid
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.registry.service import RegistryService
from control_plane.swarm.access import BearerRevoked
from control_plane.swarm.edge_rights import MOST_DIGESTS, PullRights, TooManyDigests
from control_plane.swarm.tokens import ContentTokens
from control_plane.tenants.access import Principal
from tests.control_plane.registry.people import ADA, BOB, Directory
from tests.control_plane.registry.pushing import push_blob

pytestmark = pytest.mark.usefixtures("fleet")

REGIONAL = "regional/regional-er"
PEOPLE = {"ada": ADA, "bob": BOB}


class Names:
    """A token is the name of a principal."""

    async def verify(self, token: str) -> Principal:
        if token not in PEOPLE:
            raise Unauthenticated("wrong token")
        return PEOPLE[token]


@pytest.fixture
def registry(database: Database, clock: ManualClock) -> RegistryService:
    return RegistryService(database, MemoryBlobStore(clock), Directory("acme", "birch"), clock)


@pytest.fixture
def rights(registry: RegistryService, tokens: ContentTokens, members: Members) -> PullRights:
    return PullRights(registry, Names(), tokens, members)


async def test_a_regional_gets_tokens_of_its_own_for_what_the_repository_holds(
    rights: PullRights, registry: RegistryService, tokens: ContentTokens, clock: ManualClock
) -> None:
    ours, theirs = await push_blob(registry, b"ours"), await push_blob(registry, b"theirs", "birch/web", BOB)
    granted = await rights.ask(REGIONAL, "east", "ada", "acme/web", [ours, theirs, Digest.of(b"nobody's")])
    assert granted.sizes == {ours: 4}
    assert granted.tokens.keys() == {ours}
    assert not granted.public
    verifier = ContentVerifier(clock)
    verifier.replace_keys(tokens.verifying_keys())
    claim = verifier.verify(granted.tokens[ours], ours)
    assert (claim.bearer, claim.idc, claim.tenant_id) == (REGIONAL, "east", granted.tenant_id)


async def test_who_may_not_pull_gets_nothing(rights: PullRights, registry: RegistryService) -> None:
    digest = await push_blob(registry, b"ours")
    for token, failure in (("bob", NotFound), ("", Unauthenticated), ("forged", Unauthenticated)):
        with pytest.raises(failure):
            await rights.ask(REGIONAL, "east", token, "acme/web", [digest])
    with pytest.raises(NotFound):
        await rights.ask(REGIONAL, "east", "ada", "acme/none", [digest])


async def test_only_a_regional_that_counts_may_ask_and_not_for_everything(
    rights: PullRights, registry: RegistryService
) -> None:
    digest = await push_blob(registry, b"ours")
    with pytest.raises(Denied):
        await rights.ask("host/host-e1", "east", "ada", "acme/web", [digest])
    with pytest.raises(BearerRevoked):
        await rights.ask("regional/never", "east", "ada", "acme/web", [digest])
    with pytest.raises(NameInvalid):
        await rights.ask(REGIONAL, "east", "ada", "../etc", [digest])
    with pytest.raises(TooManyDigests):
        await rights.ask(REGIONAL, "east", "ada", "acme/web", [digest] * (MOST_DIGESTS + 1))
