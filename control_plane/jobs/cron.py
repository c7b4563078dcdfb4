"""When a cron expression comes round next, in a time zone; pure.

Five fields, as in Debian's crontab(5): minute, hour, day of month, month, day of week. What the clocks skip in spring
runs right after, what they repeat in autumn runs once (cronsim does as Debian's cron does). UTC in, UTC out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from common.errors import Invalid

_LONGEST = 120
_FIELDS = 5


class CronInvalid(Invalid):
    code = "cron_invalid"


def next_time(expression: str, time_zone: str, after: datetime) -> datetime:
    """The first one later than `after`. Raises `CronInvalid`, also for what never comes (31 February)."""
    zone = _zone(time_zone)
    if len(expression) > _LONGEST or len(expression.split()) != _FIELDS:
        raise _refusal(expression)
    try:
        found = next(CronSim(expression, after.astimezone(zone)))
    except (CronSimError, StopIteration) as error:
        raise _refusal(expression) from error
    return found.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # what zoneinfo raises for names that are none, or directories
        raise CronInvalid(
            f"there is no time zone {name[:60]!r}", action="name one like UTC or Europe/Berlin"
        ) from error


def _refusal(expression: str) -> CronInvalid:
    return CronInvalid(
        f"{expression[:80]!r} is no time of a crontab, or never comes",
        action="give five fields: minute, hour, day of month, month, day of week, as in '30 2 * * 1-5'",
    )
