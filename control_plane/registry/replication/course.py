"""One attempt at a task, as those who copy see it; and what attempts of one process share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from common.clock import Clock
from common.digest import Digest
from control_plane.registry.remote.client import RegistryClient
from control_plane.registry.replication.model import Rule, Task

_BURST_SECONDS = 0.5
_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """`changed`: something was copied or deleted."""

    detail: str
    changed: bool = True


class Throttle:
    """So many bytes a second, over all who share it."""

    def __init__(self, clock: Clock, bytes_per_second: int) -> None:
        self._clock = clock
        self._rate = bytes_per_second
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / self._rate
        if self._free_at > now:
            await self._clock.sleep(self._free_at - now)


class Whereabouts:
    """Blobs of other registries: where one is known to be, so that it is mounted instead of sent again; and who is
    sending it at this moment, so that images with a common base do not send that twice.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Digest], str] = OrderedDict()
        self._turns: dict[tuple[str, Digest], tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, endpoint_id: str, digest: Digest) -> AsyncIterator[None]:
        key = (endpoint_id, digest)
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._turns[key][1] - 1
            if users:
                self._turns[key] = lock, users
            else:
                del self._turns[key]

    def repository_of(self, endpoint_id: str, digest: Digest) -> str | None:
        return self._known.get((endpoint_id, digest))

    def note(self, endpoint_id: str, digest: Digest, repository: str) -> None:
        self._known[endpoint_id, digest] = repository
        self._known.move_to_end((endpoint_id, digest))
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


class Course:
    """`keep` writes the checkpoint to the task's row. `moved` counts bytes over all attempts."""

    def __init__(
        self,
        task: Task,
        rule: Rule,
        client: RegistryClient,
        throttle: Throttle | None,
        whereabouts: Whereabouts,
        keep: Callable[[Mapping[str, str]], Awaitable[None]],
    ) -> None:
        self.task = task
        self.rule = rule
        self.client = client
        self.whereabouts = whereabouts
        self.moved = task.bytes_done
        self._throttle = throttle
        self._keep = keep
        self._checkpoint = dict(task.checkpoint)

    async def paced(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """`pieces`, counted and no faster than the rule allows."""
        async for piece in pieces:
            if self._throttle is not None:
                await self._throttle.take(len(piece))
            self.moved += len(piece)
            yield piece

    def upload_of(self, digest: Digest) -> str | None:
        """One of ours that an earlier attempt began."""
        return self._checkpoint.get(str(digest))

    async def note_upload(self, digest: Digest, upload_id: str | None) -> None:
        if upload_id is None:
            self._checkpoint.pop(str(digest), None)
        else:
            self._checkpoint[str(digest)] = upload_id
        await self._keep(self._checkpoint)
