"""Deeds over BMCs in memory, and in which networks BMCs may be."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from common.clock import ManualClock
from regional.power import BmcNotAnswering, BmcRefused, PowerNotInstalled, PowerState, Protocols, Turn
from regional.power.deeds import Deed, Deeds, Outcome, Patience, PowerNotFollowed
from regional.power.libraries import missing, require
from regional.power.networks import BmcNetworksInvalid, BmcNotAllowed, check_address, networks_of

ON, OFF = PowerState.ON, PowerState.OFF


class Scripted:
    """A session that says `states` one after the other, the last for ever; a failure among them is raised."""

    def __init__(self, *states: PowerState | Exception, turning: Exception | None = None) -> None:
        self._states = list(states)
        self._turning = turning
        self.heard: list[str] = []

    async def state(self) -> PowerState:
        said = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(said, Exception):
            raise said
        return said

    async def turn(self, how: Turn) -> None:
        self.heard.append(how.value)
        if self._turning is not None:
            raise self._turning

    async def boot_from_network_once(self, *, uefi: bool, http: bool) -> None:
        self.heard.append(f"network uefi={uefi} http={http}")


async def carried_out(session: Scripted, deed: Deed, **more: bool) -> Outcome:
    """Time goes on until it is over."""
    clock = ManualClock()
    work: Coroutine[Any, Any, Outcome] = Deeds(clock, Patience(turn=10, shutdown=30)).carry_out(session, deed, **more)
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.advance(1)
    return await task


@pytest.mark.parametrize(
    ("deed", "states", "heard", "detail"),
    [
        (Deed.LOOK, [OFF], [], "it is off"),
        (Deed.LOOK, [PowerState.UNKNOWN], [], "it is unknown"),
        (Deed.ON, [ON], [], "it was on already"),
        (Deed.ON, [OFF, OFF, OFF, ON], ["on"], "it is on"),
        (Deed.OFF, [PowerState.UNKNOWN, OFF], ["off"], "it is off"),
        (Deed.SHUTDOWN, [ON, *[ON] * 12, OFF], ["shutdown"], "it is off"),
        (Deed.CYCLE, [ON, ON, OFF, ON], ["off", "on"], "it was restarted"),
        (Deed.CYCLE, [OFF, ON], ["on"], "it was off, and is on"),
        (Deed.NETWORK, [ON, OFF, ON], ["network uefi=True http=False", "off", "on"],
         "it was restarted, from the network this once"),
        # Busy with what it was told.
        (Deed.ON, [OFF, BmcNotAnswering("busy"), ON], ["on"], "it is on"),
    ],
)  # fmt: skip
async def test_a_deed_is_done_when_the_bmc_says_so_afterwards(
    deed: Deed, states: list[PowerState | Exception], heard: list[str], detail: str
) -> None:
    session = Scripted(*states)
    assert (await carried_out(session, deed, uefi=True)).detail == detail
    assert session.heard == heard


@pytest.mark.parametrize(("deed", "said", "heard"), [
    (Deed.ON, OFF, ["on"]), (Deed.OFF, ON, ["off"]), (Deed.SHUTDOWN, ON, ["shutdown"]),
    # It says on, whatever it is told: it is not turned on after it did not go off.
    (Deed.CYCLE, ON, ["off"]),
])  # fmt: skip
async def test_a_bmc_that_lies_is_found_out(deed: Deed, said: PowerState, heard: list[str]) -> None:
    session = Scripted(said)
    with pytest.raises(PowerNotFollowed, match=f"the machine is {said.value}"):
        await carried_out(session, deed)
    assert session.heard == heard


async def test_a_word_that_timed_out_may_have_been_done_and_is_not_said_again() -> None:
    session = Scripted(OFF, OFF, ON, turning=BmcNotAnswering("slow"))
    assert (await carried_out(session, Deed.ON)).state is ON
    assert session.heard == ["on"]
    with pytest.raises(BmcNotAnswering, match="slow"):
        await carried_out(Scripted(OFF, turning=BmcNotAnswering("slow")), Deed.ON)


async def test_what_is_refused_is_fine_where_it_is_so_already() -> None:
    assert (await carried_out(Scripted(OFF, ON, turning=BmcRefused("it is on")), Deed.ON)).state is ON
    with pytest.raises(BmcRefused, match="not now"):
        await carried_out(Scripted(OFF, turning=BmcRefused("not now")), Deed.ON)


def test_bmcs_are_where_the_operator_said_and_nowhere_else() -> None:
    networks = networks_of("10.0.0.0/24, fd00::/64")
    assert check_address(networks, "10.0.0.7") == "10.0.0.7"
    assert check_address(networks, "FD00:0::7") == "fd00::7"
    wrong = (
        "10.0.1.7", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.7", "fd00::7%eth0", "bmc", "", "10.0.0.7:80"
    )  # fmt: skip
    for address in wrong:
        with pytest.raises(BmcNotAllowed):
            check_address(networks, address)
    with pytest.raises(BmcNotAllowed, match="--bmc-network"):
        check_address(networks_of(""), "10.0.0.7")
    for text in ("10.0.0.7/24", "rack", "10.0.0.0/99"):
        with pytest.raises(BmcNetworksInvalid):
            networks_of(text)


def test_without_the_extra_it_says_which_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing() == []
    monkeypatch.setattr("regional.power.libraries.find_spec", lambda name: None if name == "sushy" else object())
    assert missing() == ["sushy"]
    require(Protocols.IPMI)
    with pytest.raises(PowerNotInstalled, match=r"longshore\[power\]"):
        require(Protocols.REDFISH)
