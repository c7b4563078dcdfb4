"""PostgreSQL, Redis or the S3 gateway ends, hangs or fails under a server in use. Each kind of request gets a right
answer or a clear refusal within its deadline, and the server recovers by itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.control_plane.blobs.s3_faults import Fault, FaultyGateway, faulty_gateway
from tests.engines.ceph import CephEngine, ceph_engine
from tests.engines.fixtures import running
from tests.engines.postgresql import PostgresEngine, postgres_engine
from tests.engines.redis import RedisEngine, redis_engine
from tests.faults.asking import Scene
from tests.faults.lives import NO_DRIFT, Installation, installation
from tests.faults.test_kill_anywhere import SOAK, engines_environment

pytestmark = [
    pytest.mark.engine("postgresql"),
    pytest.mark.engine("redis"),
    pytest.mark.engine("ceph"),
    pytest.mark.processes,
    pytest.mark.timeout(240),
]

# The database's deadline is 10 s, for a connection and for an answer each; the store's is set to 3 s below.
PATIENCE = 25.0


class Lab:
    """One installation on three engines of its own; each trouble leaves all as it was."""

    def __init__(
        self,
        server: Installation,
        postgresql: PostgresEngine,
        redis: RedisEngine,
        ceph: CephEngine,
        gateway: FaultyGateway,
    ) -> None:
        self.server, self.postgresql, self.redis = server, postgresql, redis
        self.ceph, self.gateway = ceph, gateway

    @contextmanager
    def postgresql_ended(self) -> Iterator[None]:
        self.postgresql.kill()
        yield
        self.postgresql.start()

    @contextmanager
    def postgresql_hung(self) -> Iterator[None]:
        pid = self.postgresql.process.pid
        sessions = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for each in (*sessions, pid):
            os.kill(each, signal.SIGSTOP)
        yield
        for each in (*sessions, pid):
            os.kill(each, signal.SIGCONT)

    @contextmanager
    def redis_ended(self) -> Iterator[None]:
        self.redis.stop()
        yield
        self.redis.start()

    @contextmanager
    def redis_hung(self) -> Iterator[None]:
        self.redis.pause()
        yield
        self.redis.resume()

    @contextmanager
    def gateway_ended(self) -> Iterator[None]:
        self.ceph.gateway.kill()
        yield
        self.ceph.start_gateway()

    @contextmanager
    def gateway_hung(self) -> Iterator[None]:
        self.ceph.gateway.pause()
        yield
        self.ceph.gateway.resume()

    @contextmanager
    def gateway_failing(self, fault: Fault) -> Iterator[None]:
        self.gateway.rule = lambda _method, _target, _number: fault
        yield
        self.gateway.rule = lambda _method, _target, _number: None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("away")
    # It is ended hard: without fsync it would lose what it acknowledged.
    with (
        running("postgresql", postgres_engine(fsync=True)) as postgresql,
        running("redis", redis_engine()) as redis,
        running("ceph", ceph_engine()) as ceph,
        faulty_gateway(ceph.new_bucket()) as gateway,
    ):
        environment = engines_environment(postgresql, redis, gateway.bucket, root)
        environment["LONGSHORE_BLOBS__S3__ANSWER_SECONDS"] = "1"
        environment["LONGSHORE_BLOBS__S3__DEADLINE_SECONDS"] = "3"
        with installation(root / "plane", environment) as server:
            yield Lab(server, postgresql, redis, ceph, gateway)


DATABASE: dict[str, Callable[[Lab], AbstractContextManager[None]]] = {
    "ended": Lab.postgresql_ended,
    # 21 s of waiting; tests/registry_clients/test_engines_away.py has the shorter one of these.
    **({"hung": Lab.postgresql_hung} if SOAK else {}),
}
REDIS: dict[str, Callable[[Lab], AbstractContextManager[None]]] = {"ended": Lab.redis_ended, "hung": Lab.redis_hung}
STORE: dict[str, Callable[[Lab], AbstractContextManager[None]]] = {
    "ended": Lab.gateway_ended,
    "hung": Lab.gateway_hung,
    "500": lambda lab: lab.gateway_failing(Fault.ERROR_500),
    "slow down": lambda lab: lab.gateway_failing(Fault.SLOW_DOWN),
    "cut": lambda lab: lab.gateway_failing(Fault.CUT_ANSWER),
    "lost": lambda lab: lab.gateway_failing(Fault.LOST_ANSWER),
}


def go_through(lab: Lab, trouble: AbstractContextManager[None], *, refused: set[str], served: set[str]) -> None:
    """`refused` cannot be done now, `served` must be all the same; the rest may be either."""
    with lab.server.user(f"acme/{os.urandom(4).hex()}", timeout=PATIENCE) as user:
        scene = Scene.set(user)
        with trouble:
            statuses = scene.ask_all(scene.reads() | scene.writes(), PATIENCE)
        assert {name: status for name, status in statuses.items() if name in refused and status < 500} == {}
        assert {name: status for name, status in statuses.items() if name in served and status >= 500} == {}
        scene.finish()
    assert lab.server.recount() == NO_DRIFT


@pytest.mark.parametrize("how", DATABASE)
def test_without_the_database_nothing_is_acknowledged(lab: Lab, how: str) -> None:
    # Bytes of an upload may come in all the same (docs/decisions/0030): only publishing them needs the database.
    refused = {"push whole", "push manifest", "delete", "tags", "catalogue"}
    go_through(lab, DATABASE[how](lab), refused=refused, served=set())


@pytest.mark.parametrize("how", REDIS)
def test_without_redis_pulls_and_pushes_go_on(lab: Lab, how: str) -> None:
    served = {"pull by tag", "pull by digest", "blob", "range", "head blob", "begin", "push whole", "append", "delete"}
    go_through(lab, REDIS[how](lab), refused=set(), served=served)


@pytest.mark.parametrize("how", STORE)
def test_without_the_store_what_needs_no_bytes_is_served(lab: Lab, how: str) -> None:
    served = {"pull by tag", "pull by digest", "head manifest", "tags", "catalogue", "token", "delete"}
    refused = {"push whole"} if how not in ("lost", "cut") else set()
    go_through(lab, STORE[how](lab), refused=refused, served=served)


def test_the_log_holds_no_surprise(lab: Lab) -> None:
    # An answer that is broken off in its middle is logged with where it was; a 500 there is none.
    lines = lab.server.log.splitlines()
    assert [line for line in lines if "did not foresee" in line or "status=500" in line] == []
    assert any("status=503" in line for line in lines)
