"""What a machine may be called and known by; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from control_plane.machines.answers.model import Network
from control_plane.machines.answers.network_rules import network_problems
from control_plane.machines.model import BootSettings, MachineInvalid

MOST_MACS = 32
MOST_TAGS = 64
MOST_VARIABLES = 64
_LONGEST_NOTES = 4000
_LONGEST_VARIABLE = 2000
_LONGEST_ARGUMENTS = 1000
_MAC = re.compile(r"[0-9a-f]{12}")
_SEPARATORS = re.compile(r"[:.-]")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/=-]{0,61}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# One component of a path after the other: nothing hidden, nothing that leads out of /static.
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_SERIAL = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Words that makers leave in SMBIOS instead of a serial number, lower case, without anything but letters and digits.
_NO_SERIALS = frozenset(
    {
        "",
        "none",
        "na",
        "unknown",
        "default",
        "defaultstring",
        "notspecified",
        "notapplicable",
        "notavailable",
        "tobefilledbyoem",
        "systemserialnumber",
        "serialnumber",
        "chassisserialnumber",
        "oem",
        "empty",
        "invalid",
        "123456789",
        "0123456789",
        "1234567890",
        "12345678",
    }
)


def mac_of(text: str) -> str:
    """Lower case with colons. Raises `MachineInvalid`; multicast and all-zero addresses are nobody's."""
    plain = _SEPARATORS.sub("", text.strip().lower())
    if not _MAC.fullmatch(plain) or int(plain[:2], 16) & 1 or plain == "0" * 12:
        raise MachineInvalid(f"{text[:40]!r} is no MAC address of a machine", action="write 52:54:00:12:34:56")
    return ":".join(plain[at : at + 2] for at in range(0, 12, 2))


def macs_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Each once, in order. Raises `MachineInvalid`."""
    found = tuple(dict.fromkeys(mac_of(text) for text in texts))
    if not 1 <= len(found) <= MOST_MACS:
        raise MachineInvalid(f"{len(found)} MAC addresses were given", action=f"give 1 to {MOST_MACS}")
    return found


def serial_of(text: str) -> str:
    """What makers leave instead of a serial number, and what nobody could type, is "": not known."""
    plain = " ".join(text.split())[:128].strip()
    word = re.sub(r"[^a-z0-9]", "", plain.lower())
    if word in _NO_SERIALS or set(word) <= {"0"} or set(word) <= {"f"} or set(word) <= {"x"}:
        return ""
    return plain if _SERIAL.fullmatch(plain) else ""


def given_serial(text: str) -> str:
    """What an operator says it is; "" for not known. Raises `MachineInvalid`."""
    found = serial_of(text)
    if text.strip() and not found:
        raise MachineInvalid(
            f"{text[:80]!r} is no serial number of one machine", action="leave it out; its MAC addresses name it"
        )
    return found


def uuid_of(text: str) -> str:
    """ "" for what is none, or all zeros or ones (RFC 4578 allows firmware to be vague)."""
    plain = text.strip().lower()
    if not _UUID.fullmatch(plain) or not set(plain) - {"0", "-"} or not set(plain) - {"f", "-"}:
        return ""
    return plain


def check_name(name: str) -> str:
    """It becomes the host name. Raises `MachineInvalid`."""
    if not _NAME.fullmatch(name):
        raise MachineInvalid(
            f"{name[:80]!r} cannot name a machine",
            action="use 1 to 63 lower-case letters, digits and hyphens; begin and end with a letter or digit",
        )
    return name


def name_for(mac: str) -> str:
    """Of one that nobody named yet."""
    return f"m-{mac.replace(':', '')}"


def tags_of(tags: Iterable[str]) -> tuple[str, ...]:
    """Sorted, each once. Raises `MachineInvalid`."""
    found = tuple(sorted(set(tags)))
    if len(found) > MOST_TAGS:
        raise MachineInvalid(f"{len(found)} tags were given", action=f"give at most {MOST_TAGS}")
    for tag in found:
        if not _TAG.fullmatch(tag):
            raise MachineInvalid(f"{tag[:80]!r} is no tag", action="use letters, digits and ._-/=, 63 at most")
    return found


def check_variables(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Raises `MachineInvalid`."""
    if len(variables) > MOST_VARIABLES:
        raise MachineInvalid(f"{len(variables)} variables were given", action=f"give at most {MOST_VARIABLES}")
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name) or len(value) > _LONGEST_VARIABLE:
            raise MachineInvalid(
                f"{name[:80]!r} is no variable",
                action=f"names are letters, digits and _; values have at most {_LONGEST_VARIABLE} characters",
            )
    return variables


def check_network(network: Network | None) -> Network | None:
    """Raises `MachineInvalid`."""
    for problem in () if network is None else network_problems(network):
        raise MachineInvalid(f"{problem.where}: {problem.what}", action="mend the network, or leave it out")
    return network


def check_notes(notes: str) -> str:
    if len(notes) > _LONGEST_NOTES:
        raise MachineInvalid(f"the notes have {len(notes)} characters", action=f"use at most {_LONGEST_NOTES}")
    return notes


def check_boot(boot: BootSettings) -> BootSettings:
    """Raises `MachineInvalid`."""
    if boot.loader:
        check_static_path(boot.loader)
    check_arguments(boot.arguments)
    return boot


def check_static_path(path: str) -> str:
    """A file below /static of a regional. Raises `MachineInvalid`."""
    if len(path) > 255 or not _PATH.fullmatch(path):
        raise MachineInvalid(
            f"{path[:120]!r} is no path below /static",
            action="write it like kernels/vmlinuz, without .. and hidden names",
        )
    return path


def check_arguments(text: str) -> str:
    """One line of a kernel's command line. Raises `MachineInvalid`."""
    if len(text) > _LONGEST_ARGUMENTS or not all(" " <= letter <= "~" for letter in text):
        raise MachineInvalid(
            "the arguments are no kernel's command line",
            action=f"use one line of at most {_LONGEST_ARGUMENTS} ASCII characters",
        )
    return text
