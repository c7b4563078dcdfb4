"""What was seen of each machine on its way to a system, in order, and why it stands still.

Whoever serves DHCP, TFTP and HTTP tells it; it neither waits nor raises, from any thread. Invariant: bounded, whatever
strangers send: the machines least recently seen leave, and of each the oldest events.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from common.clock import Clock
from regional.dhcp.events import DhcpSeen
from regional.machines.ledger import Told
from regional.machines.model import Event
from regional.machines.verdicts import Kind, verdict
from regional.tftp.events import TftpSeen

_MACHINES = 4000
_EVENTS = 200
# The same line again within this time says nothing new: a waiting machine asks every 15 s.
_REPEATED_SECONDS = 60.0
_DHCP_TROUBLE = {
    "no address free": Kind.NO_ADDRESS,
    "kept for known machines": Kind.NO_ADDRESS,
    "too many newcomers": Kind.NO_ADDRESS,
    "nothing to boot": Kind.NO_LOADER,
}
# Loaders look for many files that nobody needs to have.
_MAY_MISS = (".lst", "grub.cfg", "pxelinux.cfg", "autoexec.ipxe", "revocations", "shim_certificate", "BCD", ".c32")


class Timeline:
    """`noted` is told each new event with its MAC."""

    def __init__(self, clock: Clock, noted: Callable[[str, Event], None] = lambda _mac, _event: None) -> None:
        self._clock = clock
        self.noted = noted
        self._lock = threading.Lock()
        self._events: OrderedDict[str, deque[Event]] = OrderedDict()
        self._verdicts: dict[str, str] = {}
        self._macs: OrderedDict[str, str] = OrderedDict()
        self._leased: OrderedDict[str, str] = OrderedDict()
        self._lessees: OrderedDict[str, str] = OrderedDict()

    # ---- what is told ----

    def note(self, mac: str, stage: str, detail: str, *, trouble: bool = False, kind: str = "") -> None:
        event = Event(self._clock.now().timestamp(), stage, detail[:300], trouble, kind)
        with self._lock:
            events = self._events.setdefault(mac, deque(maxlen=_EVENTS))
            self._events.move_to_end(mac)
            if len(self._events) > _MACHINES:
                gone, _ = self._events.popitem(last=False)
                self._verdicts.pop(gone, None)
            if events and _repeats(events[-1], event):
                return
            events.append(event)
        self.noted(mac, event)

    def located(self, mac: str, address: str) -> None:
        """What comes from there is this machine's."""
        with self._lock:
            _remember(self._macs, address, mac)

    def told(self, told: Told) -> None:
        """By the ledger."""
        kind = Kind.SETTLED.value
        if told.stage == "script" and told.detail == "to install":
            kind = Kind.SCRIPT.value
        elif told.detail == "booting":
            kind = ""
        self.note(told.mac, told.stage, told.detail, trouble=told.trouble, kind=kind)

    def dhcp(self, seen: DhcpSeen) -> None:
        if seen.address is not None and seen.verdict == "ack":
            self.located(seen.mac, seen.address)
            with self._lock:
                _remember(self._leased, seen.mac, seen.address)
                _remember(self._lessees, seen.address, seen.mac)
        if not seen.boots:
            return
        where = f" at {seen.address}" if seen.address else ""
        detail = f"{seen.verdict}{where}" + (f": {seen.file}" if seen.file else "")
        if seen.server is not None:
            detail = f"took the offer of another server, {seen.server}"
        trouble = _DHCP_TROUBLE.get(seen.verdict)
        kind = trouble or _kind_of(seen)
        self.note(seen.mac, "dhcp", detail, trouble=trouble is not None, kind=kind)

    def tftp(self, seen: TftpSeen) -> None:
        mac = self.mac_at(seen.client)
        if mac is None or seen.outcome in ("began", "probed", "replaced"):
            return
        detail = f"{seen.file}: {seen.outcome}" + (f" after {seen.sent_bytes} bytes" if seen.sent_bytes else "")
        if seen.outcome == "completed":
            self.note(mac, "tftp", detail, kind=_fetched(seen.file))
        elif seen.outcome == "missing":
            wanted = not any(part in seen.file for part in _MAY_MISS)
            self.note(mac, "tftp", detail, trouble=wanted, kind=Kind.MISSING if wanted else "")
        else:
            self.note(mac, "tftp", detail, trouble=True, kind=Kind.BROKE)

    def http(self, client: str, path: str, status: int, sent: int) -> None:
        """Only of files that loaders ask for; requests of this package note themselves."""
        mac = self.mac_at(client)
        if mac is None or not path.startswith("/static/"):
            return
        detail = f"{path}: {status}" + (f", {sent} bytes" if sent else "")
        if status in (200, 206) and sent:
            self.note(mac, "http", detail, kind=_fetched(path))
        elif status >= 400:
            wanted = not any(part in path for part in _MAY_MISS)
            self.note(mac, "http", detail, trouble=wanted, kind=Kind.MISSING if wanted else "")

    # ---- what is asked ----

    def mac_at(self, address: str) -> str | None:
        return self._macs.get(address)

    def leased(self, mac: str) -> str:
        """The address that our DHCP gave it last; empty: none."""
        return self._leased.get(mac, "")

    def lessee(self, address: str) -> str | None:
        """The machine that our DHCP gave it to last, unless that has another one by now."""
        mac = self._lessees.get(address)
        return mac if mac is not None and self._leased.get(mac) == address else None

    def events(self, mac: str) -> list[Event]:
        with self._lock:
            return list(self._events.get(mac, ()))

    def macs(self) -> list[str]:
        """Those seen last come last."""
        with self._lock:
            return list(self._events)

    def verdict(self, mac: str) -> str | None:
        return verdict(self.events(mac), self._clock.now().timestamp())

    def judge(self) -> None:
        """Note the verdict on each machine that stands still, once; call it every few seconds."""
        with self._lock:
            macs = list(self._events)
        for mac in macs:
            said = self.verdict(mac)
            with self._lock:
                if said == self._verdicts.get(mac):
                    continue
                self._verdicts.pop(mac, None)
                if said is not None:
                    self._verdicts[mac] = said
            if said is not None:
                self.note(mac, "verdict", said, trouble=True)


def _remember(table: OrderedDict[str, str], name: str, value: str) -> None:
    table[name] = value
    table.move_to_end(name)
    if len(table) > _MACHINES:
        table.popitem(last=False)


def _repeats(last: Event, event: Event) -> bool:
    same = (last.stage, last.detail, last.kind) == (event.stage, event.detail, event.kind)
    return same and 0 <= event.at - last.at < _REPEATED_SECONDS


def _kind_of(seen: DhcpSeen) -> str:
    if seen.server is not None:
        return Kind.TAKEN
    if seen.verdict not in ("offer", "ack", "proxy offer", "proxy ack"):
        return ""
    if seen.verdict == "offer":
        return Kind.OFFERED
    return Kind.IPXE if seen.ipxe else Kind.GIVEN


def _fetched(path: str) -> str:
    name = path.rpartition("/")[2]
    if name.startswith(("vmlinuz", "linux", "kernel", "initrd", "initramfs")):
        return Kind.KERNEL
    return Kind.LOADER if name.endswith((".efi", ".kpxe", ".kkpxe", ".pxe", ".0", ".signed")) else ""
