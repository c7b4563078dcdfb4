"""nginx in front of a control plane: it asks us who may have a content, and sends the file itself (X-Accel-Redirect).

The configuration below is the one that operators need; what is special in it is said beside it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.engines import EngineCannotRun
from tests.engines.listeners import owns_port
from tests.engines.processes import Process, find_program
from tests.engines.scratch import scratch_directory

_CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log notice;
events {{ worker_connections 256; }}
http {{
    # Status, bytes to the client, bytes of the body from us, the request.
    log_format sources '$status $body_bytes_sent $upstream_response_length $request_method $uri';
    access_log {directory}/access.log sources;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
        }}
        location {prefix} {{
            internal;
            alias {blobs}/;
            # nginx keeps few headers of an answer that it redirects. Its own ETag would be one of time and size.
            etag off;
            add_header ETag $upstream_http_etag;
            add_header Docker-Content-Digest $upstream_http_docker_content_digest;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Sent:
    """One line of the access log. `from_us`: bytes of the body that nginx had from the control plane."""

    status: int
    size: int
    from_us: int
    method: str
    path: str


class Nginx:
    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self.port = port

    def sent(self) -> list[Sent]:
        found = []
        for line in (self._directory / "access.log").read_text().splitlines():
            status, size, from_us, method, path = line.split(" ", 4)
            # One length for each server that was asked; "-" or nothing: no body.
            lengths = [int(part) for part in from_us.replace(":", ",").split(",") if part.strip().isdigit()]
            found.append(Sent(int(status), int(size), sum(lengths), method, path))
        return found


@contextlib.contextmanager
def nginx_engine(port: int, upstream: str, prefix: str, blobs: Path) -> Iterator[Nginx]:
    """On `port`, which what stands behind must know first, in front of `upstream` (host:port). `prefix` is the internal
    location over the directory `blobs`.
    """
    program = find_program("nginx", "tools")
    if os.geteuid() != 0:
        raise EngineCannotRun("only root can read another process's blobs")
    with scratch_directory("nginx") as directory:
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(directory=directory, port=port, upstream=upstream, prefix=prefix, blobs=blobs)
        )
        process = Process([program, "-c", str(configuration), "-p", str(directory)], directory / "log")
        try:
            process.wait_ready(lambda: _listens(port), 10)
            if not owns_port(process.pid, port):
                raise EngineCannotRun(f"our nginx does not own port {port}")
            yield Nginx(directory, port)
        finally:
            process.stop()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
