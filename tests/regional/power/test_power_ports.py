"""The port's suite on BMCs in memory, on sushy-tools' emulator and on pyghmi's BMC, each of these a process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from regional.power import Bmc, BmcPort, PowerState, Protocols
from regional.power.children import Children
from regional.power.memory import MemoryBmc, MemoryBmcs
from tests.conformance.power import PowerPortContract, There
from tests.engines.bmcs import PASSWORD, USER, RunningBmc, ipmi_bmc, redfish_bmc


class _InMemory(There):
    bmc = Bmc(Protocols.REDFISH, "10.0.0.1", 443, USER, PASSWORD)
    nobody = Bmc(Protocols.REDFISH, "10.0.0.2", 443, USER, PASSWORD)

    def __init__(self) -> None:
        self._machine = MemoryBmc(USER, PASSWORD)
        self.bmcs = MemoryBmcs(0.05)
        self.bmcs.bmcs["10.0.0.1", 443] = self._machine

    def is_on(self) -> bool:
        return self._machine.state is PowerState.ON

    def next_boot(self) -> str:
        return {"pxe": "network"}.get(self._machine.next_boot, "")

    def hang(self) -> None:
        self._machine.hangs = True


class _Running(There):
    def __init__(self, running: RunningBmc, closed_port: int) -> None:
        self._running = running
        self.bmc = running.bmc
        self.nobody = replace(running.bmc, port=closed_port)

    def is_on(self) -> bool:
        return self._running.changes[-1:] != [] and self._running.changes[-1]["power"] == "on"

    def next_boot(self) -> str:
        return {"Pxe": "network"}.get(self._running.changes[-1]["boot"], self._running.changes[-1]["boot"])

    def hang(self) -> None:
        self._running.process.pause()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Of TCP: bound, and not listening. Of UDP: taken, and silent."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        port = stream.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        yield port


class TestMemory(PowerPortContract):
    @pytest.fixture
    def word_seconds(self) -> float:
        return 0.05

    @pytest.fixture
    def there(self) -> _InMemory:
        return _InMemory()

    @pytest.fixture
    def port(self, there: _InMemory) -> BmcPort:
        return there.bmcs


class _Processes(PowerPortContract):
    @pytest.fixture
    def word_seconds(self) -> float:
        return 30.0

    @pytest.fixture
    def port(self, word_seconds: float) -> BmcPort:
        return Children(2, word_seconds=word_seconds)

    async def test_a_bmc_that_hangs_ends_its_own_session_and_holds_up_no_other(
        self, port: BmcPort, there: There, word_seconds: float
    ) -> None:
        await super().test_a_bmc_that_hangs_ends_its_own_session_and_holds_up_no_other(Children(2, None, 2.0), there, 2)


class TestRedfish(_Processes):
    @pytest.fixture
    def there(self, tmp_path: Path, closed_port: int) -> Iterator[_Running]:
        with redfish_bmc(tmp_path) as running:
            yield _Running(running, closed_port)


class TestIpmi(_Processes):
    @pytest.fixture
    def there(self, tmp_path: Path, closed_port: int) -> Iterator[_Running]:
        with ipmi_bmc(tmp_path) as running:
            yield _Running(running, closed_port)
