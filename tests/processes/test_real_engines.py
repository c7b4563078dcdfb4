"""Fleets on PostgreSQL, Redis and etcd: replicas that share them, a worker of its own, and engines that go away."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spread import make_blob
from common.errors import Unavailable
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.etcd import EtcdEngine
from tests.engines.fixtures import running
from tests.engines.postgresql import PostgresEngine, postgres_engine
from tests.engines.redis import RedisEngine
from tests.processes.conftest import two_idcs
from tests.processes.fleets import (
    held_digests,
    instance_on,
    push_blob,
    remove_everything,
    request_everywhere,
    request_on,
    wait_verified,
)
from tests.processes.replicas import (
    Engines,
    directory_of,
    lease_seconds,
    readiness,
    start_replica,
    worker_of,
)

pytestmark = [
    pytest.mark.engine("postgresql"),
    pytest.mark.engine("redis"),
    pytest.mark.engine("etcd"),
    pytest.mark.processes,
    pytest.mark.timeout(180),
]

EAST = Idc("east", Node("regional-east"), (Node("east-1"),))


@pytest.fixture
def durable_postgresql() -> Iterator[PostgresEngine]:
    """It is killed: without fsync it would lose what it acknowledged."""
    with running("postgresql", postgres_engine(fsync=True)) as engine:
        yield engine


@pytest.fixture
def engines(durable_postgresql: PostgresEngine, own_redis: RedisEngine, own_etcd: EtcdEngine) -> Engines:
    return Engines(durable_postgresql, own_redis, own_etcd)


@pytest.fixture
def make_fleet(engines: Engines, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes the one fleet of the test; further settings are given by their environment names."""
    fleets = []

    def make(idcs: list[Idc], **settings: str) -> Fleet:
        engines.postgresql.create_database("longshore")
        fleet = Fleet(
            tmp_path / "fleet",
            Node("centre"),
            idcs,
            runtime="none",
            server_environment={**engines.environment("longshore", tmp_path / "shared"), **settings},
            edge_arguments=[f"--etcd={','.join(engines.etcd.endpoints)}"],
        )
        fleets.append(fleet)
        fleet.start()
        return fleet

    yield make
    for fleet in fleets:
        fleet.close()


def eventually(condition: Callable[[], Any], what: Callable[[], object], seconds: float = 30) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, what()
        time.sleep(0.02)
    return time.monotonic() - began


def spread(fleet: Fleet, directory: Path, name: str) -> None:
    """Push, spread, verify by hand, and clear away. Not more than one copy leaves the centre for each IDC."""
    blob = make_blob(directory / name, 6)
    before = fleet.egress()
    push_blob(fleet, blob, f"acme/{name}:1")
    request_everywhere(fleet, f"acme/{name}:1")
    wait_verified(fleet, 25)  # sooner than the poll that finds everything in the end
    for idc in fleet.idcs:
        for host in idc.hosts:
            assert blob.digest in held_digests(fleet.root / host.name)
    for idc_name, sent in fleet.egress().items():
        assert sent - before.get(idc_name, 0) < 1.05 * blob.size, idc_name
    remove_everything(fleet)


def test_a_fleet_spreads_on_real_engines_and_the_directory_knows_who_lives(
    make_fleet: Callable[..., Fleet], engines: Engines, tmp_path: Path
) -> None:
    fleet = make_fleet(two_idcs(hosts=1))
    assert readiness(fleet) == (200, {"database": "ok", "blobs": "ok", "redis": "ok", "etcd": "ok"})
    spread(fleet, tmp_path, "blob")

    hosts = {row["name"]: row["id"] for row in fleet.client.every("/api/v1/hosts")}
    expected = {f"/os/{host.partition('-')[0]}/hosts/{identity}" for host, identity in hosts.items()}
    expected |= {f"/os/region/{idc}/{item}" for idc in ("east", "west") for item in ("info", "heartbeat")}
    found = directory_of(engines.etcd)
    assert set(found) == expected
    for key, entry in found.items():
        assert json.loads(entry.value)["status"] == "online", key
        assert lease_seconds(engines.etcd, entry.lease) == 30, key

    # A graceful stop says so and takes the lease along; a crash lets it lapse.
    lease = found["/os/region/east/heartbeat"].lease
    fleet.services["regional-east"].stop()
    fleet.services["east-1"].stop()
    stopped = directory_of(engines.etcd)
    assert (stopped["/os/region/east/info"].value, stopped["/os/region/east/info"].lease) == (b"offline", 0)
    assert "/os/region/east/heartbeat" not in stopped
    assert f"/os/east/hosts/{hosts['east-1']}" not in stopped
    assert lease_seconds(engines.etcd, lease) <= 0

    fleet.services["regional-west"].kill()
    fleet.services["west-1"].kill()
    assert "/os/region/west/heartbeat" in directory_of(engines.etcd)
    gone = {"/os/region/west/info", "/os/region/west/heartbeat", f"/os/west/hosts/{hosts['west-1']}"}
    eventually(lambda: gone.isdisjoint(directory_of(engines.etcd)), lambda: directory_of(engines.etcd), 40)


