"""Letting go of the beginning of the trail, and anchoring its end.

Invariant: nothing is dropped that was not exported by the one who asks (the SHA-256 of the export proves it), that is
younger than `keep`, or that does not verify. The checkpoint and the entry that tells of it commit first; the rows go
afterwards in small steps, and a crash between leaves rows that nobody counts on and the next step drops.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Conflict, Invalid
from control_plane.audit import store
from control_plane.audit.chain import GENESIS, follow, line_of
from control_plane.audit.model import Act, Anchor, Checkpoint, Link, Operator
from control_plane.audit.seals import Seals
from control_plane.audit.service import AuditTrail
from control_plane.database import Database

log = structlog.get_logger()
_STEP = 1000


class PruneTooYoung(Conflict):
    code = "audit_too_young"


class ExportDiffers(Conflict):
    """What was exported is not what would be dropped."""

    code = "audit_export_differs"


class ChainBroken(Conflict):
    """The stretch does not verify: it is evidence now."""

    code = "audit_chain_broken"


class Retention:
    def __init__(self, database: Database, trail: AuditTrail, seals: Seals, clock: Clock, keep: timedelta) -> None:
        self._database = database
        self._trail = trail
        self._seals = seals
        self._clock = clock
        self._keep = keep

    async def prune(self, by: Operator, through: int, export: str) -> Checkpoint:
        """Let go of every entry up to the number `through`. `export` is the SHA-256, in hex, of all their lines.

        Raises `Invalid`, `PruneTooYoung`, `ExportDiffers`, `ChainBroken`.
        """
        last = await self._checked(through, export)
        made = self._seals.checkpoint(last, export, self._clock.now(), by.name)
        async with self._database.transaction() as unit:
            if not await store.add_checkpoint(unit.connection, made):
                raise Invalid(f"entries up to {through} were pruned already", action="nothing is left to do")
            details = {"through": through, "export": export}
            self._trail.record(unit, Act("audit.pruned", by, details=details))
        log.info("audit.pruned", through=through, export=export, by=by.name)
        await self.drop_pruned()
        return made

    async def drop_pruned(self) -> int:
        """Delete what checkpoints have let go; returns how many rows. Harmless to repeat."""
        async with self._database.reading() as connection:
            checkpoint = await store.last_checkpoint(connection)
        if checkpoint is None:
            return 0
        dropped = 0
        while True:
            async with self._database.transaction() as unit:
                count = await store.drop(unit.connection, checkpoint.link.sequence, _STEP)
            dropped += count
            if not count:
                return dropped

    async def anchor(self) -> Anchor | None:
        """Seal the present head and tell the log of it; None if nothing was added since the last one."""
        async with self._database.reading() as connection:
            head = await store.find_head(connection)
        if head == GENESIS:
            return None
        anchor = self._seals.anchor(head, self._clock.now())
        async with self._database.transaction() as unit:
            if not await store.add_anchor(unit.connection, anchor):
                return None
        # The log leaves the machine: there the chain's end is known to those who can alter neither.
        log.info("audit.anchor", sequence=head.sequence, hash=head.hash)
        return anchor

    async def _checked(self, through: int, export: str) -> Link:
        digest = hashlib.sha256()
        async with self._database.reading() as connection:
            checkpoint = await store.last_checkpoint(connection)
        at = checkpoint.link if checkpoint is not None else GENESIS
        if through <= at.sequence:
            raise Invalid(f"entries up to {at.sequence} were pruned already", action="name a later entry")
        youngest = self._clock.now() - self._keep
        while at.sequence < through:
            async with self._database.reading() as connection:
                found = await store.stretch(connection, at.sequence, min(_STEP, through - at.sequence))
            if not found:
                raise Invalid(f"there is no entry {through}", action=f"the last one is {at.sequence}")
            verdict = follow(at, found, {})
            if not verdict.whole:
                raise ChainBroken(
                    f"entry {verdict.broken} does not verify: {verdict.why}", action="keep the trail and find out why"
                )
            young = next((each for each in found if each.entry.occurred_at > youngest), None)
            if young is not None:
                raise PruneTooYoung(
                    f"entry {young.sequence} is younger than {self._keep.days} days",
                    action="prune up to an earlier one; the setting is audit.keep_days",
                )
            for each in found:
                digest.update(line_of(each))
            at = verdict.last
        if digest.hexdigest() != export.lower():
            raise ExportDiffers(
                f"the export does not hold the entries up to {through}",
                action="export them again, whole and without filters, and send the SHA-256 of that file",
            )
        return at
