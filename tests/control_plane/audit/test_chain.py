"""The chain is gapless and append-only, sealers take turns, and any tampering is found."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.clock import ManualClock
from control_plane.audit import store
from control_plane.audit.auditing import Auditing
from control_plane.audit.chain import GENESIS, document_of, entry_from, follow, line_of, link_of, sealed_after
from control_plane.audit.model import Act, Entry, Link, Operator, OperatorKind, Sealed, entry_of
from control_plane.database import Database
from tests.control_plane.audit.acts import chain, filled, push, record, tamper
from tests.control_plane.audit.conftest import BuildAuditing
from tests.pace import BUSY_SECONDS

TEXTS = st.text(max_size=40)
DETAILS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    act = Act(
        draw(TEXTS),
        Operator(draw(st.sampled_from(OperatorKind)), draw(TEXTS), draw(TEXTS)),
        tenant=draw(TEXTS),
        repository=draw(TEXTS),
        error=draw(TEXTS),
        details=draw(st.dictionaries(TEXTS, DETAILS, max_size=4)),
    )
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=draw(st.integers(0, 10**15)))
    return entry_of(act, str(draw(st.uuids())), moment, draw(TEXTS), draw(TEXTS), draw(TEXTS))


def chained(made: list[Entry]) -> list[Sealed]:
    sealed: list[Sealed] = []
    for entry in made:
        sealed.append(sealed_after(link_of(sealed[-1]) if sealed else GENESIS, entry))
    return sealed


@given(entries())
def test_an_entry_survives_its_document_and_every_encoding(entry: Entry) -> None:
    assert entry_from(json.loads(json.dumps(document_of(entry)))) == entry
    assert line_of(sealed_after(GENESIS, entry)).decode().endswith("}\n")


@given(st.lists(entries(), min_size=1, max_size=6), st.data())
def test_any_tampering_is_found(made: list[Entry], data: st.DataObject) -> None:
    sealed = chained(made)
    last = link_of(sealed[-1])
    assert follow(GENESIS, sealed, {}).last == last
    index = data.draw(st.integers(0, len(sealed) - 1))
    match data.draw(st.sampled_from(["alter", "rehash", "drop", "swap", "add", "forge"])):
        case "alter":
            other = replace(sealed[index].entry, operator=sealed[index].entry.operator + "x")
            sealed[index] = replace(sealed[index], entry=other)
        case "rehash":
            sealed[index] = replace(sealed[index], hash="f" * 64)
        case "drop":
            del sealed[index]
        case "swap":
            other_index = (index + 1) % len(sealed)
            if other_index == index:
                return
            one, two = sealed[index], sealed[other_index]
            sealed[index] = replace(one, entry=two.entry)
            sealed[other_index] = replace(two, entry=one.entry)
            if one.entry == two.entry:
                return
        case "add":
            sealed.insert(index, sealed[index])
        case "forge":  # every later hash recomputed as well: only the end, known from elsewhere, tells
            changed = [each.entry for each in sealed]
            changed[index] = replace(changed[index], operator=changed[index].operator + "x")
            sealed = chained(changed)
    verdict = follow(GENESIS, sealed, {last.sequence: last.hash})
    assert not verdict.whole or verdict.last != last


ODD: list[dict[str, Any]] = [
    {"n": 1.0, "e": 1e400, "big": 10**40, "neg": -0.0, "t": True, "z": None},
    {"b": 1, "a": 2, "": {"é": "\u2028\x00\ud800", "x": [[], {}, [None]]}},
    {"deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
]


async def test_odd_details_verify_on_both_engines(database: Database, auditing: Auditing) -> None:
    await record(database, auditing, *(push(details=odd) for odd in ODD))
    await auditing.sealer.seal_all()
    verdict = await auditing.reading.verify()
    assert (verdict.whole, verdict.checked, verdict.at) == (True, 3, None)


async def test_the_chain_has_no_gap_and_verifies(database: Database, auditing: Auditing) -> None:
    made = await filled(database, auditing, 5)
    assert [sealed.sequence for sealed in made] == [1, 2, 3, 4, 5]
    verdict = await auditing.reading.verify()
    assert (verdict.whole, verdict.checked, verdict.last) == (True, 5, link_of(made[-1]))


async def test_a_verification_goes_on_where_the_stretch_before_it_ended(database: Database, auditing: Auditing) -> None:
    made = await filled(database, auditing, 7)
    first = await auditing.reading.verify(limit=3)
    assert (first.checked, first.at) == (3, link_of(made[2]))
    second = await auditing.reading.verify(first.at, limit=3)
    third = await auditing.reading.verify(second.at, limit=3)
    assert (third.whole, third.checked, third.at, third.last) == (True, 1, None, link_of(made[-1]))
    wrong = await auditing.reading.verify(Link(3, "0" * 64), limit=3)
    assert wrong.broken == 4


async def test_an_entry_can_be_neither_changed_nor_deleted(database: Database, auditing: Auditing) -> None:
    await filled(database, auditing, 2)
    await auditing.retention.anchor()
    for statement in (
        "UPDATE audit_events SET operator = 'eve' WHERE sequence = 1",
        "DELETE FROM audit_events WHERE sequence = 2",
        "UPDATE audit_anchors SET hash = 'x'",
        "DELETE FROM audit_anchors",
        *(() if database.is_sqlite else ("TRUNCATE audit_events",)),
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.transaction() as unit:
                await unit.connection.execute(text(statement))
    assert (await auditing.reading.verify()).whole


TAMPERING = [
    ("UPDATE audit_events SET operator = 'eve' WHERE sequence = 3", 3),
    ("UPDATE audit_events SET details = '{\"a\": 1}' WHERE sequence = 4", 4),
    ("UPDATE audit_events SET occurred_at = '2026-01-01 00:00:01+00:00' WHERE sequence = 2", 2),
    (f"UPDATE audit_events SET hash = '{'0' * 64}' WHERE sequence = 5", 5),
    ("DELETE FROM audit_events WHERE sequence = 1", 1),
    ("DELETE FROM audit_events WHERE sequence = 4", 4),
    ("DELETE FROM audit_events WHERE sequence > 3", 4),
    ("DELETE FROM audit_events", 1),
    (f"UPDATE audit_anchors SET hash = '{'0' * 64}'", 5),
]


async def test_verification_names_the_first_entry_that_was_touched(
    sqlite_url: str, clock: ManualClock, build: BuildAuditing, tmp_path: Path
) -> None:
    """What is compared is the same on both engines, so one of them is copied for each way to tamper."""
    whole = Database(sqlite_url, clock)
    await filled(whole, build(whole), 5)
    await build(whole).retention.anchor()
    await whole.close()
    for number, (statement, broken) in enumerate(TAMPERING):
        copy = tmp_path / f"copy-{number}.db"
        shutil.copy(sqlite_url.removeprefix("sqlite:///"), copy)
        database = Database(f"sqlite:///{copy}", clock)
        await tamper(database, statement)
        verdict = await build(database).reading.verify()
        await database.close()
        assert (verdict.whole, verdict.broken) == (False, broken), (statement, verdict)
        assert verdict.why


async def test_a_truncated_end_is_noticed_by_the_anchor_though_the_head_was_moved(
    database: Database, auditing: Auditing
) -> None:
    made = await filled(database, auditing, 5)
    await auditing.retention.anchor()
    await tamper(
        database,
        "DELETE FROM audit_events WHERE sequence > 3",
        f"UPDATE audit_head SET sequence = 3, hash = '{made[2].hash}'",
    )
    verdict = await auditing.reading.verify()
    assert (verdict.broken, "anchor" in verdict.why) == (4, True)


async def test_a_whole_chain_computed_anew_is_noticed_by_the_anchor(database: Database, auditing: Auditing) -> None:
    made = await filled(database, auditing, 4)
    await auditing.retention.anchor()
    forged = chained([replace(each.entry, operator="eve") for each in made])
    await tamper(
        database,
        *(f"UPDATE audit_events SET operator='eve', hash='{e.hash}' WHERE sequence={e.sequence}" for e in forged),
        f"UPDATE audit_head SET hash = '{forged[-1].hash}'",
    )
    assert (await auditing.reading.verify()).broken == 4
    # An anchor cannot be made to fit either: its seal needs the master key.
    async with database.transaction() as unit:
        if not database.is_sqlite:
            await unit.connection.execute(text("SET LOCAL session_replication_role = replica"))
        await unit.connection.execute(text(f"UPDATE audit_anchors SET hash = '{forged[-1].hash}'"))
    assert (await auditing.reading.verify()).why == "the anchor is not genuine"


async def test_a_crash_between_inbox_and_chain_loses_and_doubles_nothing(
    database: Database, auditing: Auditing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(database, auditing, *(push(number) for number in range(3)))

    async def crash(*_: object) -> None:
        raise asyncio.CancelledError

    for step in ("append", "move_head", "leave_inbox"):
        with monkeypatch.context() as broken:
            broken.setattr(store, step, crash)
            with pytest.raises(asyncio.CancelledError):
                await auditing.sealer.seal_once()
    assert await chain(auditing) == []
    assert await auditing.sealer.seal_all() == 3
    assert [sealed.entry.tag for sealed in await chain(auditing)] == ["v0", "v1", "v2"]


async def test_two_sealers_make_one_chain(
    database: Database, build: BuildAuditing, open_replica: Callable[[], Database]
) -> None:
    one, two = build(database), build(open_replica())

    async def write(auditing: Auditing, source: Database, tenant: str) -> None:
        for number in range(30):
            await record(source, auditing, push(number, tenant))

    async def seal(auditing: Auditing) -> None:
        for _ in range(40):
            await auditing.sealer.seal_once()
            await asyncio.sleep(0.002)

    other = open_replica()
    await asyncio.gather(write(one, database, "acme"), write(two, other, "birch"), seal(one), seal(two))
    await one.sealer.seal_all()
    made = await chain(one)
    assert [sealed.sequence for sealed in made] == list(range(1, 61))
    for tenant in ("acme", "birch"):
        tags = [sealed.entry.tag for sealed in made if sealed.entry.tenant == tenant]
        assert sorted(tags) == sorted(f"v{number}" for number in range(30))
    assert (await one.reading.verify()).whole


async def test_a_sealer_does_not_wait_for_another_one(postgresql_url: str, build: BuildAuditing, clock: Any) -> None:
    opened = [Database(postgresql_url, clock) for _ in range(2)]
    one, two = map(build, opened)
    await filled(opened[0], one, 1)
    await record(opened[0], one, push())
    async with opened[0].transaction() as unit:
        assert await store.hold_head(unit.connection) is not None
        async with asyncio.timeout(BUSY_SECONDS):
            assert await two.sealer.seal_once() == 0
    assert await two.sealer.seal_once() == 1
    for each in opened:
        await each.close()


async def test_a_day_has_an_anchor_only_if_something_happened(
    database: Database, auditing: Auditing, clock: Any
) -> None:
    assert await auditing.retention.anchor() is None
    made = await filled(database, auditing, 2)
    anchor = await auditing.retention.anchor()
    assert anchor is not None
    assert anchor.link == link_of(made[-1])
    clock.tick(timedelta(days=1).total_seconds())
    assert await auditing.retention.anchor() is None
    assert len(await auditing.reading.anchors(10)) == 1
