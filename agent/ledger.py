"""What this host counts and remembers about its work: where bytes came from, and which restarts were honoured.

Invariant: counters only grow while their content is assigned. They are written at most `flush_seconds` after they
changed, so kill -9 loses the last moments of counting and nothing else; honoured restarts are written at once, because
forgetting one restarts a container twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import astuple

from agent.journal import Journal, failed_write_is_logged
from agent.model import Provenance
from common.clock import Clock
from common.digest import Digest

ContentKey = tuple[str, Digest]
"""(tenant id, digest)."""

_RECORD = "ledger"


class Ledger:
    def __init__(self, journal: Journal, clock: Clock, *, flush_seconds: float = 2.0) -> None:
        self._journal = journal
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._provenance: dict[ContentKey, Provenance] = {}
        self._restarts: dict[str, int] = {}
        self._dirty = False
        self.totals = Provenance()
        """Of all contents since this process began."""

    async def load(self) -> None:
        document = await self._journal.load_document(_RECORD)
        for name, counts in document.get("provenance", {}).items():
            tenant_id, _, digest = name.rpartition(" ")
            self._provenance[tenant_id, Digest.parse(digest)] = Provenance(*counts)
        self._restarts = dict(document.get("restarts", {}))

    @property
    def restarts(self) -> Mapping[str, int]:
        """The newest restart nonce that each instance's container honoured."""
        return dict(self._restarts)

    def provenance(self, tenant_id: str, digest: Digest) -> Provenance:
        return self._provenance.get((tenant_id, digest), Provenance())

    def count(self, key: ContentKey, *, centre: int = 0, regional: int = 0, peers: int = 0, reused: int = 0) -> None:
        if centre or regional or peers or reused:
            self._provenance[key] = self.provenance(*key).plus(centre, regional, peers, reused)
            self.totals = self.totals.plus(centre, regional, peers, reused)
            self._dirty = True

    async def honour(self, instance_id: str, restart_nonce: int) -> None:
        """Durable on return."""
        if self._restarts.get(instance_id) != restart_nonce:
            self._restarts[instance_id] = restart_nonce
            await self.flush()

    def forget_all_but(self, instances: Collection[str], contents: Collection[ContentKey]) -> None:
        gone = [key for key in self._provenance if key not in contents]
        for key in gone:
            del self._provenance[key]
        absent = [instance_id for instance_id in self._restarts if instance_id not in instances]
        for instance_id in absent:
            del self._restarts[instance_id]
        self._dirty = self._dirty or bool(gone or absent)

    async def flush(self) -> None:
        self._dirty = False
        try:
            await self._journal.save_document(_RECORD, self._document)
        except BaseException:
            self._dirty = True
            raise

    async def flush_forever(self) -> None:
        while True:
            await self._clock.sleep(self._flush_seconds)
            if self._dirty:
                with failed_write_is_logged("counters"):
                    await self.flush()

    def _document(self) -> dict[str, object]:
        return {
            "provenance": {f"{tenant} {digest}": astuple(one) for (tenant, digest), one in self._provenance.items()},
            "restarts": self._restarts,
        }
