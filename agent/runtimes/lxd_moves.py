"""Instances that come to an LXD from another one, as its backups.

LXD takes a backup under any name and with all labels of the source, so what comes is first called by a name that only
this host and this move have, then gets our labels, and only then (by `rename`) the name that it is to have. A crash in
between leaves what is recognised by that first name and by nothing else: what others made is never removed.

Invariant: an instance that this LXD has already (two hosts may share one) is never taken in a second time: both would
have the same `volatile.uuid`, and one could be taken for the other.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection

from agent.runtimes.failures import EngineRefused
from agent.runtimes.lxd_calls import LxdCalls, Missing
from agent.runtimes.lxd_instances import LxdInstances
from agent.runtimes.lxd_shapes import USER, Instance, id_of, labels_in
from agent.runtimes.orders import LABEL_HOST, LABEL_INSTANCE, LABEL_MOVE
from common.errors import Failure

# Unpacking many gigabytes on a slow disk, after they have come.
_COPY_SECONDS = 24 * 3600.0


class LxdMoves:
    def __init__(self, calls: LxdCalls, instances: LxdInstances, host_id: str) -> None:
        self._calls = calls
        self._instances = instances
        self._host_id = host_id
        self._prefix = f"lsmove-{hashlib.sha256(host_id.encode()).hexdigest()[:8]}-"

    async def take_in(self, wanted: Instance, move_id: str, archive: AsyncIterator[bytes], pool: str) -> str:
        """The id. `wanted`: what would be made of the order here. Raises what `archive` raises, `EngineRefused`,
        `EngineAway`.
        """
        instance_id = labels_in(wanted)[LABEL_INSTANCE]
        name = self._name(move_id)
        for instance in await self._instances.everybody():
            labels = labels_in(instance)
            if labels.get(LABEL_INSTANCE) != instance_id:
                continue
            if (labels.get(LABEL_HOST), labels.get(LABEL_MOVE)) == (self._host_id, move_id):
                return id_of(instance)
            if instance["name"] == name:
                continue  # an earlier attempt did not get as far as our labels
            raise EngineRefused(
                f"this LXD has the instance already, as {instance['name']}",
                action="move it to a host that has an LXD of its own",
            )
        await self._remove(name)
        await self._import(name, pool, archive)
        # Its labels are ours from here on; of what the other host let it reach nothing is taken over.
        config = {**wanted["config"], f"{USER}{LABEL_MOVE}": move_id}
        await self._instances.reset(name, {**wanted, "config": config})
        return await self._instances.id_of_name(name)

    async def clear(self, keep: Callable[[], Collection[str]]) -> None:
        """See `RuntimeDriver.clear_taken`."""
        found = await self._instances.everybody()
        kept = {self._name(move_id) for move_id in keep()}
        for instance in found:
            name = str(instance["name"])
            if name.startswith(self._prefix) and name not in kept:
                await self._remove(name)

    async def _import(self, name: str, pool: str, archive: AsyncIterator[bytes]) -> None:
        watched = _Watched(archive)
        headers = {"Content-Type": "application/octet-stream", "X-LXD-name": name, "X-LXD-pool": pool}
        try:
            operation = await self._calls.post_bytes(
                "instances", data=watched.chunks(), headers=headers, seconds=_COPY_SECONDS
            )
            await self._calls.outcome(operation, _COPY_SECONDS)
        except Failure:
            if watched.failure is not None:
                raise watched.failure from None
            raise

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(Missing):
            await self._calls.send("DELETE", "instances", name)

    def _name(self, move_id: str) -> str:
        return f"{self._prefix}{move_id.replace('-', '')}"


class _Watched:
    """The HTTP client says of a body that broke off only that it did."""

    def __init__(self, archive: AsyncIterator[bytes]) -> None:
        self._archive = archive
        self.failure: Failure | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._archive:
                yield chunk
        except Failure as failure:
            self.failure = failure
            raise
