"""What a client asked for and what it gets: RFC 2348 (blksize), RFC 2349 (timeout, tsize), RFC 7440 (windowsize).

Invariant (RFC 2347): only what was asked is answered, each number is no larger than asked and within the limits, and
what cannot be granted is left out, as if it had not been asked. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_BLOCK_BYTES = 512
_LEAST_BLOCK, _MOST_BLOCK = 8, 65464
_MOST_WINDOW = 65535
_MOST_TIMEOUT = 255
_FIRST_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`block_bytes`: what fits one frame of every link on the way, as firmware does not put fragments together: 1468 is
    Ethernet's 1500 less IPv4, UDP and TFTP headers; 1448 for IPv6. `rollover`: the block number after 65535, 0 or 1.
    """

    block_bytes: int = 1468
    window_blocks: int = 64
    rollover: int = 0
    patience_seconds: float = 30.0
    longest_seconds: float = 3600.0


@dataclass(frozen=True)
class ServerLimits:
    """`transfers` at once, `per_client` of them to one address. `single_port`: all from the listener's."""

    transfers: int = 2000
    per_client: int = 32
    single_port: bool = False
    terms: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Terms:
    """`answered`: the OACK's options; empty: data comes at once. `fixed_timeout`: the client set `timeout_seconds`."""

    block_bytes: int = DEFAULT_BLOCK_BYTES
    window_blocks: int = 1
    timeout_seconds: float = _FIRST_TIMEOUT
    fixed_timeout: bool = False
    answered: Mapping[str, str] = field(default_factory=dict)


def agree(options: Mapping[str, str], size: int | None, limits: Limits) -> Terms:
    """`size`: bytes on the wire; None: not known before the end."""
    answered: dict[str, str] = {}
    block, window, timeout = DEFAULT_BLOCK_BYTES, 1, _FIRST_TIMEOUT
    if (asked := _number(options.get("blksize"), _LEAST_BLOCK, _MOST_BLOCK)) is not None:
        block = min(asked, limits.block_bytes)
        answered["blksize"] = str(block)
    if (asked := _number(options.get("windowsize"), 1, _MOST_WINDOW)) is not None:
        window = min(asked, limits.window_blocks)
        answered["windowsize"] = str(window)
    if (asked := _number(options.get("timeout"), 1, _MOST_TIMEOUT)) is not None:
        timeout = float(asked)
        answered["timeout"] = str(asked)
    if size is not None and _number(options.get("tsize"), 0, 1 << 63) is not None:
        answered["tsize"] = str(size)
    return Terms(block, window, timeout, "timeout" in answered, answered)


def _number(text: str | None, least: int, most: int) -> int | None:
    # 19 digits hold 2**63; Python's int() would also take blanks, signs and other alphabets.
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    value = int(text)
    return value if least <= value <= most else None
