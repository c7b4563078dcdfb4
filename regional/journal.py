"""What must survive a restart while the centre is away: the orders, and what the last Welcome said.

Invariant: a generation is applied only after it is durable here. Without a journal a regional starts empty and learns
everything in its next round of attachment, so a file that cannot be read is set aside, not fatal. Blocking.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from common.durable import write_file
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2

log = structlog.get_logger()
M = TypeVar("M", bound=Message)


class Journal:
    """`directory` exists. Mode 0600: orders carry tokens."""

    def __init__(self, directory: Path) -> None:
        self._orders = directory / "orders.pb"
        self._welcome = directory / "welcome.pb"
        self._limits = directory / "limits.pb"

    def save_orders(self, orders: regional_pb2.OrderSet) -> None:
        write_file(self._orders, orders.SerializeToString())

    def load_orders(self) -> regional_pb2.OrderSet | None:
        return _load(self._orders, regional_pb2.OrderSet())

    def save_welcome(self, welcome: regional_pb2.Welcome) -> None:
        """It carries the keys that verify content tokens."""
        write_file(self._welcome, welcome.SerializeToString())

    def save_limits(self, limits: content_pb2.Limits) -> None:
        write_file(self._limits, limits.SerializeToString())

    def load_limits(self) -> content_pb2.Limits | None:
        return _load(self._limits, content_pb2.Limits())

    def load_welcome(self) -> regional_pb2.Welcome | None:
        return _load(self._welcome, regional_pb2.Welcome())


def _load(path: Path, into: M) -> M | None:
    try:
        into.ParseFromString(path.read_bytes())
    except FileNotFoundError:
        return None
    except (DecodeError, OSError) as error:
        log.warning("journal not readable, set aside", path=str(path), error=str(error))
        if path.exists():
            path.replace(path.with_suffix(".damaged"))
        return None
    return into
