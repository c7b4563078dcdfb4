"""`python -m benchmarks.swarm.asking URL`: ask for one URL again and again until a line comes on standard input.

Each time over a new connection; the first 64 KiB of the body are read and the connection is closed. Standard output:
a JSON list of [moment of the request by the monotonic clock, seconds until the first byte of the body].
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from urllib.parse import urlsplit

_PAUSE_SECONDS = 0.5
# Until the host knows of it: the mirror answers 404.
_RETRY_SECONDS = 0.02


def main() -> None:
    parts = urlsplit(sys.argv[1])
    waits: list[tuple[float, float]] = []
    pause = _RETRY_SECONDS
    while not select.select([sys.stdin], [], [], pause)[0]:
        asked_at = time.monotonic()
        seconds = _first_byte(parts.hostname or "", parts.port, parts.path)
        pause = _RETRY_SECONDS
        if seconds is not None:
            waits.append((asked_at, seconds))
            pause = _PAUSE_SECONDS
    print(json.dumps(waits))


def _first_byte(host: str, port: int | None, path: str) -> float | None:
    """Seconds; None when it is not to be had yet."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    started = time.perf_counter()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read(1):
            return None
        seconds = time.perf_counter() - started
        answer.read(1 << 16)
    except OSError:
        return None
    finally:
        connection.close()
    return seconds


if __name__ == "__main__":
    main()
