"""Whatever changes in the registry is recorded with it, and a pull costs no query."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from common.clock import ManualClock
from common.errors import Denied
from control_plane.audit import store
from control_plane.audit.model import ANONYMOUS, Entry, Search, Sight
from control_plane.audit.sealer import Sealer
from control_plane.audit.service import AuditTrail
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.registry.auditing import RegistryAuditing
from control_plane.registry.model import Repository
from control_plane.registry.participants import Hooks, Participant
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Principal
from tests.control_plane.registry.people import ADA, BOTH, VERA, Directory
from tests.control_plane.registry.pushing import WEB, push_blob, push_image


@pytest.fixture
def trail(database: Database, clock: ManualClock) -> AuditTrail:
    return AuditTrail(database, clock)


def audited(database: Database, clock: ManualClock, trail: AuditTrail, *others: Participant) -> RegistryService:
    hooks = Hooks(participants=(RegistryAuditing(trail), *others))
    return RegistryService(database, MemoryBlobStore(clock), Directory("acme", "birch"), clock, hooks)


async def entries(database: Database, clock: ManualClock) -> list[Entry]:
    await Sealer(database, clock).seal_all()
    async with database.reading() as connection:
        found = await store.oldest(connection, Sight(ANONYMOUS, everything=True), Search(), 0, 1000)
    return [sealed.entry for sealed in found]


async def test_a_push_a_mount_a_move_and_a_deletion_are_recorded(
    database: Database, clock: ManualClock, trail: AuditTrail
) -> None:
    registry = audited(database, clock, trail)
    first = await push_image(registry, "one")
    await push_image(registry, "two")
    digest = await push_blob(registry, b"base one", "birch/copy", BOTH)
    await registry.images.delete_tag(ADA, WEB, "latest")
    await registry.images.delete_manifest(ADA, WEB, first.digest)
    made = await entries(database, clock)
    told = [(each.operation, each.operator, each.repository) for each in made]
    assert told[0] == ("registry.repository_made", "ada", WEB)
    assert told.count(("registry.link", "ada", WEB)) == 6
    assert told.count(("registry.push", "ada", WEB)) == 2
    assert ("registry.link", "both", "birch/copy") in told
    assert [each.digest for each in made if each.repository == "birch/copy"][-1] == str(digest)
    moved = [each for each in made if each.operation == "registry.tag"]
    assert [each.details["before"] for each in moved] == [None, str(first.digest)]
    assert told[-2:] == [("registry.untag", "ada", WEB), ("registry.delete", "ada", WEB)]
    assert {each.tenant for each in made} == {"acme", "birch"}


async def test_a_change_that_another_participant_refuses_leaves_no_entry(
    database: Database, clock: ManualClock, trail: AuditTrail
) -> None:
    class Refuser(Participant):
        async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None:
            raise Denied("no more repositories")

    registry = audited(database, clock, trail, Refuser())
    with pytest.raises(Denied):
        await push_blob(registry, b"data")
    assert await entries(database, clock) == []


async def test_a_pull_is_noted_without_a_query(database: Database, clock: ManualClock, trail: AuditTrail) -> None:
    registry = audited(database, clock, trail)
    image = await push_image(registry)
    registry.images.note_pull(ADA, WEB, await registry.images.find(ADA, WEB, image.digest))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    registry.images.note_pull(VERA, WEB, await registry.images.find(VERA, WEB, image.digest))
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert statements == []
    assert trail.waiting == 2
    await trail.flush()
    pulls = [each for each in await entries(database, clock) if each.operation == "registry.pull"]
    assert [(each.operator, each.digest) for each in pulls] == [(name, str(image.digest)) for name in ("ada", "vera")]
