"""HTTP: twenty machines fetch an image at once from a real regional and from nginx, one process each; wrk plays them.

The file is in the page cache: what is compared is how the bytes get from there to the sockets. Servers take turns.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.boot.servers import ServerCannotRun
from benchmarks.figures import Figure

CLIENTS = 20
AT_LEAST = 0.7
_MEGABYTES = 64
_SECONDS = 4
_READY_SECONDS = 30.0
_UNITS = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9}
_NGINX = """
daemon off; master_process off; user root; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def measure(folder: Path, runs: int) -> None:
    """Prints its figure. Raises `ServerCannotRun`."""
    missing = [name for name in ("wrk", "nginx") if shutil.which(name) is None]
    if missing:
        raise ServerCannotRun(f"needs {' and '.join(missing)}: apt-get install wrk nginx-light")
    root = folder / "http-root"
    image = root / "static" / "images" / "disk"
    image.parent.mkdir(parents=True)
    image.write_bytes(os.urandom(1 << 20) * _MEGABYTES)
    rates: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, (port, command) in _servers(folder, root).items():
            with _running(name, port, command, folder):
                rate = _load(f"http://127.0.0.1:{port}/static/images/disk")
            print(f"# {name}: {rate / 1e6:.0f} MB/s", file=sys.stderr)
            rates.setdefault(name, []).append(rate)
    ours, peer = (statistics.median(rates[name]) / 1e6 for name in ("longshore", "nginx"))
    Figure(
        "http", f"{CLIENTS} clients x {_MEGABYTES} MB", "MB/s", round(ours, 1), round(peer, 1), "nginx",
        round(ours / peer, 2), f"at least {AT_LEAST} times", ours >= AT_LEAST * peer,
    ).print()  # fmt: skip


def _servers(folder: Path, root: Path) -> Mapping[str, tuple[int, Sequence[str]]]:
    """Each on a free port."""
    own, other = _free_port(), _free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, port=other, root=root))
    words = (f"--data={folder / 'http-data'}", f"--static-root={root}", f"--api-port={own}", "--log-level=warning")
    return {
        "longshore": (own, (sys.executable, "-m", "regional", "--idc=bench", *words)),
        "nginx": (other, ("nginx", "-c", str(configuration), "-p", str(folder))),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _running(name: str, port: int, command: Sequence[str], folder: Path) -> Iterator[None]:
    log = folder / f"{name}-http.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerCannotRun(f"{name} does not answer: {log.read_text()[-400:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _load(url: str) -> float:
    """Bytes a second. Raises `ServerCannotRun` if anything but the file was answered."""
    words = ("wrk", "-t", "1", "-c", str(CLIENTS), "-d", f"{_SECONDS}s", "--timeout", "30s", url)
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"Transfer/sec:\s+([\d.]+)(B|KB|MB|GB)", said)
    if found is None or "Non-2xx" in said:
        raise ServerCannotRun(said)
    return float(found[1]) * _UNITS[found[2]]
