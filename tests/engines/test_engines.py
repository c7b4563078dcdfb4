"""The engines themselves: they run, they are ours, they can be broken and mended, and they leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.engines import EngineCannotRun
from tests.engines.ceph import CephEngine
from tests.engines.etcd import EtcdEngine
from tests.engines.install import GROUPS
from tests.engines.listeners import free_port, owns_port
from tests.engines.postgresql import PostgresEngine
from tests.engines.processes import find_program, wait_until
from tests.engines.redis import RedisEngine, redis_engine
from tests.engines.scratch import is_running, sweep


def test_a_database_made_from_a_template_has_its_tables(postgresql: PostgresEngine) -> None:
    postgresql.create_database("made_template")
    postgresql.run("CREATE TABLE things (id int)", "made_template")
    postgresql.create_database("made_copy", "made_template")
    try:
        postgresql.run("INSERT INTO things VALUES (1)", "made_copy")
    finally:
        postgresql.drop_database("made_copy")
        postgresql.drop_database("made_template")


def test_a_killed_postgresql_comes_back_with_its_data(own_postgresql: PostgresEngine) -> None:
    own_postgresql.run("CREATE TABLE things (id int)")
    own_postgresql.run("CHECKPOINT")
    own_postgresql.kill()
    with pytest.raises(psycopg.OperationalError):
        own_postgresql.run("SELECT 1")
    own_postgresql.start()
    own_postgresql.run("INSERT INTO things VALUES (1)")


def test_a_paused_redis_hangs_and_a_stopped_one_refuses(own_redis: RedisEngine) -> None:
    own_redis.pause()
    with pytest.raises(TimeoutError):
        own_redis.command("PING")
    own_redis.resume()
    assert own_redis.command("PING") == b"+PONG\r\n"
    own_redis.stop()
    with pytest.raises(ConnectionRefusedError):
        own_redis.command("PING")
    own_redis.start()
    assert own_redis.command("PING") == b"+PONG\r\n"


def test_a_ceph_gateway_and_its_osd_come_back_with_their_objects(own_ceph: CephEngine) -> None:
    bucket = own_ceph.new_bucket()
    client = bucket.client()
    client.put_object(Bucket=bucket.name, Key="thing", Body=b"kept")
    own_ceph.gateway.kill()
    own_ceph.start_gateway()
    own_ceph.osd.stop(30)
    own_ceph.start_osd()
    assert client.get_object(Bucket=bucket.name, Key="thing")["Body"].read() == b"kept"


def test_an_etcd_cluster_elects_another_leader(etcd_cluster: EtcdEngine) -> None:
    first = etcd_cluster.leader()
    etcd_cluster.kill(first)

    def another_leads() -> bool:
        try:
            return etcd_cluster.leader() != first
        except (OSError, EngineCannotRun):
            return False

    assert wait_until(another_leads, 10)
    etcd_cluster.start(first)


def test_only_the_process_that_listens_owns_a_port(redis_server: RedisEngine) -> None:
    assert owns_port(redis_server.process.pid, redis_server.port)
    assert not owns_port(1, redis_server.port)
    assert not owns_port(redis_server.process.pid, free_port())


def test_a_stopped_engine_leaves_no_process_and_no_directory() -> None:
    try:
        find_program("redis-server", "redis")
    except EngineCannotRun as error:
        pytest.skip(f"engine redis: {error}")
    with redis_engine() as engine:
        pid, directory = engine.process.pid, engine.process.log.parent
        assert is_running(pid)
    assert not is_running(pid)
    assert not directory.exists()


def test_an_engine_outlives_the_thread_that_asked_for_it(own_redis: RedisEngine) -> None:
    def restart() -> None:
        own_redis.stop()
        own_redis.start()

    thread = threading.Thread(target=restart)
    thread.start()
    thread.join()
    assert own_redis.process.running
    assert own_redis.command("PING") == b"+PONG\r\n"


def test_an_engine_dies_with_the_process_that_started_it(redis_server: RedisEngine) -> None:
    program = (
        "import os, sys, time\n"
        "from tests.engines.redis import redis_engine\n"
        "with redis_engine() as engine:\n"
        "    print(engine.process.pid, engine.process.log.parent, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, directory = starter.stdout.readline().split()
        assert is_running(int(pid))
        starter.kill()
    assert wait_until(lambda: not is_running(int(pid)), 10)
    sweep(Path(directory).parent)
    assert not Path(directory).exists()


def test_a_missing_program_names_the_group_that_brings_it() -> None:
    with pytest.raises(EngineCannotRun, match=r"tests\.engines\.install etcd"):
        find_program("no-such-etcd", "etcd")


def test_an_unknown_group_installs_nothing() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.engines.install", "nonsense"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert all(group in answer.stderr.partition("there are: ")[2] for group in GROUPS)


@pytest.fixture
def run_without_redis(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """pytest on tests that need Redis, where there is none."""
    (tmp_path / "no_redis.py").write_text(
        "import tests.engines.redis\n"
        "from tests.engines import EngineCannotRun\n"
        "def missing(*arguments):\n"
        "    raise EngineCannotRun('not on this machine')\n"
        "tests.engines.redis.find_program = missing\n"
    )

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        chosen = ["tests/conformance/test_cache.py", "-k", "TestRedisCache and byte_for_byte"]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no_redis", *chosen],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": f"{tmp_path}:.", "PATH": "/usr/bin:/bin", **environment},
        )

    return run


def test_an_engine_that_is_missing_skips_its_tests_and_the_summary_says_so(
    run_without_redis: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    answer = run_without_redis()
    assert answer.returncode == 0, answer.stdout
    assert "engines skipped" in answer.stdout
    assert "engine redis: not on this machine (1 test)" in answer.stdout


def test_an_engine_that_is_missing_is_a_failure_where_everything_is_required(
    run_without_redis: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    answer = run_without_redis(LONGSHORE_REQUIRE_ENGINES="1")
    assert answer.returncode == 1
    assert "engine redis cannot run: not on this machine" in answer.stdout
