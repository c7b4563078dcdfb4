"""Load on a server and what it cost: wrk for reading, plain sockets for pushing, CPU from /proc.

wrk reads 8 KiB at a time and shares two cores with the server, so MB/s say less than CPU seconds per GB.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.registry.servers import Target

_TRANSFER = re.compile(r"LONGSHORE requests=(\d+) bytes=(\d+) microseconds=(\d+) errors=(\d+)")
# One thread asks for the paths in turn.
_SCRIPT = """
local paths = {{ {paths} }}
local next = 0
wrk.headers["Accept"] = "application/vnd.oci.image.manifest.v1+json"
request = function()
  next = next % #paths + 1
  local method, path = paths[next]:match("^(%u+) (.*)$")
  return wrk.format(method, path)
end
done = function(summary)
  local e = summary.errors
  io.write(string.format("LONGSHORE requests=%d bytes=%d microseconds=%d errors=%d\\n", summary.requests,
    summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    requests: int
    bytes: int
    seconds: float
    cpu_seconds: float

    @property
    def requests_a_second(self) -> float:
        return self.requests / self.seconds

    @property
    def megabytes_a_second(self) -> float:
        return self.bytes / self.seconds / 1e6

    @property
    def cpu_seconds_a_gigabyte(self) -> float:
        return self.cpu_seconds / (self.bytes / 1e9)

    @property
    def cpu_microseconds_a_request(self) -> float:
        return self.cpu_seconds / self.requests * 1e6


class LoadFailed(Exception):
    """A server answered with errors: a figure of it would mean nothing."""


def read(target: Target, requests: Sequence[str], *, clients: int, seconds: int) -> Load:
    """`requests` are "GET /path", asked for in turn. Raises `LoadFailed`."""
    script = _SCRIPT.format(paths=", ".join(f'"{each}"' for each in requests))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        headers = [word for name, value in target.headers.items() for word in ("-H", f"{name}: {value}")]
        # A slow server's connections end with the run: such a read is not an error of the server.
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", file.name, *headers]
        before = target.cpu_seconds()
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{target.port}"], check=True, capture_output=True, text=True, timeout=120
        )
        spent = target.cpu_seconds() - before
    found = _TRANSFER.search(done.stdout)
    if found is None or int(found[4]) or not int(found[1]):
        raise LoadFailed(f"{target.name}: {requests[0]} with {clients} clients: {done.stdout[-400:]}")
    return Load(int(found[1]), int(found[2]), int(found[3]) / 1e6, spent)
