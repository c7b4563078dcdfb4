"""`python -m benchmarks.swarm.pulling`: read URLs in turn, as an engine reads layers; run inside a host's namespace.

Standard input: a JSON list of lists of URLs; each list has its own server and one connection. They are read in turn,
the first URL of each list, then the second of each. Standard output: the seconds of each request, in the same shape.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    lists: list[list[str]] = json.loads(sys.stdin.read())
    connections = []
    for urls in lists:
        parts = urlsplit(urls[0])
        connections.append(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30))
    seconds: list[list[float]] = [[] for _ in lists]
    for turn in zip(*lists, strict=True):
        for number, url in enumerate(turn):
            seconds[number].append(_read(connections[number], urlsplit(url).path))
    print(json.dumps(seconds))


def _read(connection: http.client.HTTPConnection, path: str) -> float:
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    while answer.read(1 << 20):
        pass
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
