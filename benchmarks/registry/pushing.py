"""Pushing over plain sockets: as little client as can be, for it shares the two cores with the server."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.registry.servers import REPOSITORY, Target

_PIECE = 1 << 20


@dataclass(frozen=True)
class Source:
    """`size` bytes that are unlike those of every other `seed`: a counter in each MiB of one random MiB."""

    seed: bytes
    size: int

    def pieces(self) -> Iterator[bytes]:
        noise = hashlib.shake_256(self.seed).digest(_PIECE)
        for number in range(-(-self.size // _PIECE)):
            piece = number.to_bytes(8, "big") + noise[8:]
            yield piece[: min(_PIECE, self.size - number * _PIECE)]

    def digest(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class Timing:
    seconds: float
    cpu_seconds: float


class PushFailed(Exception):
    """The server refused what it should take."""


class Pusher:
    """One client with one connection."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=120)
        self._connection.connect()

    def close(self) -> None:
        self._connection.close()

    def start(self) -> str:
        """Where the upload goes on: path and query."""
        answer = self._ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/", 202)
        where = urlsplit(answer)
        return where.path + (f"?{where.query}" if where.query else "")

    def append(self, location: str, body: Iterator[bytes], size: int) -> str:
        """Where it goes on from there."""
        where = urlsplit(self._ask("PATCH", location, 202, body, size))
        return where.path + (f"?{where.query}" if where.query else "")

    def finish(self, location: str, digest: str, body: Iterator[bytes], size: int) -> None:
        joint = "&" if "?" in location else "?"
        self._ask("PUT", f"{location}{joint}digest={digest}", 201, body, size)

    def blob(self, source: Source, digest: str) -> None:
        self.finish(self.start(), digest, source.pieces(), source.size)

    def manifest(self, tag: str, payload: bytes) -> str:
        """Its digest."""
        self._ask(
            "PUT",
            f"/v2/{REPOSITORY}/manifests/{tag}",
            201,
            iter([payload]),
            len(payload),
            {"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        )
        return f"sha256:{hashlib.sha256(payload).hexdigest()}"

    def _ask(
        self,
        method: str,
        path: str,
        expected: int,
        body: Iterator[bytes] | None = None,
        size: int = 0,
        headers: dict[str, str] | None = None,
    ) -> str:
        self._connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {**self._target.headers, **(headers or {}), "Content-Length": str(size)}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        for piece in body or ():
            self._connection.send(piece)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != expected:
            raise PushFailed(f"{self._target.name}: {method} {path}: {answer.status} {text[:300]!r}")
        return answer.headers.get("Location", "")


def image_of(source: Source) -> tuple[Source, bytes]:
    """The config and the manifest of an image with one layer."""
    config = Source(source.seed + b"config", 1500)
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(source, "application/vnd.oci.image.layer.v1.tar")],
    }
    return config, json.dumps(document).encode()


def _descriptor(source: Source, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": source.digest(), "size": source.size}


def push_blobs(target: Target, clients: int, size: int, each: int = 1) -> Timing:
    """`clients` at once push `each` new blobs of `size` bytes. The digests are made before the clock starts."""
    work = [
        [(source, source.digest()) for source in (Source(os.urandom(16), size) for _ in range(each))]
        for _ in range(clients)
    ]

    def push(pusher: Pusher, number: int) -> None:
        for source, digest in work[number]:
            pusher.blob(source, digest)

    return _together(target, clients, push)


def push_images(target: Target, clients: int, size: int, each: int) -> Timing:
    """Whole images of one layer: its blob, its config, its manifest under a tag."""
    work = [[_prepared(size) for _ in range(each)] for _ in range(clients)]

    def push(pusher: Pusher, number: int) -> None:
        for count, (layer, config, payload) in enumerate(work[number]):
            pusher.blob(*layer)
            pusher.blob(*config)
            pusher.manifest(f"push-{number}-{count}", payload)

    return _together(target, clients, push)


def _prepared(size: int) -> tuple[tuple[Source, str], tuple[Source, str], bytes]:
    source = Source(os.urandom(16), size)
    config, payload = image_of(source)
    return (source, source.digest()), (config, config.digest()), payload


def _together(target: Target, clients: int, push: Callable[[Pusher, int], None]) -> Timing:
    pushers = [Pusher(target) for _ in range(clients)]
    cpu, began = target.cpu_seconds(), time.monotonic()
    try:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(push, pushers, range(clients)))
        return Timing(time.monotonic() - began, target.cpu_seconds() - cpu)
    finally:
        for pusher in pushers:
            pusher.close()
