"""The master keys, in one file beside the data: made at first start, rotated by adding, read by their owner alone.

Invariant: a key that may have sealed something is never lost by us: the file is only ever replaced by one that has all
its keys, and of two processes that make the first file at once, both use the one that won. Replicas share the file.

File: one line a key, oldest first, `<key id> <64 hex digits>`; the id is the beginning of the key's SHA-256, so that a
damaged line is found before it seals anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from common.durable import sync_directory, write_file
from common.errors import Conflict, Invalid

RandomBytes = Callable[[int], bytes]

KEY_ID_BYTES = 8
_KEY_BYTES = 32
_FILE = "sealing.keys"


class KeyFileExposed(Invalid):
    """Others may read or write the master keys; whoever did has them now."""

    code = "key_file_exposed"


class KeyFileDamaged(Invalid):
    code = "key_file_damaged"


class KeyRing:
    """Keys by id. The last one given is the newest."""

    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        if not keys:
            raise KeyFileDamaged("the ring has no key", action="restore the key file from your backup")
        self._keys = dict(keys)
        newest = next(reversed(self._keys))
        self.newest = newest, self._keys[newest]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key_id: bytes) -> bytes | None:
        return self._keys.get(key_id)

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """A key for nothing but `purpose` from each key of the ring, the newest first (HMAC-SHA-256 as a KDF, NIST SP
        800-108).
        """
        return tuple(hmac.digest(key, purpose.encode(), hashlib.sha256) for key in reversed(self._keys.values()))

    @classmethod
    def load_or_create(cls, directory: Path, random_bytes: RandomBytes = secrets.token_bytes) -> KeyRing:
        """Blocking. The file is made, durably and mode 0600, if there is none.

        Raises `KeyFileExposed` if anybody but its owner may read it, `KeyFileDamaged` if it cannot be understood.
        """
        path = directory / _FILE
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _create(path, _line(random_bytes(_KEY_BYTES)))
        return cls(_parse(_read(path), path))

    @classmethod
    def rotate(cls, directory: Path, random_bytes: RandomBytes = secrets.token_bytes) -> KeyRing:
        """Blocking. Add a key that seals from the next start on; every older one keeps opening.

        Raises as `load_or_create`, and `Conflict` while another process rotates.
        """
        path = directory / _FILE
        with _exclusive(directory):
            text = _read(path)
            _parse(text, path)
            write_file(path, (text + _line(random_bytes(_KEY_BYTES))).encode())
        return cls.load_or_create(directory)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:KEY_ID_BYTES]


def _line(key: bytes) -> str:
    return f"{_key_id(key).hex()} {key.hex()}\n"


def _create(path: Path, text: str) -> None:
    # link() refuses to replace, which rename() does not: the first of two starting replicas wins, and both read it.
    candidate = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_file(candidate, text.encode())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)
    sync_directory(path.parent)


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise KeyFileDamaged(
            f"{path} cannot be read ({error.strerror})", action="restore the key file from your backup"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        # Asked of the open file, not of its name: what is checked is what is read.
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise KeyFileExposed(
                f"{path} has mode {mode:04o}: others may read the master keys",
                action=f"run `chmod 600 {path}`, and rotate the keys if anybody could have read it",
            )
        return file.read().decode("ascii", errors="replace")


def _parse(text: str, path: Path) -> dict[bytes, bytes]:
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            key_id, key = (bytes.fromhex(part) for part in line.split(" "))
        except ValueError:
            key_id, key = b"", b""
        if len(key) != _KEY_BYTES or key_id != _key_id(key):
            raise KeyFileDamaged(f"line {number} of {path} is not a key", action="restore the key file")
        keys[key_id] = key
    if not keys:
        raise KeyFileDamaged(f"{path} holds no key", action="restore the key file from your backup")
    return keys


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    with (directory / f".{_FILE}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another process is rotating the sealing keys", action="wait for it, then look") from None
        yield
