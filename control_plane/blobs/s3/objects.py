"""Reading and writing small objects, always under a condition. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import IO, NamedTuple

from control_plane.blobs.s3.calls import Absent, S3Calls


class Found(NamedTuple):
    data: bytes
    etag: str


class Listed(NamedTuple):
    key: str
    modified: datetime


def bare(etag: str) -> str:
    """Ceph before 18 compares the header as it is with an ETag without quotes; all others take both."""
    return etag.strip('"')


def read(calls: S3Calls, key: str, doing: str) -> Found | None:
    def get() -> Found:
        answer = calls.client.get_object(Bucket=calls.bucket, Key=key)
        with closing(answer["Body"]) as body:
            return Found(body.read(), bare(answer["ETag"]))

    try:
        return calls.call(doing, get)
    except Absent:
        return None


def write(calls: S3Calls, key: str, body: bytes | IO[bytes], doing: str, *, replacing: str | None) -> str:
    """Replace the object whose ETag is `replacing`, or make it where that is None; returns the new ETag.

    Raises `Changed`.
    """

    def put() -> str:
        if not isinstance(body, bytes):
            body.seek(0)
        if replacing is None:
            answer = calls.client.put_object(Bucket=calls.bucket, Key=key, Body=body, IfNoneMatch="*")
        else:
            answer = calls.client.put_object(Bucket=calls.bucket, Key=key, Body=body, IfMatch=replacing)
        return bare(answer["ETag"])

    return calls.call(doing, put)


def put(calls: S3Calls, key: str, body: bytes | IO[bytes], doing: str) -> None:
    """For objects that only one writer can write, or that all write alike."""

    def send() -> None:
        if not isinstance(body, bytes):
            body.seek(0)
        calls.client.put_object(Bucket=calls.bucket, Key=key, Body=body)

    calls.call(doing, send)


def size_of(calls: S3Calls, key: str, doing: str) -> int | None:
    try:
        return calls.call(doing, lambda: calls.client.head_object(Bucket=calls.bucket, Key=key)["ContentLength"])
    except Absent:
        return None


def remove(calls: S3Calls, key: str, doing: str) -> None:
    """Harmless if there is none."""
    try:
        calls.call(doing, lambda: calls.client.delete_object(Bucket=calls.bucket, Key=key))
    except Absent:
        return


def listed(calls: S3Calls, prefix: str, doing: str, after: str = "") -> Iterator[Listed]:
    """In the order of the keys, 1000 a request."""
    while True:
        ask = partial(calls.client.list_objects_v2, Bucket=calls.bucket, Prefix=prefix, StartAfter=after)
        answer = calls.call(doing, ask)
        for entry in answer.get("Contents", []):
            after = entry["Key"]
            yield Listed(after, entry["LastModified"])
        if not answer["IsTruncated"]:
            return
