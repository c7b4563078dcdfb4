"""Pushing through the OCI distribution API, resumed where a connection broke.

Invariant: a blob is sent at most once beyond the chunk in flight: after a failure the registry is asked how far it got
("Pushing a blob in chunks", distribution specification), and only the rest is sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from urllib3 import BaseHTTPResponse

from common.backoff import Backoff
from common.digest import Digest
from common.errors import NotFound, Stale, Unavailable
from common.reference import Reference
from control_plane.cli.client import Client
from control_plane.cli.failures import failure_of
from control_plane.cli.image_source import BlobSource, ManifestSource

_CHUNK_BYTES = 16 << 20
_TRIES = 6
Advance = Callable[[Digest, int], None]  # (digest, bytes of it that are there now)


def push(client: Client, reference: Reference, image: ManifestSource, advance: Advance) -> Digest:
    """Blobs first, then manifests from the leaves up; the tag moves last."""
    for blob in image.all_blobs():
        _push_blob(client, reference.repository, blob, advance)
    for child in image.children:
        _push_manifest(client, reference.repository, child, str(child.digest))
    return _push_manifest(client, reference.repository, image, reference.tag or str(image.digest))


def _push_manifest(client: Client, repository: str, image: ManifestSource, name: str) -> Digest:
    answer = client.raw(
        "PUT",
        f"/v2/{repository}/manifests/{name}",
        headers={"Content-Type": image.media_type},
        body=image.payload,
    )
    if answer.status != 201:
        raise failure_of(answer.status, answer.data, f"pushing manifest {name}")
    return image.digest


def _push_blob(client: Client, repository: str, blob: BlobSource, advance: Advance) -> None:
    advance(blob.digest, 0)
    for last_try in (False, True):
        if client.raw("HEAD", f"/v2/{repository}/blobs/{blob.digest}").status == 200:
            advance(blob.digest, blob.size)
            return
        try:
            _upload(client, repository, blob, advance)
            return
        except NotFound:  # the upload session is gone: expired, or finished by an answer that was lost
            if last_try:
                raise


def _upload(client: Client, repository: str, blob: BlobSource, advance: Advance) -> None:
    # Repeating it is harmless: an upload that nobody goes on with expires.
    start = _patiently(lambda: client.raw("POST", f"/v2/{repository}/blobs/uploads/"))
    if start.status != 202:
        raise failure_of(start.status, start.data, f"starting an upload to {repository}")
    location = start.headers["Location"]
    backoff = Backoff(random.random, initial_seconds=0.2, cap_seconds=5)
    offset = 0
    while offset < blob.size:
        try:
            location, offset = _send_chunk(client, location, blob, offset)
            backoff.reset()
        except (Unavailable, Stale):
            if backoff.failures >= _TRIES:
                raise
            time.sleep(backoff.next_delay())
            location, offset = _where_were_we(client, location, offset)
        advance(blob.digest, offset)
    separator = "&" if "?" in location else "?"
    finish = f"{location}{separator}digest={blob.digest}"
    done = _patiently(lambda: client.raw("PUT", finish, headers={"Content-Length": "0"}))
    if done.status != 201:
        raise failure_of(done.status, done.data, f"finishing {blob.digest}")


def _patiently(send: Callable[[], BaseHTTPResponse]) -> BaseHTTPResponse:
    """Through a restart of the server."""
    backoff = Backoff(random.random, initial_seconds=0.2, cap_seconds=5)
    while True:
        try:
            return send()
        except Unavailable:
            if backoff.failures >= _TRIES:
                raise
            time.sleep(backoff.next_delay())


def _send_chunk(client: Client, location: str, blob: BlobSource, offset: int) -> tuple[str, int]:
    with blob.open() as file:
        file.seek(offset)
        chunk = file.read(_CHUNK_BYTES)
    answer = client.raw(
        "PATCH",
        location,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{offset + len(chunk) - 1}",
            "Content-Length": str(len(chunk)),
        },
        body=chunk,
    )
    if answer.status == 416:
        raise Stale("the registry holds another part of the upload than we thought", action="it is asked")
    if answer.status != 202:
        raise failure_of(answer.status, answer.data, f"sending {blob.digest}")
    return answer.headers["Location"], offset + len(chunk)


def _where_were_we(client: Client, location: str, offset: int) -> tuple[str, int]:
    try:
        answer = client.raw("GET", location)
    except Unavailable:
        return location, offset
    if answer.status != 204:
        raise failure_of(answer.status, answer.data, "asking for the state of the upload")
    location = answer.headers.get("Location", location)
    if "Upload-Offset" in answer.headers:
        return location, int(answer.headers["Upload-Offset"])
    # `Range: 0-0` says both "nothing" and "one byte"; starting again from nothing is refused harmlessly if it was one.
    last = int(answer.headers.get("Range", "0-0").rpartition("-")[2] or 0)
    return location, last + 1 if last else 0
