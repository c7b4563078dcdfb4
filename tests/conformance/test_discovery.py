"""The directory's contract in memory and on a real etcd."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from common.clock import SystemClock
from common.discovery.etcd import EtcdRegistry
from common.discovery.etcd_client import EtcdOptions
from common.discovery.memory import MemoryDirectory, MemoryRegistry
from tests.conformance.discovery import ServiceRegistryContract
from tests.engines.etcd import EtcdEngine


@pytest.fixture
def root() -> str:
    return f"/os/test-{secrets.token_hex(4)}/hosts/"


@pytest.fixture
def lock_name() -> str:
    return f"lock-{secrets.token_hex(4)}"


class TestMemoryRegistry(ServiceRegistryContract):
    @pytest.fixture
    def directory(self) -> MemoryDirectory:
        return MemoryDirectory()

    @pytest.fixture
    def subject(self, directory: MemoryDirectory) -> MemoryRegistry:
        return MemoryRegistry(directory)

    @pytest.fixture
    def other(self, directory: MemoryDirectory) -> MemoryRegistry:
        return MemoryRegistry(directory)


@pytest.mark.engine("etcd")
class TestEtcdRegistry(ServiceRegistryContract):
    @pytest.fixture
    async def subject(self, etcd_node: EtcdEngine) -> AsyncIterator[EtcdRegistry]:
        registry = EtcdRegistry(EtcdOptions(etcd_node.endpoints), SystemClock())
        yield registry
        await registry.close()

    @pytest.fixture
    async def other(self, etcd_node: EtcdEngine) -> AsyncIterator[EtcdRegistry]:
        registry = EtcdRegistry(EtcdOptions(etcd_node.endpoints), SystemClock())
        yield registry
        await registry.close()
