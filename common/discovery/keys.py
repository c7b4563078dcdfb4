"""Where things stand in the directory; pure.

    /os/region/{idc}/info                 what the regional of an IDC is: version, addresses; stays as "offline"
    /os/region/{idc}/heartbeat            that it lives, under a lease of 30 s
    /os/{idc}/hosts/{host}                one host of an IDC, under its agent's lease
    /os/locks/{name}/{candidate}          who leads, in order of creation

Invariant: names are checked, so no name reaches into another one's subtree ("region" and "locks" are no IDCs).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import Invalid

HEARTBEAT_TTL_SECONDS = 30.0
OFFLINE = b"offline"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.IGNORECASE)
_RESERVED = frozenset({"region", "locks"})


class NameInvalid(Invalid):
    code = "discovery_name_invalid"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise NameInvalid(
            f"{name[:80]!r} cannot be a name in the directory",
            action="use at most 63 letters, digits, dots, dashes and underscores; letters or digits at both ends",
        )
    return name


def region_info(idc: str) -> str:
    return f"/os/region/{_checked(idc)}/info"


def region_heartbeat(idc: str) -> str:
    return f"/os/region/{_checked(idc)}/heartbeat"


def regions_prefix() -> str:
    return "/os/region/"


def host(idc: str, host_name: str) -> str:
    return f"/os/{_checked(idc)}/hosts/{_checked(host_name)}"


def hosts_prefix(idc: str) -> str:
    return f"/os/{_checked(idc)}/hosts/"


def lock_prefix(name: str) -> str:
    return f"/os/locks/{_checked(name)}/"


@dataclass(frozen=True, slots=True)
class HostKey:
    idc: str
    host: str


@dataclass(frozen=True, slots=True)
class RegionKey:
    """`item` is info or heartbeat."""

    idc: str
    item: str


def parse(key: str) -> HostKey | RegionKey | None:
    """What a key under /os/ speaks of; None for what is not ours."""
    parts = key.split("/")
    if len(parts) != 5 or parts[:2] != ["", "os"]:
        return None
    if parts[2] == "region" and parts[4] in ("info", "heartbeat") and _NAME.fullmatch(parts[3]):
        return RegionKey(parts[3], parts[4])
    if parts[3] == "hosts" and parts[2] not in _RESERVED and _NAME.fullmatch(parts[2]) and _NAME.fullmatch(parts[4]):
        return HostKey(parts[2], parts[4])
    return None
