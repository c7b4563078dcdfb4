"""What hosts and regionals report of contents, from the wire into our words; pure.

Reports come from outside: one that names no proper digest, or holds more than there is, is none at all; texts are cut
and counters bounded to what a column takes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from common.digest import Digest, DigestInvalid
from common.identifiers import is_id
from control_plane.swarm.model import HostContent, Offence, OffenceKind, RegionalContent
from proto.agent.v1 import agent_pb2
from proto.regional.v1 import regional_pb2

Key = tuple[str, str]  # (tenant id, digest)
Held = TypeVar("Held", HostContent, RegionalContent)

_MAXIMUM_COUNT = (1 << 63) - 1
_MAXIMUM_DETAIL = 2000
_MAXIMUM_ID = 36
_MAXIMUM_SOURCE = 255
_ACCUSED = re.compile(r"(host|regional)/[0-9a-zA-Z-]{1,36}")
_OFFENCES = {
    agent_pb2.OFFENCE_KIND_FALSE_BLOCK: OffenceKind.FALSE_BLOCK,
    agent_pb2.OFFENCE_KIND_FALSE_METAINFO: OffenceKind.FALSE_METAINFO,
}
_PHASES = {
    regional_pb2.ORDER_PHASE_WAITING: "waiting",
    regional_pb2.ORDER_PHASE_FETCHING: "fetching",
    regional_pb2.ORDER_PHASE_HELD: "held",
    regional_pb2.ORDER_PHASE_FAILED: "failed",
}


def host_content(host_id: str, report: agent_pb2.ContentReport) -> HostContent | None:
    digest = _digest(report.digest)
    if digest is None or not _plausible(report.tenant_id, report.size_bytes, report.held_bytes):
        return None
    return HostContent(
        host_id=host_id,
        tenant_id=report.tenant_id,
        digest=digest,
        size_bytes=report.size_bytes,
        held_bytes=report.held_bytes,
        verified=report.verified,
        from_centre_bytes=_count(report.provenance.from_centre_bytes),
        from_regional_bytes=_count(report.provenance.from_regional_bytes),
        from_peers_bytes=_count(report.provenance.from_peers_bytes),
        reused_bytes=_count(report.provenance.reused_bytes),
        detail=_text(report.detail),
    )


def offence(host_id: str, report: agent_pb2.Offence, now: datetime) -> Offence | None:
    """None if it is not well formed. A time that is still to come is now."""
    digest, kind = _digest(report.digest), _OFFENCES.get(report.kind)
    if digest is None or kind is None or not is_id(report.offence_id) or not _plausible(report.tenant_id, 0, 0):
        return None
    if report.accused and not _ACCUSED.fullmatch(report.accused):
        return None
    return Offence(
        id=report.offence_id,
        accuser_id=host_id,
        tenant_id=report.tenant_id,
        digest=digest,
        kind=kind,
        source=_text(report.source)[:_MAXIMUM_SOURCE],
        accused=report.accused,
        occurred_at=min(datetime.fromtimestamp(min(report.occurred_at_ms / 1000, now.timestamp()), now.tzinfo), now),
    )


def regional_content(regional_id: str, report: regional_pb2.OrderReport) -> RegionalContent | None:
    digest, phase = _digest(report.digest), _PHASES.get(report.phase)
    if digest is None or phase is None or not _plausible(report.tenant_id, report.size_bytes, report.held_bytes):
        return None
    return RegionalContent(
        regional_id=regional_id,
        tenant_id=report.tenant_id,
        digest=digest,
        size_bytes=report.size_bytes,
        held_bytes=report.held_bytes,
        phase=phase,
        from_centre_bytes=_count(report.from_centre_bytes),
        detail=_text(report.detail),
    )


@dataclass(frozen=True, slots=True)
class News(Generic[Held]):
    """What is to be written, and the keys of what is to be forgotten."""

    kept: Sequence[Held]
    dropped: Sequence[Key]

    def __bool__(self) -> bool:
        return bool(self.kept or self.dropped)


def key_of(content: HostContent | RegionalContent) -> Key:
    return content.tenant_id, str(content.digest)


def news(said: Mapping[Key, Held], known: Mapping[Key, Held], wanted: Collection[Key]) -> News[Held]:
    """Only what differs from what is known. A content that nobody wants is kept up to date while some of it is left,
    then forgotten; one that nobody wants and nobody knew is not news.
    """
    changed = {key: one for key, one in said.items() if one != known.get(key) and (key in known or key in wanted)}
    dropped = [key for key, one in changed.items() if one.held_bytes == 0 and key not in wanted]
    return News([one for key, one in changed.items() if key not in dropped], dropped)


def spare(said: Mapping[Key, RegionalContent], known: Collection[Key], wanted: Collection[Key]) -> list[Key]:
    """New contents that are held whole though nobody wants them."""
    return [
        key
        for key, one in said.items()
        if key not in known and key not in wanted and one.phase == "held" and 0 < one.held_bytes == one.size_bytes
    ]


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None


def _plausible(tenant_id: str, size_bytes: int, held_bytes: int) -> bool:
    return 0 < len(tenant_id) <= _MAXIMUM_ID and "\0" not in tenant_id and held_bytes <= size_bytes <= _MAXIMUM_COUNT


def _count(number: int) -> int:
    return min(number, _MAXIMUM_COUNT)


def _text(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_MAXIMUM_DETAIL]
