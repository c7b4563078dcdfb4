"""What is kept of an LXD instance: snapshots beside it, and exports, which are backups that LXD writes first.

LXD writes a backup to its own disk before anybody may read it, so an export needs that much room for as long as it
lasts. Backups of ours are named `longshore-...` and removed however the export ends; what a crash left is removed by
the next export of the same instance.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.runtimes.failures import EngineRefused, SnapshotUnknown
from agent.runtimes.lxd_calls import AlreadyThere, LxdCalls, Missing
from agent.runtimes.orders import Snapshot

_BACKUP = "longshore-"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
# Writing a backup of many gigabytes, or copying as much on a pool that has no snapshots of its own.
_COPY_SECONDS = 3600.0


class LxdArchives:
    def __init__(self, calls: LxdCalls) -> None:
        self._calls = calls
        self._writing: set[str] = set()

    async def snapshot(self, instance: str, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise EngineRefused(f"{name[:80]!r} is no name of a snapshot", action="use letters, digits, dots, hyphens")
        body = {"name": name, "stateful": False}
        with contextlib.suppress(AlreadyThere):
            await self._calls.send("POST", "instances", instance, "snapshots", body=body, seconds=_COPY_SECONDS)

    async def snapshots(self, instance: str) -> Sequence[Snapshot]:
        found = [_snapshot_of(one) for one in await self._calls.get("instances", instance, "snapshots", recursion=1)]
        return sorted(found, key=lambda one: (one.created_ns, one.name))

    async def restore(self, instance: str, name: str) -> None:
        """A snapshot brings back the configuration of its time too, and one that came from another host that host's."""
        if name not in {one.name for one in await self.snapshots(instance)}:
            raise SnapshotUnknown(f"there is no snapshot {name[:80]!r}", action="list the snapshots of the instance")
        await self._calls.send("PUT", "instances", instance, body={"restore": name}, seconds=_COPY_SECONDS)

    async def delete_snapshot(self, instance: str, name: str) -> None:
        with contextlib.suppress(Missing):
            await self._calls.send("DELETE", "instances", instance, "snapshots", name, seconds=_COPY_SECONDS)

    @contextlib.asynccontextmanager
    async def export(self, instance: str, *, with_snapshots: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._remove_leftovers(instance)
        backup = f"{_BACKUP}{uuid.uuid4().hex}"
        body: dict[str, Any] = {"name": backup, "instance_only": not with_snapshots}
        body |= {"optimized_storage": False, "compression_algorithm": "none"}
        self._writing.add(backup)
        try:
            await self._calls.send("POST", "instances", instance, "backups", body=body, seconds=_COPY_SECONDS)
            async with self._calls.stream("instances", instance, "backups", backup, "export") as chunks:
                yield chunks
        finally:
            self._writing.discard(backup)
            with contextlib.suppress(Missing):
                await self._calls.send("DELETE", "instances", instance, "backups", backup)

    async def _remove_leftovers(self, instance: str) -> None:
        for path in await self._calls.get("instances", instance, "backups"):
            name = str(path).rpartition("/")[2]
            if name.startswith(_BACKUP) and name not in self._writing:
                with contextlib.suppress(Missing):
                    await self._calls.send("DELETE", "instances", instance, "backups", name)


def _snapshot_of(shown: Mapping[str, Any]) -> Snapshot:
    created = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(shown["created_at"])))
    return Snapshot(
        name=str(shown["name"]).rpartition("/")[2],
        created_ns=int(created.timestamp() * 1_000_000) * 1000,
        size_bytes=max(0, int(shown.get("size") or 0)),
    )
