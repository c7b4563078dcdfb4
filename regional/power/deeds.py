"""What is done with a machine's power, word by word, and looked at afterwards; the rules of it, over any port.

Invariants: a deed ends well only when the BMC says, after it took the word, that the machine is as it should be; so one
that takes words and does nothing is found out. What is refused before the first change changes nothing. A restart is
off, seen to be off, then on: who sends it twice by mistake finds a machine that is on, not one that restarts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.clock import Clock
from common.errors import Conflict, Failure
from regional.power import BmcNotAnswering, BmcRefused, BmcSession, PowerState, Turn

_POLL_SECONDS = 2.0


class Deed(StrEnum):
    """`NETWORK`: restart, and boot from the network this once."""

    LOOK = "look"
    ON = "on"
    OFF = "off"
    SHUTDOWN = "shutdown"
    CYCLE = "cycle"
    NETWORK = "network"

    @property
    def repeatable(self) -> bool:
        """Doing it again changes nothing that it did not change before."""
        return self not in (Deed.CYCLE, Deed.NETWORK)


class PowerNotFollowed(Conflict):
    """The BMC took the word, and the machine is not as it should be."""

    code = "power_not_followed"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. A system that is asked to go down takes longer than a plug."""

    turn: float = 60.0
    shutdown: float = 300.0

    @property
    def longest(self) -> float:
        """Of any deed, with what its words take."""
        return self.shutdown + 2 * self.turn + 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    state: PowerState
    detail: str


class Deeds:
    def __init__(self, clock: Clock, patience: Patience | None = None) -> None:
        self._clock = clock
        self.patience = patience or Patience()

    async def carry_out(self, session: BmcSession, deed: Deed, *, uefi: bool = False, http: bool = False) -> Outcome:
        """Raises `PowerNotFollowed` and whatever the session does."""
        before = await session.state()
        match deed:
            case Deed.LOOK:
                return Outcome(before, f"it is {before.value}")
            case Deed.ON:
                return await self._to(session, before, Turn.ON)
            case Deed.OFF:
                return await self._to(session, before, Turn.OFF)
            case Deed.SHUTDOWN:
                return await self._to(session, before, Turn.SHUTDOWN)
            case Deed.CYCLE:
                return await self._restart(session, before)
            case Deed.NETWORK:
                await session.boot_from_network_once(uefi=uefi, http=http)
                after = await self._restart(session, before)
                return Outcome(after.state, f"{after.detail}, from the network this once")

    async def _restart(self, session: BmcSession, before: PowerState) -> Outcome:
        if before is not PowerState.OFF:
            await self._to(session, before, Turn.OFF)
        await self._to(session, PowerState.OFF, Turn.ON)
        return Outcome(PowerState.ON, "it was off, and is on" if before is PowerState.OFF else "it was restarted")

    async def _to(self, session: BmcSession, before: PowerState, how: Turn) -> Outcome:
        wanted = PowerState.ON if how is Turn.ON else PowerState.OFF
        if before is wanted:
            return Outcome(wanted, f"it was {wanted.value} already")
        held_back: Failure | None = None
        try:
            await session.turn(how)
        except BmcNotAnswering as failure:
            held_back = failure  # It may have been done.
        except BmcRefused:
            # As the ones do that are as they should be.
            if await session.state() is wanted:
                return Outcome(wanted, f"it is {wanted.value}")
            raise
        seconds = self.patience.shutdown if how is Turn.SHUTDOWN else self.patience.turn
        await self._becomes(session, wanted, seconds, held_back)
        return Outcome(wanted, f"it is {wanted.value}")

    async def _becomes(
        self, session: BmcSession, wanted: PowerState, seconds: float, held_back: Failure | None
    ) -> None:
        deadline = self._clock.monotonic() + seconds
        while True:
            silence: Failure | None = None
            state = PowerState.UNKNOWN
            try:
                state = await session.state()
            except BmcNotAnswering as failure:
                silence = failure  # Some are busy with what they were just told.
            if state is wanted:
                return
            if self._clock.monotonic() >= deadline:
                break
            await self._clock.sleep(_POLL_SECONDS)
        raise (
            silence
            or held_back
            or PowerNotFollowed(
                f"the BMC took the word, and {seconds:.0f} s later it says that the machine is {state.value}",
                action="a system that does not go down is turned off with `longshore machine power off`"
                if wanted is PowerState.OFF
                else "look at the machine and at its BMC",
            )
        )
