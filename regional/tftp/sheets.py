"""A stretch of a file as the DATA packets it becomes, headers and all: made once, sent to everybody who asks for it.

A sheet is at most 64 KiB: small enough that 2,000 transfers at different places hold 130 MB, and just what one system
call can send (UDP segmentation). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from regional.tftp.packet import ACK, DATA, HEADER_BYTES
from regional.tftp.transfer import wire_number

SHEET_BYTES = 64 * 1024 - 1024
# Who asks for blocks of 8 bytes must not keep the loop for 2 ms with each sheet.
_MOST_BLOCKS = 256
_ACKNOWLEDGED = ACK.to_bytes(2, "big")
_OPERATION = DATA.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is cut. `rollover`: see `terms.Limits`."""

    block_bytes: int
    rollover: int = 0

    @property
    def stride(self) -> int:
        return HEADER_BYTES + self.block_bytes

    @property
    def blocks(self) -> int:
        """Of every sheet but the last."""
        return max(1, min(_MOST_BLOCKS, SHEET_BYTES // self.stride))

    @property
    def raw_bytes(self) -> int:
        return self.blocks * self.block_bytes


@dataclass(frozen=True)
class Sheet:
    """Packets of the blocks `first` to `last`, `stride` bytes apart; `final`: the last one ends the transfer."""

    first: int
    last: int
    stride: int
    packets: memoryview
    final: bool

    def stretch(self, first: int, last: int) -> memoryview:
        return self.packets[(first - self.first) * self.stride : (last + 1 - self.first) * self.stride]

    @cached_property
    def steps(self) -> tuple[tuple[memoryview, ...], tuple[bytes | None, ...]]:
        """For lock-step: each packet, and the acknowledgement upon which the next of this sheet leaves; None after the
        last. Made for the first who needs it, as the sheet is.
        """
        count = self.last - self.first + 1
        packets = tuple(self.packets[place * self.stride : (place + 1) * self.stride] for place in range(count))
        answers = [_ACKNOWLEDGED + packet[2:HEADER_BYTES] for packet in packets[:-1]]
        return packets, (*answers, None)


def lay_out(raw: bytes | bytearray | memoryview, index: int, layout: Layout, *, final: bool) -> Sheet:
    """Sheet number `index` (from 0). A final sheet ends with a block that is not full, empty if need be (RFC 1350)."""
    size, first = layout.block_bytes, index * layout.blocks + 1
    count = len(raw) // size + 1 if final else layout.blocks
    view = memoryview(raw)
    parts: list[bytes | memoryview] = []
    for place in range(count):
        parts += (
            _OPERATION,
            wire_number(first + place, layout.rollover).to_bytes(2, "big"),
            view[place * size : (place + 1) * size],
        )
    return Sheet(first, first + count - 1, layout.stride, memoryview(b"".join(parts)), final)
