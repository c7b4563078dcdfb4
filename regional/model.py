"""What a regional is asked to hold, and what it can say of it; pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import quote, unquote

from common.digest import Digest
from common.errors import Invalid

# Tenant ids are UUIDs; with a digest of up to 136 characters the bound keeps file names under 255 bytes.
_TENANT_LENGTH = 100


class TenantInvalid(Invalid):
    code = "tenant_invalid"


@dataclass(frozen=True, slots=True, order=True)
class ContentKey:
    """One tenant's right to one content. The bytes are stored once; swarms, rights and reports are per tenant."""

    digest: Digest
    tenant_id: str

    def __post_init__(self) -> None:
        if not 0 < len(quote(self.tenant_id, safe="")) <= _TENANT_LENGTH or not self.tenant_id.isprintable():
            raise TenantInvalid(f"{self.tenant_id[:40]!r} is not a tenant id", action="use the id that the centre gave")

    def file_name(self) -> str:
        """Injective, without separators, never `.` or `..`."""
        return f"{self.digest.algorithm}-{self.digest.hex}.{quote(self.tenant_id, safe='')}"

    @classmethod
    def parse_file_name(cls, name: str) -> ContentKey:
        """Raises `DigestInvalid` or `TenantInvalid` for names that `file_name` does not make."""
        digest, _, tenant_id = name.partition(".")
        return cls(Digest.parse(digest.replace("-", ":", 1)), unquote(tenant_id))


class Effort(enum.Enum):
    """How much fetching may disturb others."""

    ORDINARY = "ordinary"
    LOWER = "lower"
    PAUSED = "paused"  # stands still; what is there stays


@dataclass(frozen=True, slots=True)
class Order:
    """The centre wants this IDC to hold `key`. `token` is the right to fetch it, renewed with every full set."""

    key: ContentKey
    size_bytes: int
    media_type: str
    token: str
    effort: Effort = Effort.ORDINARY


class Phase(enum.Enum):
    """How far one order is. FAILED is not final: the regional keeps trying, and `detail` says why it has to."""

    WAITING = "waiting"
    FETCHING = "fetching"
    HELD = "held"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class OrderState:
    """`from_centre_bytes` counts payload that crossed the WAN with this tenant's token, every attempt included, so that
    the sum over tenants is what the line carried.
    """

    key: ContentKey
    size_bytes: int
    held_bytes: int
    phase: Phase
    from_centre_bytes: int
    detail: str = ""
