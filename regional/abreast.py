"""Several connections share one content's missing pieces, near the front of what is missing.

A WAN gives each connection its part of a crowded link, and one alone loses half of its rate with each lost packet.
Measured, two IDCs at one 100 Mbit/s source: the far one's single connection got 25 Mbit/s beside eight local ones.

Invariant: when one connection fails, the others finish the request they have and begin none: a byte that is on its way
is not thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

from common.errors import Failure

LINES = 8
# Small enough that the lines stay near each other, large enough that a request's round trip is lost in it.
REQUEST_BYTES = 4 << 20


def portions(runs: Iterable[range], piece_length: int) -> Iterator[range]:
    """The same pieces in order, no more in one than a request should carry."""
    most = max(REQUEST_BYTES // piece_length, 1)
    for run in runs:
        for first in range(run.start, run.stop, most):
            yield range(first, min(first + most, run.stop))


async def abreast(requests: Iterator[range], fetch: Callable[[range], Awaitable[int]]) -> int:
    """The sum of what `fetch` says of each request. Raises the first failure, after all that was begun has ended."""
    failures: list[Failure] = []
    results: list[int] = []

    async def line() -> None:
        while not failures and (request := next(requests, None)) is not None:
            try:
                results.append(await fetch(request))
            except Failure as failure:
                failures.append(failure)

    async with asyncio.TaskGroup() as group:
        for _ in range(LINES):
            group.create_task(line())
    if failures:
        raise failures[0]
    return sum(results)
