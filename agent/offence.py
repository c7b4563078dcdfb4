"""That somebody sent what nobody may send, as this host reports it; pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from common.digest import Digest


class OffenceKind(enum.Enum):
    FALSE_BLOCK = "false block"
    FALSE_METAINFO = "false metainfo"


@dataclass(frozen=True, slots=True)
class Offence:
    """`source`: address:port of a peer, or the base URL of a regional or the centre. `accused`: `host/<id>`, where the
    tracker knew whose address that is; else empty.
    """

    id: str
    kind: OffenceKind
    tenant_id: str
    digest: Digest
    source: str
    accused: str
    occurred_at_ms: int
