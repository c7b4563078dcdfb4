"""Which version of the protocol two ends speak, said in Hello and Welcome, and what becomes of words of a newer one.

A field, a message or a value of an enum that is added changes no version: whoever does not know it passes over it
(proto/README.md). The version grows when an older end would do something wrong, and not merely nothing.

Invariant: an end talks to its own version, the one before and the one after, so that a fleet is updated host by host in
either order; anything further apart is refused before anything else is said.
"""

from __future__ import annotations

from typing import Any

import structlog
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from common.errors import Conflict

log = structlog.get_logger()

# 1: everybody who does not say. 2: what a host is and its commands may be said while it is attached.
VERSION = 2
_UNSAID = 1
_TOLERATED = 1


class ProtocolUnsupported(Conflict):
    """Clients know this code (common/patience.py): trying again soon is pointless, one end must be updated."""

    code = "protocol_unsupported"


def require_spoken(said: int, who: str, ours: int = VERSION) -> int:
    """What the other end, `who` to people, speaks. `said` 0: it does not say. Raises `ProtocolUnsupported`."""
    theirs = said or _UNSAID
    if abs(theirs - ours) > _TOLERATED:
        older = who if theirs < ours else "this end"
        raise ProtocolUnsupported(
            f"{who} speaks version {theirs} of the protocol, this end version {ours}",
            action=f"update {older}: versions that follow each other understand each other, others do not",
            theirs=theirs,
            ours=ours,
        )
    return theirs


class NotUnderstood:
    """Messages of one peer, `who`, whose body this version does not know: passed over, counted, and logged whenever
    the count doubles, so that a chatty newer peer fills no disk.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self.count = 0

    def note(self, message: Message) -> None:
        self.count += 1
        if self.count & (self.count - 1) == 0:
            fields: Any = UnknownFieldSet(message)  # its stub forgets that it can be iterated
            log.warning(
                "message not understood",
                sender=self._who,
                fields=sorted({field.field_number for field in fields}),
                count=self.count,
                action="nothing is lost; update this service to use what it offers",
            )
