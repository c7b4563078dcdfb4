"""Debian's docker-registry (CNCF Distribution 2.8): a registry that is not ours, to mirror and to copy to."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.engines import EngineCannotRun
from tests.engines.listeners import free_port, owns_port
from tests.engines.processes import Process, find_program
from tests.engines.scratch import scratch_directory

# htpasswd line of `testing` with the password `secret` (bcrypt, cost 4: checked at every request).
_HTPASSWD = "testing:$2b$04$AZnwoGGrGJMsWANImICrPOjtIvDenlMsNuSEYpbpCLm6pTKtK.Bzq\n"
USERNAME, PASSWORD = "testing", "secret"


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server's certificate and key, and the CA that a client trusts."""

    certificate: Path
    key: Path
    ca_pem: str


class DockerRegistry:
    """`stop` and `start` keep what is stored. `with_login`: USERNAME and PASSWORD are needed."""

    def __init__(self, directory: Path, *, with_login: bool = False, tls: ServerTls | None = None) -> None:
        self._program = find_program("docker-registry", "registry")
        self._directory = directory
        self._with_login = with_login
        self.tls = tls
        self.port = free_port()
        self.process = self._launch()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def stop(self) -> None:
        self.process.stop(5)

    def start(self) -> None:
        self.process = self._launch()

    def forget(self) -> None:
        """What is stored is gone; while it is stopped."""
        shutil.rmtree(self._directory / "storage", ignore_errors=True)

    def requests(self, word: str) -> list[str]:
        """Lines of the access log that hold the word."""
        return [line for line in self.process.log.read_text().splitlines() if word in line and "HTTP/1" in line]

    def _launch(self) -> Process:
        config = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self._directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address, "secret": "for tests"},
        }
        if self.tls is not None:
            config["http"] |= {  # type: ignore[operator]
                "tls": {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
            }
        if self._with_login:
            (self._directory / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(self._directory / "htpasswd")}}
        path = self._directory / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        process = Process([self._program, "serve", str(path)], self._directory / "log")
        process.wait_ready(self._answers, 10)
        if not owns_port(process.pid, self.port):
            process.stop()
            raise EngineCannotRun(f"our docker-registry does not own port {self.port}")
        return process

    def _answers(self) -> bool:
        context = ssl.create_default_context(cadata=self.tls.ca_pem) if self.tls else None
        request = urllib.request.Request(f"{self.url}/v2/")
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def server_tls(directory: Path) -> ServerTls:
    """A self-signed certificate for 127.0.0.1, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry of the tests")])
    begun = datetime(2025, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    files = ServerTls(directory / "registry.crt", directory / "registry.key", pem.decode())
    files.certificate.write_bytes(pem)
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@contextlib.contextmanager
def docker_registry(*, with_login: bool = False, tls: ServerTls | None = None) -> Iterator[DockerRegistry]:
    with scratch_directory("docker-registry") as directory:
        engine = DockerRegistry(directory, with_login=with_login, tls=tls)
        try:
            yield engine
        finally:
            engine.stop()
