"""What must survive a restart, one small file a record: desired state, endpoints, unsent reports, counters.

Invariant: a record is replaced as a whole and durably, and one that is damaged is never believed: every file begins
with the sha256 of the rest. A damaged record is set aside for people to look at, and counts as none; the agent then
starts without it and the control plane's next full set fills it again.

Records carry content tokens, so their files are readable by their owner alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from common.durable import write_file

log = structlog.get_logger()
M = TypeVar("M", bound=Message)
_HASH_LENGTH = 64


@contextlib.contextmanager
def failed_write_is_logged(what: str) -> Iterator[None]:
    """For periodic writes: a full disk must not end the process, the next round tries again."""
    try:
        yield
    except OSError as error:
        log.warning("journal not written", what=what, error=str(error))


class Disk(Protocol):
    """Where records lie. Blocking: called in a thread."""

    def read(self, path: Path) -> bytes:
        """Raises `FileNotFoundError`."""
        ...

    def write(self, path: Path, data: bytes) -> None:
        """As a whole and durably; readable by the owner alone."""
        ...

    def move(self, path: Path, to: Path) -> None: ...


class LocalDisk:
    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, data)

    def move(self, path: Path, to: Path) -> None:
        path.replace(to)


class Journal:
    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self._directory = directory
        self._disk = disk or LocalDisk()
        self._locks: dict[str, asyncio.Lock] = {}

    async def save(self, record: str, payload: Callable[[], bytes]) -> None:
        """Durable on return. `payload` is called when it is this caller's turn to write, so the newest state wins
        whatever the order of the callers.
        """
        async with self._locks.setdefault(record, asyncio.Lock()):
            await asyncio.to_thread(self._write, record, payload())

    async def load(self, record: str) -> bytes | None:
        """None if there is none, or none that can be believed."""
        return await asyncio.to_thread(self._read, record)

    async def save_message(self, record: str, message: Message) -> None:
        await self.save(record, message.SerializeToString)

    async def load_message(self, record: str, into: M) -> M | None:
        payload = await self.load(record)
        if payload is None:
            return None
        try:
            into.ParseFromString(payload)
        except DecodeError as error:
            await asyncio.to_thread(self._set_aside, record, str(error))
            return None
        return into

    async def save_document(self, record: str, document: Callable[[], Mapping[str, Any]]) -> None:
        await self.save(record, lambda: json.dumps(document()).encode())

    async def load_document(self, record: str) -> dict[str, Any]:
        payload = await self.load(record)
        found = json.loads(payload) if payload is not None else {}
        return found if isinstance(found, dict) else {}

    def _path(self, record: str) -> Path:
        return self._directory / f"{record}.journal"

    def _write(self, record: str, payload: bytes) -> None:
        self._disk.write(self._path(record), hashlib.sha256(payload).hexdigest().encode() + payload)

    def _read(self, record: str) -> bytes | None:
        try:
            data = self._disk.read(self._path(record))
        except FileNotFoundError:
            return None
        payload = data[_HASH_LENGTH:]
        if data[:_HASH_LENGTH] != hashlib.sha256(payload).hexdigest().encode():
            self._set_aside(record, "its checksum does not match")
            return None
        return payload

    def _set_aside(self, record: str, reason: str) -> None:
        aside = self._path(record).with_suffix(".damaged")
        self._disk.move(self._path(record), aside)
        log.error(
            "journal damaged, set aside",
            record=record,
            path=str(aside),
            error=reason,
            action="the control plane sends it again; check the disk",
        )
