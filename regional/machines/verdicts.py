"""Why a machine does not boot, from what was seen of it; pure.

Invariant: nothing is said while the next step may still come: firmware waits for switches (STP) and for IPv6 (iPXE
13 s, measured), so each step has its own patience.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from regional.machines.model import Event


class Kind(StrEnum):
    TAKEN = "taken"  # the address of another DHCP server
    OFFERED = "offered"  # an address, to firmware that boots
    GIVEN = "given"  # the address and the name of its loader
    NO_ADDRESS = "no-address"
    NO_LOADER = "no-loader"
    LOADER = "loader"  # fetched whole
    BROKE = "broke"  # began and did not end
    MISSING = "missing"
    IPXE = "ipxe"  # runs, and was given its address
    SCRIPT = "script"  # was told to install
    KERNEL = "kernel"
    SETTLED = "settled"  # to its disk, told to wait, or its installer speaks: nothing must follow


_PATIENCE = {
    Kind.TAKEN: 30.0,
    Kind.OFFERED: 30.0,
    Kind.GIVEN: 30.0,
    Kind.NO_ADDRESS: 0.0,
    Kind.NO_LOADER: 0.0,
    Kind.LOADER: 90.0,
    Kind.BROKE: 10.0,
    Kind.MISSING: 20.0,
    Kind.IPXE: 45.0,
    Kind.SCRIPT: 120.0,
    Kind.KERNEL: 300.0,
}
_OF_ONE_TRY = 900.0


def verdict(events: Sequence[Event], now: float) -> str | None:
    """None: all is well, or it is too early to say."""
    steps = [each for each in events if each.kind and now - each.at < _OF_ONE_TRY]
    if not steps or steps[-1].kind == Kind.SETTLED:
        return None
    last = steps[-1]
    kind = Kind(last.kind)
    if now - last.at < _PATIENCE[kind]:
        return None
    return _said(kind, last, steps)


def _said(kind: Kind, last: Event, steps: Sequence[Event]) -> str:
    if kind is Kind.LOADER:
        return _never_ran(last, steps)
    return {
        Kind.TAKEN: f"it {last.detail}, and never came back: stop that server, or let it give the addresses and be a "
        "proxy beside it",
        Kind.OFFERED: "it was offered an address and never took it: another DHCP server was faster, or our answers do "
        "not reach it (relay, VLAN, spanning tree)",
        Kind.GIVEN: f"it asked for DHCP and never fetched its loader ({last.detail}): is TFTP (UDP 69) or HTTP of this "
        "regional reachable from its network?",
        Kind.NO_ADDRESS: "no address is free for it: enlarge the pool, or reserve one",
        Kind.NO_LOADER: "no loader is known for its firmware: name one for its architecture",
        Kind.BROKE: f"the transfer of its loader broke off ({last.detail}): is the block size larger than the path "
        "takes (VXLAN, PPPoE)? Lower `tftp_block_bytes`",
        Kind.MISSING: f"it asked for a file that is not there ({last.detail}): put it into the static root",
        Kind.IPXE: "iPXE runs and has an address, and never asked for its script: is the HTTP port of this regional "
        "reachable from its network?",
        Kind.SCRIPT: "it was told what to boot and never fetched the kernel: is the HTTP port reachable?",
        Kind.KERNEL: "its kernel was fetched and its installer never spoke: no driver for its network card in the "
        "initrd, another VLAN, or too little memory",
    }[kind]


def _never_ran(last: Event, steps: Sequence[Event]) -> str:
    tries = 0
    for each in reversed(steps):
        if each.kind in (Kind.IPXE, Kind.SCRIPT, Kind.KERNEL):
            break
        tries += each.kind == Kind.LOADER
    times = f"{tries} times" if tries > 1 else "once"
    return (
        f"its loader was fetched {times} and never ran ({last.detail}): does Secure Boot refuse an unsigned loader, or "
        "is it for another architecture?"
    )
