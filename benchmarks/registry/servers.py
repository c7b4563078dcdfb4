"""The servers that are compared: started on free loopback ports, their CPU and memory read from /proc, stopped by pid.

docker-registry 2.8 verifies bearer tokens that this benchmark signs (distribution: spec/auth/jwt); ours come from its
own token endpoint. nginx serves files without any check (the physical limit), and fronts ours with X-Accel-Redirect.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.demo.fleet import Fleet, Node

REPOSITORY = "acme/bench"
_SERVICE = "bench"
_TICKS = os.sysconf("SC_CLK_TCK")
_NGINX = """
{user}
daemon off;
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream registry {{ server 127.0.0.1:{upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location /v2/ {{
            proxy_pass http://registry;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_request_buffering off;
        }}
        location /internal/ {{ internal; alias {blobs}/; }}
        location /plain/ {{ alias {blobs}/; }}
    }}
}}
"""


@dataclass
class Target:
    """A server that answers `/v2/`. `pids` are the processes whose CPU and memory count as its own."""

    name: str
    port: int
    pids: Sequence[int]
    token: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def cpu_seconds(self) -> float:
        """User and system time of the processes and of their children, so far."""
        return sum(_cpu_seconds(pid) for pid in _families(self.pids))

    def peak_bytes(self) -> int:
        """The largest resident set that any one of its processes has had."""
        return max(_peak_bytes(pid) for pid in _families(self.pids))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def longshore(root: Path, environment: dict[str, str] | None = None) -> Iterator[tuple[Target, Fleet]]:
    """The control plane alone: SQLite, a directory, one process. Its data stays for a second start with this root."""
    with Fleet(root, Node("centre"), [], server_environment=environment or {}) as fleet:
        fleet.start_control_plane()
        fleet.log_in()
        if not any(each["name"] == "acme" for each in fleet.client.get("/api/v1/tenants")["data"]):
            fleet.client.post("/api/v1/tenants", {"name": "acme", "display_name": "Acme"})
        port = int(fleet.url.rpartition(":")[2])
        yield Target("longshore", port, [fleet.control_plane.pid], _own_token(port, fleet.password)), fleet


def _own_token(port: int, password: str) -> str:
    headers = urllib3.make_headers(basic_auth=f"admin:{password}")
    scopes = f"repository:{REPOSITORY}:pull,push,delete registry:catalog:*"
    asked = {"service": "longshore-registry", "scope": scopes}
    answer = urllib3.request("GET", f"http://127.0.0.1:{port}/v2/token", fields=asked, headers=headers)
    return str(answer.json()["token"])


@contextlib.contextmanager
def docker_registry(root: Path) -> Iterator[Target]:
    root.mkdir(parents=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (root / "issuer.pem").write_bytes(_certificate(key))
    port = free_port()
    (root / "config.yml").write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage:\n  filesystem: {{rootdirectory: {root / 'data'}}}\n  delete: {{enabled: true}}\n"
        "  cache: {blobdescriptor: inmemory}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
        f"auth:\n  token: {{realm: 'http://127.0.0.1/token', service: {_SERVICE}, issuer: {_SERVICE}, "
        f"rootcertbundle: {root / 'issuer.pem'}}}\n"
    )
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(root / "config.yml")], stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        yield Target("docker-registry 2.8", port, [process.pid], _foreign_token(key))
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def nginx(folder: Path, upstream: int, blobs: Path) -> Iterator[Target]:
    """`/plain/` serves the blob directory, `/v2/` goes to `upstream`, `/internal/` is for its X-Accel-Redirect."""
    folder.mkdir(parents=True)
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _NGINX.format(
            # Its workers would become nobody, who may not read our files.
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            port=port,
            upstream=upstream,
            blobs=blobs,
        )
    )
    process = subprocess.Popen(["nginx", "-c", str(configuration), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield Target("nginx", port, [process.pid])
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not listen on port {port}")


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _SERVICE)])
    now = datetime.datetime.fromtimestamp(0, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _foreign_token(key: rsa.RSAPrivateKey) -> str:
    """`kid` as libtrust makes it: base32 of the first 240 bits of the public key's SHA-256, in groups of four."""
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    kid = ":".join(text[start : start + 4] for start in range(0, len(text), 4))
    access = [{"type": "repository", "name": REPOSITORY, "actions": ["pull", "push", "delete"]}]
    claims = {"iss": _SERVICE, "sub": "bench", "aud": _SERVICE, "iat": 0, "nbf": 0, "exp": 1 << 32, "access": access}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})


def _families(pids: Sequence[int]) -> list[int]:
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0
