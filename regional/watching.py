"""Telling others what happened, so that no defect of theirs ends what they watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger()
T = TypeVar("T")


def careful(watch: Callable[[T], None]) -> Callable[[T], None]:
    """`watch`, whose exceptions are logged and go no further."""

    def watched(event: T) -> None:
        try:
            watch(event)
        except Exception:
            log.exception("who watches has a defect", told=str(event)[:500])

    return watched
