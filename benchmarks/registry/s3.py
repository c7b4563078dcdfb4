"""How long the last request of a large upload to S3 takes once its bytes are there, on a real Ceph gateway.

docker-registry is not compared: it copies the upload to its final key (its pull request 1906 names 10 s a GB).
"""

from __future__ import annotations

import os
import time

from benchmarks.registry.plan import Plan, limit, note
from benchmarks.registry.pushing import Pusher, Source
from benchmarks.registry.servers import longshore
from tests.engines.ceph import S3Bucket, ceph_engine

_MOST_SECONDS = 1.0


def measure(plan: Plan) -> None:
    """Raises `PushFailed` if the server refuses."""
    with ceph_engine() as ceph:
        environment = _settings(ceph.new_bucket())
        with longshore(plan.folder / "s3", environment) as (target, _):
            source = Source(os.urandom(16), plan.s3_bytes)
            digest = source.digest()
            pusher = Pusher(target)
            try:
                began = time.monotonic()
                location = pusher.append(pusher.start(), source.pieces(), source.size)
                sent = time.monotonic()
                pusher.finish(location, digest, iter(()), 0)
                done = time.monotonic()
            finally:
                pusher.close()
    rate = source.size / (sent - began) / 1e6
    note(f"S3: {source.size >> 20} MiB at {rate:.0f} MB/s, last request {done - sent:.3f} s")
    limit(f"commit of {source.size >> 20} MiB on Ceph RGW, last request", "s", [done - sent], most=_MOST_SECONDS)


def _settings(bucket: S3Bucket) -> dict[str, str]:
    prefix = "LONGSHORE_BLOBS__S3__"
    return {
        f"{prefix}BUCKET": bucket.name,
        f"{prefix}ENDPOINT": bucket.endpoint,
        f"{prefix}ACCESS_KEY_ID": bucket.access_key_id,
        f"{prefix}SECRET_KEY": bucket.secret_key,
        f"{prefix}ADDRESSING": "path",
    }
