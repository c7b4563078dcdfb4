"""The tree of deliberate failures, one class for each thing a client can do about it.

    Failure
    ├── Invalid            the request is wrong; mend it
    ├── Unauthenticated    say who you are
    ├── Denied             you may not; ask for the right
    ├── NotFound           there is no such thing (or none you may see)
    ├── Conflict           it exists already, or is in a state that forbids this
    ├── Stale              you acted on an old picture; read again
    ├── TooLarge           over a fixed limit
    ├── QuotaExceeded      over the tenant's limit
    ├── RateLimited        too often; wait `retry_after_seconds`
    ├── Unavailable        a part is away; try again after `retry_after_seconds`
    └── Internal           our fault; report it

Domains subclass (`BlobUnknown(NotFound)`) and know no transport. Each transport holds exactly one table from these
classes to its own codes, and a test walks every subclass and demands a row. The class, never the text, says whether
to retry.
"""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """What happened (`detail`), what to do next (`action`), and the facts as data (`facts`).

    `code` is stable and is what programs compare; it is inherited unless a subclass states its own.
    """

    code: ClassVar[str] = "failure"

    def __init__(self, detail: str, *, action: str = "", **facts: str | int | float | bool | None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.action = action
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.detail} ({self.action})" if self.action else self.detail


class Invalid(Failure):
    code = "invalid"


class Unauthenticated(Failure):
    code = "unauthenticated"


class Denied(Failure):
    code = "denied"


class NotFound(Failure):
    code = "not_found"


class Conflict(Failure):
    code = "conflict"


class Stale(Failure):
    code = "stale"


class TooLarge(Failure):
    code = "too_large"


class QuotaExceeded(Failure):
    code = "quota_exceeded"


class _Delayed(Failure):
    def __init__(
        self,
        detail: str,
        *,
        action: str = "",
        retry_after_seconds: float = 1.0,
        **facts: str | int | float | bool | None,
    ) -> None:
        super().__init__(detail, action=action, **facts)
        self.retry_after_seconds = retry_after_seconds


class RateLimited(_Delayed):
    code = "rate_limited"


class Unavailable(_Delayed):
    code = "unavailable"


class Internal(Failure):
    code = "internal"
