"""Structured logs on standard error: one event a line, all data in fields.

Field names are shared by all services: `service`, `idc`, `host`, `tenant`, `digest`, `instance`, `error`. Never a
secret, never a token.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure_logging(service: str, *, level: str = "info", style: Literal["console", "json"] = "console") -> None:
    """Call once, in a service's `__main__`, before anything logs."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        stream=sys.stderr, level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
