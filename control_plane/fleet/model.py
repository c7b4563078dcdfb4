"""IDCs, hosts and regionals as the rest of the control plane sees them; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from common.errors import Conflict, Invalid, NotFound
from common.tls import IdentityKind

# A label of RFC 1123: it becomes part of paths, of etcd keys and of certificate names.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*", re.IGNORECASE)
_MAX_ADDRESSES = 32
_LABEL_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_MOST_LABELS = 64
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class NameInvalid(Invalid):
    code = "name_invalid"


class LabelInvalid(Invalid):
    code = "label_invalid"


class AddressInvalid(Invalid):
    code = "address_invalid"


class IdcUnknown(NotFound):
    code = "idc_unknown"


class IdcExists(Conflict):
    code = "idc_exists"


class IdcInUse(Conflict):
    code = "idc_in_use"


class HostUnknown(NotFound):
    code = "host_unknown"


class RegionalUnknown(NotFound):
    code = "regional_unknown"


class State(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"
    CONFLICT = "conflict"  # a second process shows the same certificate; the first keeps working
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Idc:
    id: str
    name: str
    display_name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredJoinToken:
    """What is kept of a join token: never its secret."""

    id: str
    kind: IdentityKind
    idc_id: str
    idc: str
    name: str | None
    secret_hash: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    used_key_hash: str | None = None
    identity_id: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A host or a regional: one identity in an IDC."""

    kind: IdentityKind
    id: str
    name: str
    idc_id: str
    idc: str
    version: str
    created_at: datetime
    revoked_at: datetime | None
    last_seen_at: datetime | None
    session_id: str | None
    session_replica: str | None
    conflict_at: datetime | None
    image_tokens: bool | None = None  # takes one token for all contents of an image; None: it never said

    @property
    def label(self) -> str:
        """For people: `host east/e1`."""
        return f"{self.kind} {self.idc}/{self.name}"

    def as_attached(self) -> Member:
        """What of it is kept for each stream: not what is read from the database when somebody asks."""
        return self


@dataclass(frozen=True, slots=True)
class Host(Member):
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    assignments_generation: int = 1

    def as_attached(self) -> Host:
        return replace(self, facts=_NOTHING, labels=_NOTHING)


@dataclass(frozen=True, slots=True)
class Regional(Member):
    addresses: Sequence[str] = ()
    content_url: str = ""
    swarm_url: str = ""
    peer_address: str = ""
    warnings: Sequence[str] = ()


def check_name(name: str, what: str) -> str:
    """`name` itself; raises `NameInvalid`. `what` says what is named: "IDC", "host"."""
    if not _LABEL.fullmatch(name):
        raise NameInvalid(
            f"{name[:80]!r} cannot name {what}",
            action="use 1 to 63 lower-case letters, digits and hyphens; begin and end with a letter or digit",
        )
    return name


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """`labels` itself; raises `LabelInvalid`. Keys and values are words of letters, digits and `._-/`."""
    if len(labels) > _MOST_LABELS:
        raise LabelInvalid(f"{len(labels)} labels were given", action=f"give at most {_MOST_LABELS}")
    for key, value in labels.items():
        if not _LABEL_WORD.fullmatch(key) or (value and not _LABEL_WORD.fullmatch(value)):
            raise LabelInvalid(
                f"{key[:80]}={value[:80]} is no label",
                action="use letters, digits and ._-/ in both, 63 at most, with a letter or digit at each end",
            )
    return labels


def check_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    """IP addresses and DNS names that may stand in a certificate. Raises `AddressInvalid`."""
    if len(addresses) > _MAX_ADDRESSES:
        raise AddressInvalid(f"{len(addresses)} addresses were given", action=f"give at most {_MAX_ADDRESSES}")
    for address in addresses:
        if not _is_ip(address) and not (len(address) <= 253 and _DNS_NAME.fullmatch(address)):
            raise AddressInvalid(
                f"{address[:80]!r} is no IP address and no DNS name", action="give addresses without port and scheme"
            )
    return tuple(dict.fromkeys(addresses))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