def test_two_replicas_serve_one_fleet(make_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    fleet = make_fleet([EAST])
    other = start_replica(fleet)
    away = fleet.join_host(EAST, Node("east-2"), server=other.url)
    away.wait_ready()
    eventually(lambda: "stream attached" in other.service.log_tail(), other.service.log_tail)
    eventually(lambda: len(fleet.client.every("/api/v1/hosts", state="online")) == 2, away.log_tail)

    small = make_blob(tmp_path / "small", 1)
    push_blob(fleet, small, "acme/small:1")
    request_on(fleet, "acme/small:1", "east/east-2", "small")
    # Without word from the other replica its agent would hear of it at the next poll, half a minute later.
    eventually(lambda: instance_on(fleet, "east-2")["phase"] != "pending", away.log_tail, 15)
    wait_verified(fleet, 60)
    assert other.client.every("/api/v1/instances") == fleet.instances()

    # A channel is asked for at one replica, and its host is attached to the other: the host itself comes and says no.
    (row,) = fleet.instances()
    for client in (fleet.client, other.client):
        answer = client.raw("GET", f"/api/v1/instances/{row['id']}/logs")
        assert (answer.status, json.loads(answer.data)["code"]) == (409, "no_engine"), answer.data
    remove_everything(fleet)

    # What one replica stored the other serves, to people and to the edge.
    blob = make_blob(tmp_path / "large", 6)
    push_blob(fleet, blob, "acme/large:1")
    request_everywhere(fleet, "acme/large:1")
    wait_verified(fleet, 60)
    assert blob.digest in held_digests(fleet.root / "east-2")
    assert other.client.raw("GET", f"/v2/acme/large/blobs/{blob.digest}").status == 200


def test_a_worker_of_its_own_describes_what_is_spread(make_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    fleet = make_fleet([EAST], LONGSHORE_JOBS__EMBEDDED="false")
    worker = worker_of(fleet)
    blob = make_blob(tmp_path / "blob", 6)
    push_blob(fleet, blob)
    request_everywhere(fleet, "acme/blob:1")
    time.sleep(2)  # nobody may do it: there is no condition to wait for
    assert "content described" not in fleet.control_plane.log_path.read_text()
    worker.launch()
    wait_verified(fleet, 60)
    assert "content described" in worker.log_path.read_text()
    assert "content described" not in fleet.control_plane.log_path.read_text()
    assert blob.digest in held_digests(fleet.root / "east-1")


def test_a_spread_completes_while_redis_is_away_and_after_it_is_back(
    make_fleet: Callable[..., Fleet], engines: Engines, tmp_path: Path
) -> None:
    fleet = make_fleet([EAST])
    engines.redis.process.kill()
    eventually(lambda: readiness(fleet)[1]["redis"] != "ok", lambda: readiness(fleet))
    assert readiness(fleet)[0] == 200
    spread(fleet, tmp_path, "without")
    engines.redis.start()
    eventually(lambda: readiness(fleet)[1]["redis"] == "ok", lambda: readiness(fleet))
    spread(fleet, tmp_path, "with")


def test_a_spread_survives_a_restart_of_postgresql(
    make_fleet: Callable[..., Fleet], engines: Engines, tmp_path: Path
) -> None:
    fleet = make_fleet([EAST])
    blob = make_blob(tmp_path / "blob", 24)
    push_blob(fleet, blob)
    request_everywhere(fleet, "acme/blob:1")
    engines.postgresql.kill()
    eventually(lambda: readiness(fleet)[0] == 503, lambda: readiness(fleet))
    status, checks = readiness(fleet)
    assert (status, checks["blobs"]) == (503, "ok")
    assert "database" in checks["database"]
    with pytest.raises(Unavailable):
        fleet.instances()
    engines.postgresql.start()
    eventually(lambda: readiness(fleet)[0] == 200, lambda: readiness(fleet))
    wait_verified(fleet, 60)
    assert blob.digest in held_digests(fleet.root / "east-1")


def test_a_spread_completes_while_etcd_is_away_and_everybody_registers_again(
    make_fleet: Callable[..., Fleet], engines: Engines, tmp_path: Path
) -> None:
    fleet = make_fleet([EAST])
    before = set(directory_of(engines.etcd))
    engines.etcd.kill()
    eventually(lambda: readiness(fleet)[1]["etcd"] != "ok", lambda: readiness(fleet))
    assert readiness(fleet)[0] == 200
    spread(fleet, tmp_path, "without")
    engines.etcd.forget()
    engines.etcd.start()
    eventually(lambda: readiness(fleet)[1]["etcd"] == "ok", lambda: readiness(fleet))
    eventually(lambda: set(directory_of(engines.etcd)) == before, lambda: directory_of(engines.etcd), 40)
