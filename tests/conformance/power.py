"""What every `regional.power.BmcPort` must do."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import replace

import pytest

from regional.power import Bmc, BmcLoginRefused, BmcNotAnswering, BmcPort, BmcSession, PowerState, Turn
from tests.pace import BUSY_SECONDS


class There(ABC):
    """A BMC with a machine that is off, as its suite found it."""

    bmc: Bmc
    # One at which nobody answers.
    nobody: Bmc

    @abstractmethod
    def is_on(self) -> bool: ...

    @abstractmethod
    def next_boot(self) -> str:
        """Where it would boot from: "network", or something else."""

    @abstractmethod
    def hang(self) -> None:
        """From now on it takes packets and answers none, for ever."""


async def becomes(session: BmcSession, wanted: PowerState) -> None:
    async with asyncio.timeout(3 * BUSY_SECONDS):
        while await session.state() is not wanted:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)


class PowerPortContract:
    """Subclasses give the fixtures `port`, whose words last `word_seconds` at most, `word_seconds`, and `there`."""

    async def test_a_machine_is_turned_on_boots_from_the_network_once_and_is_turned_off(
        self, port: BmcPort, there: There
    ) -> None:
        async with port.session(there.bmc) as session:
            assert await session.state() is PowerState.OFF
            await session.boot_from_network_once(uefi=True, http=False)
            assert there.next_boot() == "network"
            assert not there.is_on()
            await session.turn(Turn.ON)
            await becomes(session, PowerState.ON)
            assert there.is_on()
            await session.turn(Turn.ON)  # harmless to repeat
            await becomes(session, PowerState.ON)
        async with port.session(there.bmc) as session:
            await session.turn(Turn.SHUTDOWN)
            await becomes(session, PowerState.OFF)
            await session.turn(Turn.ON)
            await becomes(session, PowerState.ON)
            await session.turn(Turn.OFF)
            await becomes(session, PowerState.OFF)
        assert not there.is_on()

    async def test_a_wrong_password_is_said_and_is_in_no_word(self, port: BmcPort, there: There) -> None:
        wrong = replace(there.bmc, password="never written")
        async with port.session(wrong) as session:
            with pytest.raises(BmcLoginRefused) as refused:
                await session.turn(Turn.ON)
        assert "never written" not in repr(wrong) + str(refused.value) + repr(refused.value)
        assert not there.is_on()

    async def test_where_nobody_is_nobody_answers(self, port: BmcPort, there: There) -> None:
        async with port.session(there.nobody) as session:
            with pytest.raises(BmcNotAnswering):
                await session.state()

    async def test_a_bmc_that_hangs_ends_its_own_session_and_holds_up_no_other(
        self, port: BmcPort, there: There, word_seconds: float
    ) -> None:
        there.hang()
        async with asyncio.timeout(word_seconds + 3 * BUSY_SECONDS):
            async with port.session(there.bmc) as hung, port.session(there.nobody) as other:
                for session in (hung, other):
                    with pytest.raises(BmcNotAnswering):
                        await session.state()

    async def test_a_session_that_is_given_up_leaves_at_once(self, port: BmcPort, there: There) -> None:
        there.hang()

        async def ask() -> None:
            async with port.session(there.bmc) as session:
                await session.state()

        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(BUSY_SECONDS):
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
