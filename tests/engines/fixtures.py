"""The engines as pytest fixtures; tests/conftest.py makes them known everywhere.

Servers are shared by the tests of one pytest process (each xdist worker has its own), so a test leaves a shared one as
it found it. Fixtures whose name begins with `own_` start a server for one test, which may break it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from deploy.installer.building import Installer
from tests.engines import SKIPPED, EngineCannotRun
from tests.engines.ceph import CephEngine, S3Bucket, ceph_engine
from tests.engines.docker_registry import DockerRegistry, server_tls
from tests.engines.docker_registry import docker_registry as running_docker_registry
from tests.engines.dockerd import DockerEngine
from tests.engines.dockerd import docker_engine as running_docker
from tests.engines.dockerd import docker_host_engine as running_host_docker
from tests.engines.etcd import EtcdEngine, etcd_engine
from tests.engines.installer_environment import installer_engine
from tests.engines.lxd import LxdEngine
from tests.engines.lxd import lxd_engine as running_lxd
from tests.engines.podman import Podman, podman_client
from tests.engines.postgresql import PostgresEngine, postgres_engine
from tests.engines.redis import RedisEngine, redis_engine
from tests.engines.settings import engines_required
from tests.engines.skopeo import Skopeo, skopeo_client

T = TypeVar("T")


@contextlib.contextmanager
def running(name: str, engine: AbstractContextManager[T]) -> Iterator[T]:
    """Start `engine`; where it cannot run, skip with the reason, or fail if everything is required."""
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(engine)
        except EngineCannotRun as error:
            if engines_required():
                pytest.fail(f"{SKIPPED}{name} cannot run: {error}", pytrace=False)
            pytest.skip(f"{SKIPPED}{name}: {error}")
        yield started


@pytest.fixture(scope="session")
def installer() -> Iterator[Installer]:
    """The kernel and the initial file system of the installer environment."""
    with running("installer", installer_engine()) as made:
        yield made


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresEngine]:
    """A PostgreSQL server; make a database of your own in it."""
    with running("postgresql", postgres_engine()) as engine:
        yield engine


@pytest.fixture
def own_postgresql() -> Iterator[PostgresEngine]:
    with running("postgresql", postgres_engine()) as engine:
        yield engine


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RedisEngine]:
    with running("redis", redis_engine()) as engine:
        yield engine


@pytest.fixture
def redis_server(_shared_redis: RedisEngine) -> RedisEngine:
    """A Redis server, emptied before the test."""
    _shared_redis.command("FLUSHALL")
    return _shared_redis


@pytest.fixture
def own_redis() -> Iterator[RedisEngine]:
    with running("redis", redis_engine()) as engine:
        yield engine


@pytest.fixture(scope="session")
def etcd_node() -> Iterator[EtcdEngine]:
    """One etcd node; use keys of your own."""
    with running("etcd", etcd_engine()) as engine:
        yield engine


@pytest.fixture
def own_etcd() -> Iterator[EtcdEngine]:
    with running("etcd", etcd_engine()) as engine:
        yield engine


@pytest.fixture(scope="session")
def _shared_etcd_cluster() -> Iterator[EtcdEngine]:
    with running("etcd", etcd_engine(3)) as engine:
        yield engine


@pytest.fixture
def etcd_cluster(_shared_etcd_cluster: EtcdEngine) -> EtcdEngine:
    """Three etcd nodes, all healthy; a test may kill and pause them."""
    _shared_etcd_cluster.heal()
    return _shared_etcd_cluster


@pytest.fixture(scope="session")
def _shared_ceph() -> Iterator[CephEngine]:
    with running("ceph", ceph_engine()) as engine:
        yield engine


@pytest.fixture
def s3(_shared_ceph: CephEngine) -> S3Bucket:
    """A bucket of your own, empty, at a real gateway."""
    return _shared_ceph.new_bucket()


@pytest.fixture
def own_ceph() -> Iterator[CephEngine]:
    with running("ceph", ceph_engine()) as engine:
        yield engine


@pytest.fixture(scope="session")
def _shared_docker() -> Iterator[DockerEngine]:
    with running("docker", running_docker()) as engine:
        yield engine


@pytest.fixture
def docker_engine(_shared_docker: DockerEngine) -> Iterator[DockerEngine]:
    """dockerd in a network of its own (`command_prefix` leads there); containers are removed after each test."""
    yield _shared_docker
    if not _shared_docker.process.running:
        _shared_docker.start()
    _shared_docker.remove_containers()


@pytest.fixture(scope="module")
def _host_docker() -> Iterator[DockerEngine]:
    # For one module, not for the session: other test processes wait for their turn.
    with running("docker", running_host_docker()) as engine:
        yield engine


@pytest.fixture
def docker_host_engine(_host_docker: DockerEngine) -> Iterator[DockerEngine]:
    """dockerd in the machine's network without bridge and iptables: it reaches loopback servers; containers use the
    network `none` or `host`. They are removed after each test.
    """
    yield _host_docker
    if not _host_docker.process.running:
        _host_docker.start()
    _host_docker.remove_containers()


@pytest.fixture(scope="session")
def _shared_lxd() -> Iterator[LxdEngine]:
    with running("lxd", running_lxd()) as engine:
        yield engine


@pytest.fixture
def lxd_engine(_shared_lxd: LxdEngine) -> Iterator[LxdEngine]:
    """LXD in a machine of its own; instances, volumes and images are removed after each test."""
    yield _shared_lxd
    _shared_lxd.heal()
    _shared_lxd.remove_everything()


@pytest.fixture
def podman() -> Iterator[Podman]:
    with running("podman", podman_client()) as client:
        yield client


@pytest.fixture
def skopeo() -> Iterator[Skopeo]:
    with running("skopeo", skopeo_client()) as client:
        yield client


@pytest.fixture(scope="session")
def foreign_registry() -> Iterator[DockerRegistry]:
    """Debian's docker-registry without login, over plain HTTP; use repositories of your own."""
    with running("docker-registry", running_docker_registry()) as engine:
        yield engine


@pytest.fixture
def own_foreign_registry() -> Iterator[DockerRegistry]:
    with running("docker-registry", running_docker_registry()) as engine:
        yield engine


@pytest.fixture
def guarded_foreign_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """With a login, over TLS with a certificate authority of its own."""
    with running("docker-registry", running_docker_registry(with_login=True, tls=server_tls(tmp_path))) as engine:
        yield engine
