"""What only a real etcd can do to us: lose its leader, restart, forget, hang, let leases lapse."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from common.clock import SystemClock
from common.discovery.etcd import EtcdRegistry
from common.discovery.etcd_client import EtcdOptions
from common.errors import Denied, Unauthenticated, Unavailable
from tests.conformance.discovery import following
from tests.engines.etcd import EtcdEngine
from tests.pace import BUSY_SECONDS, Stall

pytestmark = pytest.mark.engine("etcd")
ROOT = "/os/east/hosts/"
OpenRegistry = Callable[..., EtcdRegistry]


@pytest.fixture
async def open_registry() -> AsyncIterator[OpenRegistry]:
    opened: list[EtcdRegistry] = []

    def open_one(engine: EtcdEngine, **options: Any) -> EtcdRegistry:
        opened.append(EtcdRegistry(EtcdOptions(engine.endpoints, **options), SystemClock()))
        return opened[-1]

    yield open_one
    for registry in opened:
        await registry.close()


async def gateway(engine: EtcdEngine, path: str, **body: Any) -> Any:
    """etcd's own HTTP API, for what only an operator does."""

    def call() -> Any:
        request = urllib.request.Request(f"http://{engine.endpoints[0]}/v3/{path}", data=json.dumps(body).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(call)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def killed(engine: EtcdEngine, index: int) -> None:
    await asyncio.to_thread(engine.kill, index)


async def started(engine: EtcdEngine, index: int = 0) -> None:
    await asyncio.to_thread(engine.start, index)


async def test_the_death_of_the_leader_costs_neither_registrations_nor_watches(
    etcd_cluster: EtcdEngine, open_registry: OpenRegistry
) -> None:
    registry, watcher = open_registry(etcd_cluster), open_registry(etcd_cluster)
    async with (
        registry.register(f"{ROOT}leader-1", b"one", 5) as registration,
        following(watcher, f"{ROOT}leader") as picture,
    ):
        await picture.becomes({f"{ROOT}leader-1": b"one"})
        leader = etcd_cluster.leader()
        await killed(etcd_cluster, leader)
        began = time.monotonic()
        await registration.update(b"two")
        assert time.monotonic() - began < 8 + BUSY_SECONDS
        await picture.becomes({f"{ROOT}leader-1": b"two"})
        await started(etcd_cluster, leader)
        await registration.update(b"three")
        await picture.becomes({f"{ROOT}leader-1": b"three"})
        assert None not in [change.value for change in picture.changes]


@pytest.mark.parametrize("failure", ["kill", "pause"])
async def test_a_write_under_way_when_the_leader_dies_is_made_again_elsewhere(
    etcd_cluster: EtcdEngine, open_registry: OpenRegistry, failure: str
) -> None:
    leader = etcd_cluster.leader()
    first = etcd_cluster.endpoints[leader]
    others = tuple(endpoint for endpoint in etcd_cluster.endpoints if endpoint != first)
    # Connected to the leader itself, so that the write hangs with it.
    registry = EtcdRegistry(EtcdOptions((first, *others)), SystemClock(), lambda: 0.0)
    async with registry.register(f"{ROOT}underway", b"0", 10) as registration, asyncio.TaskGroup() as group:
        etcd_cluster.node(leader).pause()
        writing = group.create_task(registration.update(b"1"))
        await asyncio.sleep(0.3)
        assert not writing.done()
        if failure == "kill":
            await killed(etcd_cluster, leader)
        async with asyncio.timeout(15):
            await writing
        assert await open_registry(etcd_cluster).list(f"{ROOT}underway") == {f"{ROOT}underway": b"1"}
    await registry.close()


async def test_a_watch_outlives_a_restart_and_misses_nothing(own_etcd: EtcdEngine, open_registry: OpenRegistry) -> None:
    registry, watcher = open_registry(own_etcd), open_registry(own_etcd)
    async with registry.register(f"{ROOT}e1", b"one", 30), following(watcher, ROOT) as picture:
        await picture.becomes({f"{ROOT}e1": b"one"})
        await killed(own_etcd, 0)
        await started(own_etcd)
        await gateway(own_etcd, "kv/put", key=encoded(f"{ROOT}e2"), value=encoded("new"))
        await gateway(own_etcd, "kv/put", key=encoded(f"{ROOT}e3"), value=encoded("short"))
        await gateway(own_etcd, "kv/deleterange", key=encoded(f"{ROOT}e3"))
        await picture.becomes({f"{ROOT}e1": b"one", f"{ROOT}e2": b"new"}, seconds=15)


async def test_a_watch_outlives_a_compaction_of_what_it_missed(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    for name in ("stays", "changes", "goes"):
        await gateway(own_etcd, "kv/put", key=encoded(ROOT + name), value=encoded("old"))
    watcher = open_registry(own_etcd)
    async with contextlib.aclosing(watcher.watch(ROOT)) as changes:
        before = {(await anext(changes)).key for _ in range(3)}
        assert before == {f"{ROOT}stays", f"{ROOT}changes", f"{ROOT}goes"}
        await killed(own_etcd, 0)  # the reader is elsewhere: its stream breaks unseen
        await started(own_etcd)
        await gateway(own_etcd, "kv/deleterange", key=encoded(f"{ROOT}goes"))
        await gateway(own_etcd, "kv/put", key=encoded(f"{ROOT}changes"), value=encoded("new"))
        last = await gateway(own_etcd, "kv/put", key=encoded(f"{ROOT}comes"), value=encoded("new"))
        await gateway(own_etcd, "kv/compaction", revision=last["header"]["revision"], physical=True)
        async with asyncio.timeout(15):
            after = {(change := await anext(changes)).key: change.value for _ in range(3)}
        assert after == {f"{ROOT}goes": None, f"{ROOT}changes": b"new", f"{ROOT}comes": b"new"}


async def test_a_watch_notices_an_etcd_that_lost_its_memory(own_etcd: EtcdEngine, open_registry: OpenRegistry) -> None:
    for number in range(5):
        await gateway(own_etcd, "kv/put", key=encoded(f"{ROOT}{number}"), value=encoded("old"))
    watcher = open_registry(own_etcd)
    async with following(watcher, ROOT) as picture:
        await picture.satisfies(lambda values: len(values) == 5)
        await killed(own_etcd, 0)
        own_etcd.forget()
        await started(own_etcd)
        await gateway(own_etcd, "kv/put", key=encoded(f"{ROOT}1"), value=encoded("new"))
        await picture.becomes({f"{ROOT}1": b"new"}, seconds=15)


async def test_a_hanging_etcd_is_noticed_by_a_silent_watch_and_another_node_is_asked(
    etcd_cluster: EtcdEngine, open_registry: OpenRegistry
) -> None:
    follower = next(index for index in range(3) if index != etcd_cluster.leader())
    first = etcd_cluster.endpoints[follower]
    others = tuple(endpoint for endpoint in etcd_cluster.endpoints if endpoint != first)
    watcher = EtcdRegistry(EtcdOptions((first, *others)), SystemClock(), lambda: 0.0)
    async with following(watcher, f"{ROOT}silent") as picture:
        registry = open_registry(etcd_cluster)
        async with registry.register(f"{ROOT}silent", b"before", 30) as registration:
            await picture.becomes({f"{ROOT}silent": b"before"})
            etcd_cluster.node(follower).pause()
            await registration.update(b"after")
            await picture.becomes({f"{ROOT}silent": b"after"}, seconds=25)
    await watcher.close()


async def test_a_list_from_an_etcd_that_hangs_is_unavailable_in_time(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    registry = open_registry(own_etcd, operation_seconds=3)
    await registry.list(ROOT)
    own_etcd.node().pause()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await registry.list(ROOT)
    assert time.monotonic() - began < 6 + BUSY_SECONDS


async def test_a_process_that_is_killed_disappears_when_its_lease_lapses(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    program = (
        "import asyncio\n"
        "from common.clock import SystemClock\n"
        "from common.discovery.etcd import EtcdRegistry\n"
        "from common.discovery.etcd_client import EtcdOptions\n"
        "async def main():\n"
        f"    registry = EtcdRegistry(EtcdOptions({own_etcd.endpoints!r}), SystemClock())\n"
        f"    async with registry.register('{ROOT}mortal', b'alive', 2), registry.lock('duty', 2):\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    registry = open_registry(own_etcd)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=subprocess.DEVNULL)
    async with following(registry, "/os/") as picture:
        await picture.satisfies(lambda values: f"{ROOT}mortal" in values and len(values) == 2)
        await asyncio.sleep(3)  # longer than the lease: it is being kept
        assert f"{ROOT}mortal" in picture.values
        process.kill()
        await process.wait()
        began = time.monotonic()
        async with asyncio.timeout(BUSY_SECONDS), registry.lock("duty", 5) as leadership:
            assert leadership.term > 0
            assert time.monotonic() - began > 0.5  # not before the lease of the dead leader has lapsed
        await picture.becomes({})


async def test_a_leader_that_cannot_reach_etcd_stops_before_its_lease_can_lapse(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    registry = open_registry(own_etcd)
    async with registry.lock("duty", 3) as leadership:
        assert not leadership.lost.is_set()
        own_etcd.node().pause()
        began = time.monotonic()
        async with asyncio.timeout(BUSY_SECONDS), Stall() as stall:
            await leadership.lost.wait()
        assert time.monotonic() - began <= 3.1 + stall.seconds
        own_etcd.node().resume()


async def test_an_operator_can_make_a_leader_step_down(own_etcd: EtcdEngine, open_registry: OpenRegistry) -> None:
    registry = open_registry(own_etcd)
    async with registry.lock("duty", 2) as leadership:
        await gateway(own_etcd, "kv/deleterange", key=encoded("/os/locks/duty/"), range_end=encoded("/os/locks/duty0"))
        async with asyncio.timeout(BUSY_SECONDS):
            await leadership.lost.wait()


async def test_a_candidate_waits_through_an_outage(own_etcd: EtcdEngine, open_registry: OpenRegistry) -> None:
    registry, other = open_registry(own_etcd), open_registry(own_etcd)

    async def lead() -> int:
        async with other.lock("duty", 3) as leadership:
            return leadership.term

    async with asyncio.TaskGroup() as group:
        async with registry.lock("duty", 3):
            waiting = group.create_task(lead())
            await asyncio.sleep(0.2)
            await killed(own_etcd, 0)
            await started(own_etcd)
            assert not waiting.done()
        async with asyncio.timeout(20):
            assert await waiting > 0


async def test_a_registration_begun_while_etcd_is_away_appears_when_it_is_back(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    await killed(own_etcd, 0)
    registry = open_registry(own_etcd)
    began = time.monotonic()
    async with registry.register(f"{ROOT}e1", b"alive", 3) as registration:
        assert time.monotonic() - began < 6 + BUSY_SECONDS
        assert not registration.held
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(registration.update(b"updated meanwhile"), 0.5)
        await started(own_etcd)
        async with following(registry, ROOT) as picture:
            await picture.becomes({f"{ROOT}e1": b"updated meanwhile"})


async def test_a_lease_that_was_revoked_is_replaced(own_etcd: EtcdEngine, open_registry: OpenRegistry) -> None:
    registry = open_registry(own_etcd)
    async with registry.register(f"{ROOT}e1", b"alive", 2) as registration, following(registry, ROOT) as picture:
        await picture.becomes({f"{ROOT}e1": b"alive"})
        found = await gateway(own_etcd, "kv/range", key=encoded(f"{ROOT}e1"))
        await gateway(own_etcd, "lease/revoke", ID=found["kvs"][0]["lease"])
        await picture.becomes({})
        await picture.becomes({f"{ROOT}e1": b"alive"})
        assert registration.held


async def test_stopping_while_etcd_hangs_takes_two_seconds_not_more(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    async with open_registry(own_etcd).register(f"{ROOT}e1", b"alive", 30, final_value=b"offline"):
        own_etcd.node().pause()
        began = time.monotonic()
    assert time.monotonic() - began < 2 + BUSY_SECONDS


async def test_users_and_passwords_are_checked_and_tokens_renewed(
    own_etcd: EtcdEngine, open_registry: OpenRegistry
) -> None:
    for name in ("root", "agent"):
        await gateway(own_etcd, "auth/user/add", name=name, password=f"{name}'s own")
    await gateway(own_etcd, "auth/user/grant", user="root", role="root")
    await gateway(own_etcd, "auth/role/add", name="east")
    permission = {"permType": "READWRITE", "key": encoded(ROOT), "range_end": encoded("/os/east/hosts0")}
    await gateway(own_etcd, "auth/role/grant", name="east", perm=permission)
    await gateway(own_etcd, "auth/user/grant", user="agent", role="east")
    await gateway(own_etcd, "auth/enable")
    with pytest.raises((Denied, Unauthenticated)):
        async with open_registry(own_etcd).register(f"{ROOT}e1", b"alive", 5):
            pass
    with pytest.raises(Unauthenticated):
        await open_registry(own_etcd, username="agent", password="wrong").list(ROOT)
    registry = open_registry(own_etcd, username="agent", password="agent's own")
    with pytest.raises(Denied):
        await registry.list("/os/west/hosts/")
    async with registry.register(f"{ROOT}e1", b"one", 10) as registration, following(registry, ROOT) as picture:
        await picture.becomes({f"{ROOT}e1": b"one"})
        await killed(own_etcd, 0)
        await started(own_etcd)  # it has forgotten every token
        await registration.update(b"two")
        await picture.becomes({f"{ROOT}e1": b"two"}, seconds=15)
