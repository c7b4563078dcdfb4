"""When keys were last used: recorded at most once a minute and key, whatever the traffic, and never at the cost of a
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.errors import Unavailable
from control_plane.database import Database, UnitOfWork

log = structlog.get_logger()

_RECORDED_EVERY = timedelta(minutes=1)
# Bounds what this process remembers of recorded uses; forgetting costs one conditional update.
_REMEMBERED = 10_000
# Writes the first moment for a key, unless one after the second is recorded already (by another replica).
Touch = Callable[[UnitOfWork, str, datetime, datetime], Awaitable[None]]


class KeyUses:
    def __init__(self, database: Database, clock: Clock, touch: Touch) -> None:
        self._database = database
        self._clock = clock
        self._touch = touch
        self._recorded: dict[str, float] = {}

    async def record(self, key_id: str) -> None:
        now = self._clock.monotonic()
        if now - self._recorded.get(key_id, float("-inf")) < _RECORDED_EVERY.total_seconds():
            return
        if len(self._recorded) >= _REMEMBERED:
            self._recorded.clear()
        self._recorded[key_id] = now
        moment = self._clock.now()
        try:
            async with self._database.transaction() as unit:
                await self._touch(unit, key_id, moment, moment - _RECORDED_EVERY)
        except Unavailable as error:
            log.warning("use of a key not recorded", key=key_id, error=str(error))
