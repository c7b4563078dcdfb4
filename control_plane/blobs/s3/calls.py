"""Calls of S3: each with a deadline, repeated with jitter while the trouble may pass, failures in the store's words.

All of it blocks and is called in a thread. An object that is not there is `Absent`, a condition that did not hold is
`Changed`; both are answers, not failures. A call that was repeated may find its own work of before: writers under a
condition look (documents.py, `nonce`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from common.backoff import Backoff
from common.clock import Clock
from control_plane.blobs import DiskFull, StorageFailed

if TYPE_CHECKING:  # only those who develop have the types of boto3
    from types_boto3_s3 import S3Client

T = TypeVar("T")
# How a connection breaks; reading a body line by line lets urllib3's own errors through.
BROKEN = (BotoConnectionError, HTTPClientError, IncompleteReadError, HTTPError, OSError)
_ABSENT = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
# 409: AWS says so when two conditional writes meet; the later one may try again.
_PASSING_STATUS = frozenset({408, 409, 429})
_PASSING = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "ConditionalRequestConflict"})
_NO_ROOM = frozenset({"QuotaExceeded", "InsufficientCapacity", "InsufficientStorage"})


class Absent(Exception):
    """There is no such object or multipart upload."""


class Changed(Exception):
    """The object is not the one that the condition named."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """`deadline_seconds` bounds one call with all its repetitions, `answer_seconds` the wait for one answer.
    Without keys boto3 looks for them where AWS puts them. `public_endpoint` is how clients reach the store.
    """

    bucket: str
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_key: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    part_bytes: int = 8 << 20
    equal_parts: bool = False
    connect_seconds: float = 5.0
    answer_seconds: float = 20.0
    deadline_seconds: float = 45.0
    threads: int = 16


class S3Calls:
    """`client` is thread-safe. `random` gives the jitter."""

    def __init__(self, options: S3Options, clock: Clock, random: Callable[[], float]) -> None:
        self.bucket = options.bucket
        self.client = _client(options, options.endpoint)
        self._public = _client(options, options.public_endpoint) if options.public_endpoint else self.client
        self._deadline_seconds = options.deadline_seconds
        self._clock = clock
        self._random = random
        self._closing = threading.Event()

    def call(self, doing: str, operation: Callable[[], T]) -> T:
        """Raises `Absent`, `Changed`, `StorageFailed`, `DiskFull`."""
        deadline = self._clock.monotonic() + self._deadline_seconds
        backoff = Backoff(self._random, initial_seconds=0.2, cap_seconds=5.0)
        while True:
            try:
                with _answers(doing):
                    return operation()
            except _Passing as trouble:
                delay = backoff.next_delay()
                late = self._clock.monotonic() + delay > deadline
                if late or self._closing.wait(delay):
                    raise StorageFailed(
                        f"{doing} failed: the object store did not do it in {self._deadline_seconds:g} s: {trouble}",
                        action="try again; if it persists, look at the object store",
                        retry_after_seconds=5,
                    ) from trouble.__cause__

    def presign(self, key: str, expires_seconds: int) -> str:
        parameters = {"Bucket": self.bucket, "Key": key, "ResponseContentType": "application/octet-stream"}
        return self._public.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_seconds)

    def check(self) -> None:
        """Raises `StorageFailed` unless the bucket is there and we may use it."""
        try:
            self.call("looking at the bucket", lambda: self.client.head_bucket(Bucket=self.bucket))
        except Absent:
            raise StorageFailed(
                f"there is no bucket {self.bucket}", action="make it, or correct the setting blobs.s3.bucket"
            ) from None

    def stop(self) -> None:
        """Calls that wait for their next try give up."""
        self._closing.set()

    def close(self) -> None:
        self.client.close()
        self._public.close()


class _Passing(Exception):
    """Trouble that may be over soon."""


@contextlib.contextmanager
def _answers(doing: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _meaning(doing, error) from error
    except BROKEN as error:
        raise _Passing(str(error)) from error
    except BotoCoreError as error:
        raise StorageFailed(f"{doing} failed: {error}", action="look at the settings of blobs.s3") from error


def _meaning(doing: str, error: ClientError) -> Exception:
    response: Any = error.response
    code, status = response.get("Error", {}).get("Code", ""), response["ResponseMetadata"]["HTTPStatusCode"]
    if status == 412:
        return Changed()
    if code in _ABSENT:
        return Absent()
    if code in _NO_ROOM or status == 507:
        return DiskFull(
            f"the object store has no room for {doing}: {code}",
            action="raise the quota of the bucket's owner or free space, then send the rest",
            retry_after_seconds=30,
        )
    if status >= 500 or status in _PASSING_STATUS or code in _PASSING:
        return _Passing(f"{status} {code}")
    return StorageFailed(
        f"{doing} failed: the object store answered {status} {code}",
        action="look at the settings of blobs.s3: bucket, keys, and what they may do",
    )


@functools.cache
def _session() -> boto3.session.Session:
    # Shared: what boto3 reads about S3 costs 0.3 s a session.
    return boto3.session.Session()


def _client(options: S3Options, endpoint: str | None) -> S3Client:
    # Repetitions are ours: they have a deadline. Checksums beyond the signature only where asked for: Ceph before 18
    # knows none, and the hash of the whole was made before a byte left.
    config = Config(
        connect_timeout=options.connect_seconds,
        read_timeout=options.answer_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=options.threads * 2,
        s3={"addressing_style": options.addressing},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version="s3v4",
    )
    return _session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=options.region,
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_key,
        config=config,
    )
