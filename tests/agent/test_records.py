"""What survives: the journal, the ledger, the reporter and the desired state that live in it."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from agent.desired import DesiredBook
from agent.journal import Journal
from agent.ledger import Ledger
from agent.model import (
    ContainerSpec,
    Content,
    ContentReport,
    DesiredState,
    HealthCheck,
    InstanceReport,
    Mount,
    Phase,
    PortMapping,
    Provenance,
)
from agent.reporter import Reporter
from agent.wire import assignment_from, reports_from, reports_message
from common.bittorrent import SMALLEST_SWARM_BYTES
from common.clock import ManualClock
from common.digest import Digest
from common.errors import Stale
from proto.agent.v1 import agent_pb2
from tests.agent.lab import message_of
from tests.agent.samples import INSTANCE, assignment, sample
from tests.pace import BUSY_SECONDS

DIGEST = Digest.of(b"content")
IMAGE = sample(b"layer").image


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def instance(phase: Phase = Phase.RUNNING, generation: int = 1, instance_id: str = INSTANCE) -> InstanceReport:
    return InstanceReport(instance_id, generation, phase)


def moved(held_bytes: int = 7, verified: bool = False) -> ContentReport:
    return ContentReport(DIGEST, "tenant-1", 7, held_bytes, verified, Provenance(1, 2, 4))


# The journal ------------------------------------------------------------------------------------------------------


async def test_a_record_is_read_as_it_was_written(journal: Journal) -> None:
    assert await journal.load("record") is None
    await journal.save("record", lambda: b"payload")
    assert await journal.load("record") == b"payload"


async def test_records_are_readable_by_their_owner_alone(journal: Journal, tmp_path: Path) -> None:
    await journal.save("record", lambda: b"a token")
    assert (tmp_path / "journal" / "record.journal").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "short"])
async def test_a_damaged_record_is_set_aside(journal: Journal, tmp_path: Path, damage: str) -> None:
    await journal.save("record", lambda: b"payload")
    path = tmp_path / "journal" / "record.journal"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-1], "flipped": data[:-1] + b"!", "empty": b"", "short": data[:10]}[damage])
    assert await journal.load("record") is None
    assert path.with_suffix(".damaged").exists()
    await journal.save("record", lambda: b"new")
    assert await journal.load("record") == b"new"


async def test_of_concurrent_writes_the_newest_state_stays(journal: Journal) -> None:
    state = [0]

    async def write() -> None:
        state[0] += 1
        await journal.save("record", lambda: str(state[0]).encode())

    await asyncio.gather(*(write() for _ in range(20)))
    assert await journal.load("record") == b"20"


# The ledger -------------------------------------------------------------------------------------------------------


async def test_counters_add_up_and_survive(journal: Journal) -> None:
    ledger = Ledger(journal, ManualClock())
    ledger.count(("tenant-1", DIGEST), centre=5)
    ledger.count(("tenant-1", DIGEST), regional=3, peers=2)
    ledger.count(("tenant-2", DIGEST), peers=1)
    await ledger.honour(INSTANCE, 4)
    again = Ledger(journal, ManualClock())
    await again.load()
    assert again.provenance("tenant-1", DIGEST) == Provenance(5, 3, 2)
    assert again.provenance("tenant-2", DIGEST) == Provenance(0, 0, 1)
    assert again.restarts == {INSTANCE: 4}


async def test_counters_are_written_within_the_flush_time(journal: Journal) -> None:
    clock = ManualClock()
    ledger = Ledger(journal, clock, flush_seconds=2)
    flushing = asyncio.ensure_future(ledger.flush_forever())
    ledger.count(("t", DIGEST), centre=1)
    await clock.advance(2)
    async with asyncio.timeout(BUSY_SECONDS):
        while await journal.load("ledger") is None:  # noqa: ASYNC110  written by a thread
            await asyncio.sleep(0.001)
    flushing.cancel()


async def test_what_is_no_longer_assigned_is_forgotten(journal: Journal) -> None:
    ledger = Ledger(journal, ManualClock())
    ledger.count(("t", DIGEST), centre=1)
    await ledger.honour(INSTANCE, 1)
    ledger.forget_all_but(set(), set())
    assert ledger.provenance("t", DIGEST) == Provenance()
    assert ledger.restarts == {}


# The reporter -----------------------------------------------------------------------------------------------------


@pytest.fixture
def reporter(journal: Journal) -> Reporter:
    return Reporter(journal, ManualClock())


def test_only_the_newest_state_of_an_object_is_sent(reporter: Reporter) -> None:
    for report in (instance(Phase.PENDING), moved(1), instance(Phase.FETCHING), moved(2), instance(Phase.RUNNING)):
        reporter.report(report)
    batch = reporter.next_batch()
    assert batch is not None
    assert list(batch.reports.values()) == [instance(Phase.RUNNING), moved(2)]


def test_a_report_is_kept_until_it_is_acknowledged(reporter: Reporter) -> None:
    reporter.report(instance())
    first = reporter.next_batch()
    assert first is not None
    assert reporter.next_batch() is None
    reporter.begin_round()
    again = reporter.next_batch()
    assert again is not None
    assert again.sequence > first.sequence
    assert again.reports == first.reports
    reporter.acknowledged(first.sequence)
    assert reporter.next_batch() is None
    reporter.acknowledged(again.sequence)
    reporter.begin_round()
    assert reporter.next_batch() is None


def test_what_changes_while_a_batch_is_on_its_way_is_sent_after_it(reporter: Reporter) -> None:
    reporter.report(instance(Phase.CREATING))
    first = reporter.next_batch()
    assert first is not None
    reporter.report(instance(Phase.RUNNING))
    reporter.acknowledged(first.sequence)
    second = reporter.next_batch()
    assert second is not None
    assert list(second.reports.values()) == [instance(Phase.RUNNING)]


def test_an_older_generation_never_replaces_a_newer_one(reporter: Reporter) -> None:
    reporter.report(instance(Phase.RUNNING, generation=2))
    reporter.report(instance(Phase.FAILED, generation=1))
    batch = reporter.next_batch()
    assert batch is not None
    assert list(batch.reports.values()) == [instance(Phase.RUNNING, generation=2)]
    reporter.acknowledged(batch.sequence)
    reporter.report(instance(Phase.FAILED, generation=1))
    assert reporter.next_batch() is None


def test_what_was_acknowledged_and_did_not_change_is_not_sent_again(reporter: Reporter) -> None:
    reporter.report(instance())
    batch = reporter.next_batch()
    assert batch is not None
    reporter.acknowledged(batch.sequence)
    reporter.report(instance())
    assert reporter.next_batch() is None


def test_a_great_pile_goes_in_several_batches(reporter: Reporter) -> None:
    for number in range(1200):
        reporter.report(instance(instance_id=str(number)))
    sizes = []
    while (batch := reporter.next_batch()) is not None:
        sizes.append(len(batch.reports))
        reporter.acknowledged(batch.sequence)
    assert sizes == [500, 500, 200]


async def test_unsent_reports_survive_a_restart(reporter: Reporter, journal: Journal) -> None:
    reporter.report(instance(Phase.REMOVED, generation=5))
    reporter.report(moved(verified=True))
    await reporter.flush()
    again = Reporter(journal, ManualClock())
    await again.load()
    batch = again.next_batch()
    assert batch is not None
    assert list(batch.reports.values()) == [instance(Phase.REMOVED, generation=5), moved(verified=True)]


def test_any_order_of_states_and_acknowledgements_ends_with_the_newest_known(reporter: Reporter) -> None:
    source = random.Random(7)
    newest: dict[str, InstanceReport] = {}
    plane: dict[str, InstanceReport] = {}
    for _ in range(2000):
        match source.randrange(4):
            case 0 | 1:
                key = str(source.randrange(5))
                report = instance(source.choice(list(Phase)), source.randrange(1, 9), key)
                reporter.report(report)
                if key not in newest or report.generation >= newest[key].generation:
                    newest[key] = report
            case 2:
                batch = reporter.next_batch()
                if batch is not None:
                    plane.update(
                        (one.instance_id, one) for one in batch.reports.values() if isinstance(one, InstanceReport)
                    )
                    if source.random() < 0.5:
                        reporter.acknowledged(batch.sequence)
            case 3:
                reporter.begin_round()
    reporter.begin_round()
    while (batch := reporter.next_batch()) is not None:
        plane.update((one.instance_id, one) for one in batch.reports.values() if isinstance(one, InstanceReport))
        reporter.acknowledged(batch.sequence)
    assert plane == newest


@pytest.mark.parametrize("phase", list(Phase))
def test_reports_survive_the_wire(phase: Phase) -> None:
    report = dataclasses.replace(instance(phase), detail="why", runtime_id="id", restart_count=3)
    message = reports_message(1, [report], [moved()])
    assert reports_from(agent_pb2.Reports.FromString(message.SerializeToString())) == [report, moved()]


# Desired state ----------------------------------------------------------------------------------------------------


async def test_desired_state_is_durable_before_it_is_seen(journal: Journal) -> None:
    book = DesiredBook(journal, "http://centre/")
    seen: list[int] = []
    book.changed = lambda: seen.append(book.current.generation)
    await book.replace(agent_pb2.AssignmentSet(results_in=3, assignments=[message_of(assignment(IMAGE))]))
    change = message_of(assignment(IMAGE, DesiredState.STOPPED, generation=2))
    await book.change(agent_pb2.AssignmentChanges(applies_to=3, results_in=4, changed=[change]))
    await book.regionals(agent_pb2.Regionals(endpoints=[agent_pb2.RegionalEndpoint(content_url="https://r:1/")]))
    assert book.swarm_bytes == SMALLEST_SWARM_BYTES
    await book.welcome(agent_pb2.Welcome(content_url="https://elsewhere/", smallest_swarm_bytes=7))
    assert seen == [3, 4, 4]
    again = DesiredBook(journal, "http://centre/")
    await again.load()
    assert again.current == book.current
    assert again.current.items[INSTANCE].desired_state is DesiredState.STOPPED
    assert again.endpoints[0].content_url == "https://r:1"
    assert again.centre_url == "https://elsewhere"
    assert again.swarm_bytes == 7


async def test_contents_without_a_token_of_their_own_have_the_images(journal: Journal) -> None:
    message = message_of(assignment(IMAGE))
    message.image.token = "shared"
    message.image.manifest.token = ""
    for content in message.image.contents[:-1]:
        content.token = ""
    book = DesiredBook(journal, "http://centre")

    await book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[message]))

    *shared, last = IMAGE.everything
    assert [book.token("tenant-1", one.digest) for one in shared] == ["shared"] * len(shared)
    assert book.token("tenant-1", last.digest) == last.token != "shared"
    again = DesiredBook(journal, "http://centre")
    await again.load()
    assert again.token("tenant-1", shared[0].digest) == "shared"


async def test_a_gap_changes_nothing(journal: Journal) -> None:
    book = DesiredBook(journal, "http://centre")
    await book.replace(agent_pb2.AssignmentSet(results_in=3, assignments=[message_of(assignment(IMAGE))]))
    before = book.current
    with pytest.raises(Stale):
        await book.change(agent_pb2.AssignmentChanges(applies_to=2, results_in=9, removed=[INSTANCE]))
    assert book.current is before


async def test_changes_remove(journal: Journal) -> None:
    book = DesiredBook(journal, "http://centre")
    await book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[message_of(assignment(IMAGE))]))
    await book.change(agent_pb2.AssignmentChanges(applies_to=1, results_in=2, removed=[INSTANCE]))
    assert book.current.items == {}
    assert book.current.known


async def test_renewed_tokens_are_used_and_change_nothing_else(journal: Journal) -> None:
    book = DesiredBook(journal, "http://centre")
    old = assignment(IMAGE)
    await book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[message_of(old)]))
    manifest = dataclasses.replace(IMAGE.manifest, token="renewed")
    renewed = dataclasses.replace(old, image=dataclasses.replace(IMAGE, manifest=manifest))
    await book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[message_of(renewed)]))
    assert book.token("tenant-1", IMAGE.manifest.digest) == "renewed"
    assert book.token("tenant-2", IMAGE.manifest.digest) == ""
    assert book.current.items[INSTANCE].spec_hash == old.spec_hash
    assert Content(DIGEST, 1, "x", "a") == Content(DIGEST, 1, "x", "b")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: setattr(message.image.manifest, "digest", "sha256:../../etc/passwd"),
        lambda message: setattr(message.image, "repository", "../../etc/passwd"),
        lambda message: setattr(message.image, "repository", "a" * 300 + "/b"),
        lambda message: message.container.ports.add(container_port=70_000),
        lambda message: message.container.ports.add(container_port=80, protocol="sctp"),
    ],
)
async def test_one_unreadable_assignment_spoils_no_other(journal: Journal, spoil: object) -> None:
    book = DesiredBook(journal, "http://centre")
    bad = message_of(dataclasses.replace(assignment(IMAGE), instance_id="bad"))
    assert callable(spoil)
    spoil(bad)
    await book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[bad, message_of(assignment(IMAGE))]))
    assert set(book.current.items) == {INSTANCE}
    assert set(book.current.unreadable) == {"bad"}


def test_an_assignment_survives_the_wire() -> None:
    spec = ContainerSpec(
        command=("a", "b"),
        entrypoint=("c",),
        environment={"A": "1"},
        labels={"l": "2"},
        ports=(PortMapping("0.0.0.0", 80, 8080, "tcp"), PortMapping("", 0, 53, "udp")),
        mounts=(Mount("data", "/data", True),),
        cpus=0.5,
        memory_bytes=1 << 20,
        health_check=HealthCheck(("/bin/true",), 1.5, 2.5, 3, 4.5),
        stop_grace_seconds=3,
    )
    wished = assignment(IMAGE, container=spec, restart_nonce=4, generation=7)
    assert assignment_from(agent_pb2.Assignment.FromString(message_of(wished).SerializeToString())) == wished
