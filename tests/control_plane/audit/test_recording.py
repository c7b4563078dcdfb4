"""A change and its entry commit together; what changes nothing is buffered, bounded and never waits."""

from __future__ import annotations

import asyncio
import gc
import json
import time

import pytest
from structlog.testing import capture_logs

from common.clock import ManualClock
from common.errors import Unavailable
from control_plane.audit.auditing import Auditing
from control_plane.audit.flood import Flood
from control_plane.audit.model import ANONYMOUS, MAX_DETAILS, Act, Outcome
from control_plane.database import Database
from control_plane.web.origin import bound
from tests.control_plane.audit.acts import ADA, chain, push, record
from tests.control_plane.audit.conftest import BuildAuditing
from tests.pace import BUSY_SECONDS

SCOPE = {
    "type": "http",
    "client": ("::ffff:192.0.2.9", 4711),
    "headers": [(b"user-agent", b"docker/28"), (b"x-request-id", b"r-1")],
}


async def test_an_entry_exists_if_its_change_was_committed(database: Database, auditing: Auditing) -> None:
    async def change_that_fails() -> None:
        async with database.transaction() as unit:
            auditing.trail.record(unit, push(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change_that_fails()
    await record(database, auditing, push(2))
    await auditing.sealer.seal_all()
    assert [sealed.entry.tag for sealed in await chain(auditing)] == ["v2"]


async def test_an_entry_says_who_what_when_and_from_where(
    database: Database, auditing: Auditing, clock: ManualClock
) -> None:
    with bound(dict(SCOPE)):
        await record(database, auditing, push(1, digest="sha256:ab", details={"size": 7, "nested": {"a": [1, None]}}))
    await auditing.sealer.seal_all()
    (sealed,) = await chain(auditing)
    entry = sealed.entry
    assert (entry.operation, entry.outcome, entry.occurred_at) == ("registry.push", "success", clock.now())
    assert (entry.operator_type, entry.operator_id, entry.operator) == ("user", "u-ada", "ada")
    assert (entry.tenant, entry.repository, entry.digest, entry.tag) == ("acme", "acme/web", "sha256:ab", "v1")
    assert (entry.client, entry.user_agent, entry.request_id) == ("192.0.2.9", "docker/28", "r-1")
    assert entry.details == {"size": 7, "nested": {"a": [1, None]}}


async def test_details_are_bounded_and_hold_no_secret(database: Database, auditing: Auditing) -> None:
    nested = {"password": "x", "api_token": "x", "rule": {"client_secret": "x", "name": "n\x00\ud800"}, "share": 0.5}
    await record(database, auditing, push(details=nested), push(details={"text": ["x" * 1000] * 50}))
    await auditing.sealer.seal_all()
    first, second = await chain(auditing)
    assert first.entry.details == {"rule": {"name": "n??"}, "share": "0.5"}
    assert list(second.entry.details) == ["left_out"]
    assert len(str(second.entry.details)) < MAX_DETAILS


async def test_what_is_noted_is_written_by_a_flush(auditing: Auditing) -> None:
    with bound(dict(SCOPE)):
        auditing.trail.note(push(1))
    assert auditing.trail.waiting == 1
    await auditing.trail.flush()
    assert auditing.trail.waiting == 0
    await auditing.sealer.seal_all()
    assert [sealed.entry.client for sealed in await chain(auditing)] == ["192.0.2.9"]


async def test_a_full_buffer_counts_and_tells_what_it_lost(database: Database, build: BuildAuditing) -> None:
    auditing = build(database, capacity=10)
    for number in range(25):
        auditing.trail.note(push(number))
    assert (auditing.trail.waiting, auditing.trail.lost) == (10, 15)
    with capture_logs() as logs:
        await auditing.trail.flush()
        await auditing.trail.flush()
    assert [(line["event"], line["entries"]) for line in logs] == [("audit.lost", 15)]


async def test_an_outage_of_the_database_loses_nothing_that_was_noted(
    auditing: Auditing, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditing.trail.note(push(1))

    def away() -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as outage:
        outage.setattr(database, "transaction", away)
        with pytest.raises(Unavailable):
            await auditing.trail.flush()
        auditing.trail.note(push(2))
    await auditing.trail.flush()
    await auditing.sealer.seal_all()
    assert [sealed.entry.tag for sealed in await chain(auditing)] == ["v1", "v2"]


async def test_a_flush_whose_commit_was_not_heard_of_is_sealed_once(
    auditing: Auditing, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditing.trail.note(push(1))
    transaction = database.transaction

    class DeafAfterCommit:
        def __init__(self) -> None:
            self.inner = transaction()

        async def __aenter__(self) -> object:
            return await self.inner.__aenter__()

        async def __aexit__(self, *error: object) -> None:
            await self.inner.__aexit__(*error)  # type: ignore[arg-type]
            raise Unavailable("the connection broke")

    with monkeypatch.context() as deaf:
        deaf.setattr(database, "transaction", DeafAfterCommit)
        with pytest.raises(Unavailable):
            await auditing.trail.flush()
    await auditing.trail.flush()
    assert await auditing.sealer.seal_all() == 2
    assert len(await chain(auditing)) == 1


async def test_the_flusher_writes_at_once_when_a_batch_is_full(database: Database, build: BuildAuditing) -> None:
    auditing = build(database, batch=5, flush_seconds=3600.0)
    running = asyncio.ensure_future(auditing.trail.run(lambda: 0.5))
    await asyncio.sleep(0)
    for number in range(5):
        auditing.trail.note(push(number))
    async with asyncio.timeout(BUSY_SECONDS):
        while auditing.trail.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await auditing.sealer.seal_all() == 5


async def test_ten_thousand_notes_do_not_hold_up_the_loop(auditing: Auditing, request: pytest.FixtureRequest) -> None:
    """Noting costs as little as making JSON of it a few times, and flushing keeps the loop for a small part of what
    the noting took. In CPU time of the loop's thread, against what this machine needs at this moment, and without the
    collection of what thousands of other tests have left.
    """
    gc.disable()
    request.addfinalizer(gc.enable)
    began = time.thread_time()
    for number in range(10_000):
        json.dumps({"number": number, "repository": "acme/web", "digest": "sha256:" + "0" * 64, "by": "ada"})
    reference = time.thread_time() - began
    began = time.thread_time()
    with bound(dict(SCOPE)):
        for number in range(10_000):
            auditing.trail.note(push(number))
    noting = time.thread_time() - began
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await auditing.trail.flush()
        watching.cancel()
    print(f"noting {noting / reference:.1f} times its JSON, longest hold {longest / noting:.2f} of the noting")
    assert auditing.trail.lost == 0
    assert noting < reference * 40
    assert longest < noting


async def test_a_strict_trail_writes_a_denial_before_it_is_answered(database: Database, build: BuildAuditing) -> None:
    auditing = build(database, strict=True)
    await auditing.trail.refused(Act("denied", ANONYMOUS, outcome=Outcome.DENIED))
    assert auditing.trail.waiting == 0
    assert await auditing.sealer.seal_all() == 1


async def test_a_flood_of_denials_is_recorded_a_few_times_and_counted(auditing: Auditing, clock: ManualClock) -> None:
    for _ in range(1000):
        await auditing.trail.refused(Act("denied", ADA, outcome=Outcome.DENIED))
    await auditing.trail.refused(Act("denied", ANONYMOUS, outcome=Outcome.DENIED))
    assert auditing.trail.waiting == 21
    clock.tick(61)
    await auditing.trail.flush()
    await auditing.sealer.seal_all()
    entries = [sealed.entry for sealed in await chain(auditing)]
    assert len(entries) == 22
    assert entries[-1].details == {"further_times": 980}


def test_a_flood_of_keys_is_bounded_and_counted() -> None:
    flood: Flood[int] = Flood(limit=1, seconds=10, keys=100)
    admitted = sum(flood.admits(number, number, 0.0) for number in range(1000))
    assert admitted <= 102
    assert sum(count for _, count in flood.ended(11.0)) == 1000 - admitted
    assert flood.ended(12.0) == []


async def test_what_one_client_repeats_is_one_entry_and_a_count(auditing: Auditing, clock: ManualClock) -> None:
    for digest in ("sha256:a", "sha256:b"):
        for _ in range(500):
            auditing.trail.note_repeated(Act("registry.pull", ADA, repository="acme/web", digest=digest))
    auditing.trail.note_repeated(Act("registry.pull", ANONYMOUS, repository="acme/web", digest="sha256:a"))
    assert auditing.trail.waiting == 3
    clock.tick(11)
    await auditing.trail.flush()
    await auditing.sealer.seal_all()
    counted = [sealed.entry for sealed in await chain(auditing) if sealed.entry.details]
    assert [(entry.digest, entry.details) for entry in counted] == [
        ("sha256:a", {"further_times": 499}),
        ("sha256:b", {"further_times": 499}),
    ]


async def test_what_is_being_counted_at_the_end_is_written(auditing: Auditing) -> None:
    for _ in range(7):
        auditing.trail.note_repeated(Act("registry.pull", ADA, repository="acme/web", digest="sha256:a"))
    await auditing.trail.drain()
    await auditing.sealer.seal_all()
    assert [sealed.entry.details for sealed in await chain(auditing)] == [{}, {"further_times": 6}]
