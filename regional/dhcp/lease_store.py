"""Leases on disk: a journal of lines, appended and fsynced by groups, written anew when most of it is history.

Invariant: when `append` returned, its leases survive kill -9 and power loss; when it raised, the next call first writes
the whole state anew, for after a failed fsync nobody knows what the file holds. A torn or damaged line is dropped at
the start, never the lines beside it. Blocking; threads take turns.

Each line: CRC-32 in hex, a blank, a JSON list [address, client, state, wall seconds, monotonic seconds, lease seconds,
circuit, boot]. Wall time is for another boot of the computer; within the same boot monotonic time counts, so that a
clock that was set does not end leases early or late.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from common.clock import Clock
from common.durable import write_file
from common.errors import Unavailable
from regional.dhcp.leases import Lease, State

log = structlog.get_logger()

# Rewriting is a pass over all leases: not before so many lines are history.
_LEAST_HISTORY = 20_000


class LeasesNotStored(Unavailable):
    code = "dhcp_leases_not_stored"


@dataclass(frozen=True, slots=True)
class Loaded:
    leases: Sequence[Lease]
    damaged: int


class LeaseStore:
    """`boot`: id of this boot of the computer; monotonic times compare only within one."""

    def __init__(self, path: Path, clock: Clock, boot: str) -> None:
        self._path = path
        self._clock = clock
        self._boot = boot
        self._lines: dict[int, bytes] = {}
        self._count = 0
        self._file: int | None = None
        self._turn = threading.Lock()

    def load(self) -> Loaded:
        """Raises `LeasesNotStored`: without what was granted before, nothing may be granted."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            data = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise LeasesNotStored(
                f"the leases in {self._path} cannot be read: {error.strerror}", action="check the disk and its rights"
            ) from error
        damaged = 0
        found: dict[int, Lease] = {}
        for line in data.split(b"\n"):
            if not line:
                continue
            lease = self._read(line)
            if lease is None:
                damaged += 1
                continue
            found[lease.address] = lease
            self._lines[lease.address] = line + b"\n"
        if damaged:
            log.warning("damaged lines in the leases, left out", path=str(self._path), lines=damaged)
        try:
            self._rewrite()
        except LeasesNotStored as failure:
            # A full disk: what else the regional does goes on, and the first lease tries again.
            log.error("the leases were read, and cannot be written yet", error=str(failure))
        # Of two addresses of one client the later counts.
        return Loaded(sorted(found.values(), key=lambda lease: lease.expires - lease.seconds), damaged)

    def append(self, leases: Iterable[Lease]) -> None:
        """All of them, with one fsync. Raises `LeasesNotStored`: then none of them counts."""
        with self._turn:
            self._append(leases)

    def _append(self, leases: Iterable[Lease]) -> None:
        written = {lease.address: self._write(lease) for lease in leases}
        before = {address: self._lines.get(address) for address in written}
        self._lines.update(written)
        try:
            if self._file is None or self._count > max(_LEAST_HISTORY, 4 * len(self._lines)):
                self._rewrite()
                return
            _write_all(self._file, b"".join(written.values()))
            os.fdatasync(self._file)
        except OSError as error:
            self._forget(before)
            raise LeasesNotStored(
                f"leases cannot be written to {self._path}: {error.strerror}", action="make room on that disk"
            ) from error
        except LeasesNotStored:
            self._forget(before)
            raise
        self._count += len(written)

    def close(self) -> None:
        with self._turn:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _forget(self, before: dict[int, bytes | None]) -> None:
        for address, line in before.items():
            if line is None:
                del self._lines[address]
            else:
                self._lines[address] = line
        self._close()

    def _rewrite(self) -> None:
        self._close()
        self._lines = {address: line for address, line in self._lines.items() if self._matters(line)}
        try:
            write_file(self._path, b"".join(self._lines.values()))
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise LeasesNotStored(
                f"leases cannot be written to {self._path}: {error.strerror}", action="make room on that disk"
            ) from error
        self._count = len(self._lines)

    def _matters(self, line: bytes) -> bool:
        """Leases that are over are kept for a day: a machine gets the address again that it had."""
        lease = self._read(line)
        return lease is not None and lease.expires > self._clock.monotonic() - 86400

    def _write(self, lease: Lease) -> bytes:
        clock = self._clock
        left = max(0.0, lease.expires - clock.monotonic())
        started = clock.now().timestamp() + left - lease.seconds
        fields = [
            lease.address, lease.client.hex(), lease.state.value, started, lease.expires - lease.seconds,
            lease.seconds, lease.circuit.hex(), self._boot,
        ]  # fmt: skip
        body = json.dumps(fields, separators=(",", ":")).encode()
        return b"%08x %b\n" % (zlib.crc32(body), body)

    def _read(self, line: bytes) -> Lease | None:
        check, _, body = line.rstrip(b"\n").partition(b" ")
        try:
            if int(check, 16) != zlib.crc32(body):
                return None
            address, client, state, wall, monotonic, seconds, circuit, boot = json.loads(body)
            gone = self._gone(boot, float(wall), float(monotonic))
            # A clock that went backwards must not make a lease longer than it was.
            expires = self._clock.monotonic() + float(seconds) - max(0.0, gone)
            return Lease(
                int(address), bytes.fromhex(client), State(state), expires, float(seconds), bytes.fromhex(circuit)
            )
        except (ValueError, TypeError):
            return None

    def _gone(self, boot: str, wall: float, monotonic: float) -> float:
        if boot == self._boot:
            return self._clock.monotonic() - monotonic
        return self._clock.now().timestamp() - wall


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
