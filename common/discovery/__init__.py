"""Port: who is alive, and who leads.

Vocabulary: a *registration* holds one key with a value for as long as its process lives; it hangs on a *lease* of
`ttl_seconds` that is kept alive every third of that (with jitter), so a crash removes the key once the lease lapses. A
*watch* follows every key below a prefix. A *lock* has one *leader* at a time; candidates get it in the order in which
they asked. Keys are paths (common/discovery/keys.py), values are short bytes.

Duties under failure:
- Registering: entering tries for five seconds, and while the directory is away goes on in the background. A key that
  vanished (the lease lapsed, somebody deleted it) is written again. Whoever registers a key last holds it; the former
  holder sees `displaced` and leaves the key alone from then on. A graceful end replaces the value by `final_value`,
  which then stays, or removes the key if there is none; it takes two seconds at most and never fails.
- Watching: an outage, a restart or a compaction never ends a watch; missed changes are made up by comparing, so that
  whoever applies all changes holds the final state. Values in between may be skipped.
- Leading: `Leadership.lost` is set before anybody else can become leader (clocks need not agree, only tick alike), so
  a leader must stop its duties when it is set; `term` grows with each leader, to be compared where that is not enough.
- `list` answers within ten seconds or raises `Unavailable`.

Wrong credentials raise `Unauthenticated` or `Denied` at once. The proof is tests/conformance/discovery.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Change:
    """`value` None: the key is gone."""

    key: str
    value: bytes | None


class Registration(Protocol):
    """One key held by this process."""

    @property
    def held(self) -> bool:
        """Whether the directory has our key, as far as we know."""
        ...

    @property
    def displaced(self) -> asyncio.Event:
        """Set when another process has taken the key: two of them run under one name."""
        ...

    async def update(self, value: bytes) -> None:
        """Written when this returns. Raises `Unavailable`, and then writes it in the background once it can; raises
        `Stale` if the key was taken by another process.
        """
        ...


class Leadership(Protocol):
    @property
    def term(self) -> int: ...

    @property
    def lost(self) -> asyncio.Event: ...


class ServiceRegistry(Protocol):
    def register(
        self, key: str, value: bytes, ttl_seconds: float, *, final_value: bytes | None = None
    ) -> AbstractAsyncContextManager[Registration]: ...

    async def list(self, prefix: str) -> Mapping[str, bytes]: ...

    def watch(self, prefix: str) -> AsyncGenerator[Change, None]:
        """First every key that exists, then every change, until the iterator is closed (`contextlib.aclosing`)."""
        ...

    def lock(self, name: str, ttl_seconds: float) -> AbstractAsyncContextManager[Leadership]:
        """Entering waits, through outages too, until this process leads; leaving gives the lock up."""
        ...

    async def close(self) -> None: ...
