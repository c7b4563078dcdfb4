"""The port to a machine's management controller (BMC): is it on, turn it on or off, let it boot from the network once.

Every implementation promises:

- A session is with one BMC, at the address that it was given and nowhere else: no name is looked up, no redirect and no
  foreign link followed, no proxy asked. What answers there is the BMC of the fingerprint, where one is given.
- Every word has a deadline (`WORD_SECONDS`), whatever the BMC does, and a BMC that hangs holds up nobody else.
- A word raises one of the failures below, or was taken by the BMC. Taken is not done: BMCs act later, or say that they
  did and do not; `deeds` looks again.
- Leaving the session, by cancellation too, leaves no process, no thread and no session on the BMC's side that would not
  expire by itself. The password is in no failure, log line, argument or environment.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from common.errors import Conflict, Denied, Unavailable

WORD_SECONDS = 30.0


class PowerState(StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Turn(StrEnum):
    """`OFF` is the plug, `SHUTDOWN` asks the system to go down by itself."""

    ON = "on"
    OFF = "off"
    SHUTDOWN = "shutdown"


class Protocols(StrEnum):
    REDFISH = "redfish"
    IPMI = "ipmi"


@dataclass(frozen=True, slots=True)
class Bmc:
    """`address`: an IP address. `fingerprint`: SHA-256 of its certificate as 64 hex digits, for Redfish; without it the
    certificate must verify. `system`: which one, for Redfish, where the BMC has several.
    """

    protocol: Protocols
    address: str
    port: int
    username: str
    password: str = field(repr=False)
    fingerprint: str = ""
    system: str = ""


class BmcNotAnswering(Unavailable):
    """Nothing answers there, or not in time; what it was asked to do may have been done."""

    code = "bmc_not_answering"


class BmcLoginRefused(Denied):
    code = "bmc_login_refused"


class BmcNotTrusted(Denied):
    """What answers is not the BMC that was meant, or sends us somewhere else."""

    code = "bmc_not_trusted"


class BmcRefused(Conflict):
    """It answered, and does not do it."""

    code = "bmc_refused"


class PowerNotInstalled(Unavailable):
    """The libraries are not there."""

    code = "power_not_installed"


class BmcSession(Protocol):
    """Each word raises `BmcNotAnswering`, `BmcLoginRefused`, `BmcNotTrusted` or `BmcRefused`."""

    async def state(self) -> PowerState: ...

    async def turn(self, how: Turn) -> None:
        """Harmless to repeat."""
        ...

    async def boot_from_network_once(self, *, uefi: bool, http: bool) -> None:
        """At its next start only. `http`: by UEFI's HTTP boot, where the protocol can say that, else PXE."""
        ...


class BmcPort(Protocol):
    def session(self, bmc: Bmc) -> AbstractAsyncContextManager[BmcSession]:
        """Raises `PowerNotInstalled`; it may wait for its turn. The BMC is first spoken to with the first word."""
        ...
