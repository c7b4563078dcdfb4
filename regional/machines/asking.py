"""Who asks for a script, and what is answered; the words between the ledger, scripts and routes; pure."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import Invalid
from regional.boot_targets import mac_of
from regional.machines.model import BootFiles, Target

# What vendors write where a serial number belongs: as good as none.
_NO_SERIALS = frozenset(
    {
        "", "0", "00000000", "0123456789", "123456789", "1234567890", "default string", "empty", "filled by o.e.m.",
        "invalid", "n/a", "na", "none", "not applicable", "not available", "not specified", "o.e.m.",
        "system serial number", "to be filled by o.e.m.", "unknown", "xxxxxxxxxxx",
    }
)  # fmt: skip


class MacInvalid(Invalid):
    code = "mac_invalid"


@dataclass(frozen=True, slots=True)
class Ask:
    """`serial` None: this loader cannot say it; empty: its firmware has none. `leased`: the address that our DHCP gave
    to this MAC, empty if it gave none.
    """

    mac: str
    serial: str | None = None
    uuid: str = ""
    address: str = ""
    leased: str = ""
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class LocalDisk:
    """`trouble`: somebody should look at why."""

    why: str
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again in so many seconds; `why` for whoever stands before the screen."""

    why: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Boot:
    """`files` None: the installer environment of this regional. `nonce`: of placeholders in the arguments."""

    token: str
    target: Target | None
    files: BootFiles | None
    nonce: str = ""
    installs: bool = False
    why: str = ""


Answer = LocalDisk | Wait | Boot


def said_mac(text: str) -> str:
    """Raises `MacInvalid`."""
    mac = mac_of(text)
    if mac is None:
        raise MacInvalid("this is no hardware address", action="write it as 52-54-00-12-34-56")
    return mac


def said_serial(text: str) -> str:
    """What the firmware calls its serial number, or nothing where that is a placeholder."""
    plain = " ".join(text.split())[:128]
    return "" if plain.casefold() in _NO_SERIALS else plain


def same_serial(known: str, said: str) -> bool:
    return said_serial(known).casefold() == said_serial(said).casefold()
