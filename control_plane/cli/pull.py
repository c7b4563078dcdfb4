"""Pulling through the OCI distribution API into an OCI image layout, resumed where a connection broke.

Invariant: a blob appears under its digest only after the whole of it was hashed; what came before a broken connection
is kept and only the rest is fetched.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from common.backoff import Backoff
from common.digest import Digest, DigestMismatch, Hasher
from common.durable import write_file
from common.errors import Unavailable
from common.reference import Reference
from control_plane.cli.client import Client
from control_plane.cli.failures import failure_of
from control_plane.cli.image_source import OCI_INDEX, OCI_MANIFEST

_TRIES = 6
# What is lost of a connection that breaks: urllib3 gives a chunk when it is whole. With 1 MiB, connections that broke
# sooner never got anywhere.
_CHUNK_BYTES = 64 << 10
MANIFEST_TYPES = ", ".join(
    (
        OCI_MANIFEST,
        OCI_INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)

Advance = Callable[[Digest, int], None]  # (digest, bytes of it that are there now)


def pull(client: Client, reference: Reference, directory: Path, advance: Advance) -> Digest:
    """Write the image as an OCI layout into `directory`; what already lies there and is whole is not fetched again."""
    (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    wanted = str(reference.digest or reference.tag)
    digest, media_type, payload = _pull_manifest(client, reference.repository, wanted, directory, advance)
    descriptor = {"mediaType": media_type, "digest": str(digest), "size": len(payload)}
    if reference.tag:
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": reference.tag}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
    write_file(directory / "index.json", json.dumps(index, indent=1).encode(), 0o644)
    write_file(directory / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}', 0o644)
    return digest


def _pull_manifest(
    client: Client, repository: str, name: str, directory: Path, advance: Advance
) -> tuple[Digest, str, bytes]:
    answer = client.raw("GET", f"/v2/{repository}/manifests/{name}", headers={"Accept": MANIFEST_TYPES})
    if answer.status != 200:
        raise failure_of(answer.status, answer.data, f"pulling {repository}:{name}")
    digest = Digest.of(answer.data)
    if name.startswith("sha256:"):
        Digest.parse(name).verify(digest)
    document: dict[str, Any] = json.loads(answer.data)
    for child in document.get("manifests", []):
        _pull_manifest(client, repository, str(child["digest"]), directory, advance)
    parts = [document["config"]] if "config" in document else []
    for part in itertools.chain(parts, document.get("layers", [])):
        _pull_blob(client, repository, Digest.parse(str(part["digest"])), int(part["size"]), directory, advance)
    _blob_path(directory, digest).write_bytes(answer.data)
    media_type = str(document.get("mediaType") or answer.headers.get("Content-Type", OCI_MANIFEST))
    return digest, media_type, answer.data


def _pull_blob(client: Client, repository: str, digest: Digest, size: int, directory: Path, advance: Advance) -> None:
    target = _blob_path(directory, digest)
    advance(digest, 0)
    if target.exists() and _hashed(target, digest).digest() == digest:
        advance(digest, size)
        return
    partial = target.with_suffix(".partial")
    backoff = Backoff(random.random, initial_seconds=0.2, cap_seconds=5)
    while not partial.exists() or partial.stat().st_size < size:
        held = _size(partial)
        try:
            _continue_blob(client, f"/v2/{repository}/blobs/{digest}", partial, digest, advance)
        except Unavailable:
            if _size(partial) > held:
                backoff.reset()
            if backoff.failures >= _TRIES:
                raise
            time.sleep(backoff.next_delay())
    _check(partial, digest)
    partial.replace(target)


def _continue_blob(client: Client, path: str, partial: Path, digest: Digest, advance: Advance) -> None:
    held = _size(partial)
    answer = client.raw("GET", path, headers={"Range": f"bytes={held}-"} if held else {}, stream=True)
    if answer.status not in (200, 206):
        raise failure_of(answer.status, answer.read(), f"pulling {digest}")
    if answer.status == 200:
        held = 0
    try:
        with partial.open("r+b" if held else "wb") as file:
            file.seek(held)
            for chunk in answer.stream(_CHUNK_BYTES):
                file.write(chunk)
                held += len(chunk)
                advance(digest, held)
    except HTTPError as error:
        raise Unavailable(f"the connection broke while pulling {digest}", action="try again") from error


def _check(path: Path, digest: Digest) -> None:
    try:
        digest.verify(_hashed(path, digest).digest())
    except DigestMismatch:
        path.unlink()
        raise


def _hashed(path: Path, digest: Digest) -> Hasher:
    hasher = digest.hasher()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _blob_path(directory: Path, digest: Digest) -> Path:
    folder = directory / "blobs" / digest.algorithm
    folder.mkdir(parents=True, exist_ok=True)
    return folder / digest.hex
