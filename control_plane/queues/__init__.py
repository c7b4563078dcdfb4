"""Port: ids of jobs that are ready to run. The job itself is a row; the queue only says "look at this one now".

Duties: `push` of an id that is already waiting is harmless. `pop` waits at most `timeout_seconds` and hands each id to
one caller; an id that was handed out is gone from the queue, whatever becomes of the caller (the sweep of
`control_plane.jobs` enqueues stale rows again). Losing the whole queue therefore loses nothing. A queue that is gone
or hangs raises `Unavailable`: `push` within one second, `pop` within one second more than its timeout. The proof is
tests/conformance/queue.py.
"""

from __future__ import annotations

from typing import Protocol


class Queue(Protocol):
    async def push(self, job_id: str) -> None: ...

    async def pop(self, timeout_seconds: float) -> str | None: ...

    async def close(self) -> None: ...
