"""Many who ask the same kind of question at the same moment are answered by one piece of work.

A fleet that comes back all at once asks the database a thousand times the same thing. Invariant: who asks while
nothing is under way is answered at once and alone; whoever asks meanwhile is in the next piece together. Where a step
is wished a crowd keeps it: while many ask, pieces begin up to so long apart, the longer the emptier they are. Each
question is answered by work that began after it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from common.errors import Failure

Q = TypeVar("Q")
A = TypeVar("A")

MOST_AT_ONCE = 200
# So many questions within so long are a crowd.
CROWD = 5
_CROWD_SECONDS = 0.5
# For what is asked when somebody attaches: 60 agents a second came in pieces of one, seven questions each, and kept a
# core busy: a piece costs a millisecond or more of it, however small it is.
STEP_SECONDS = 0.1


class Gathering(Generic[Q, A]):
    """`answer` is given the questions of one piece of work and answers each, in their order: a `Failure` among its
    answers is raised at the one who asked. What it raises itself is raised at all of them.

    `step_seconds`: what who asks may wait for company, and who asks one question after the other too.

    There is no task of its own: the first of those who wait does the work for all. If that one is cancelled, the next
    does it again, so `answer` must be harmless to repeat.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A | Failure]]],
        most: int = MOST_AT_ONCE,
        step_seconds: float = 0.0,
    ) -> None:
        self._answer = answer
        self._most = most
        self._step_seconds = step_seconds
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._turn = asyncio.Lock()
        self._asked_at: deque[float] = deque([-math.inf] * CROWD, maxlen=CROWD)
        self._began_at = -math.inf
        self._asked = asyncio.Event()

    async def ask(self, question: Q) -> A:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, future))
        self._asked_at.append(loop.time())
        self._asked.set()
        try:
            async with self._turn:
                while not future.done():
                    await self._keep_step(loop)
                    await self._answer_some()
        except BaseException:
            future.cancel()
            raise
        return await future

    async def _keep_step(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._asked_at[-1] - self._asked_at[0] < _CROWD_SECONDS:
            step = self._step_seconds * max(0.0, 1 - len(self._waiting) / self._most)
            if self._began_at + step <= loop.time():
                break
            self._asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._began_at + step):
                    await self._asked.wait()
        self._began_at = loop.time()

    async def _answer_some(self) -> None:
        asked: list[tuple[Q, asyncio.Future[A]]] = []
        while self._waiting and len(asked) < self._most:
            question, future = self._waiting.popleft()
            if not future.done():
                asked.append((question, future))
        try:
            answers = await self._answer([question for question, _ in asked])
        except Exception as error:
            for _, future in asked:
                _settle(future, error)
            return
        except BaseException:
            self._waiting.extendleft(reversed(asked))
            raise
        for (_, future), answer in zip(asked, answers, strict=True):
            _settle(future, answer)


def _settle(future: asyncio.Future[A], answer: A | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
