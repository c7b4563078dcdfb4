"""BMCs as processes of their own: Redfish by sushy-tools, IPMI by pyghmi; started, listened to, and paused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from common.tls import Name
from regional.power import Bmc, Protocols
from tests.engines.processes import Process
from tests.pace import BUSY_SECONDS
from tests.regional.certificates import Authority

USER, PASSWORD = "operator", "not a secret"
_HERE = Path(__file__).parent


class RunningBmc:
    """`bmc` is how to speak with it."""

    def __init__(self, process: Process, bmc: Bmc) -> None:
        self.process = process
        self.bmc = bmc

    @property
    def changes(self) -> list[dict[str, str]]:
        """All that its machine was told, oldest first: `power`, and from where it would `boot`."""
        return [one for one in _said(self.process) if "power" in one]


@contextlib.contextmanager
def redfish_bmc(directory: Path) -> Iterator[RunningBmc]:
    """Its certificate is of an authority that nobody knows: `directory / "ca.pem"`."""
    authority = Authority("BMCs")
    identity = authority.identity(Name("rack", "regional", "bmc"))
    files = {
        "ca.pem": authority.pem,
        "bmc.pem": identity.certificate_pem,
        "bmc.key": identity.key_pem,
        "users": f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n".encode(),
    }
    for name, body in files.items():
        (directory / name).write_bytes(body)
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    words = [str(directory), *(str(directory / name) for name in ("bmc.pem", "bmc.key", "users"))]
    with _running("redfish_bmc.py", words, directory / "redfish.log") as (process, port):
        fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        yield RunningBmc(process, Bmc(Protocols.REDFISH, "127.0.0.1", port, USER, PASSWORD, fingerprint))


@contextlib.contextmanager
def ipmi_bmc(directory: Path) -> Iterator[RunningBmc]:
    with _running("ipmi_bmc.py", [USER, PASSWORD], directory / "ipmi.log") as (process, port):
        yield RunningBmc(process, Bmc(Protocols.IPMI, "127.0.0.1", port, USER, PASSWORD))


@contextlib.contextmanager
def _running(program: str, words: list[str], log: Path) -> Iterator[tuple[Process, int]]:
    process = Process([sys.executable, "-P", str(_HERE / program), *words], log)
    try:
        process.wait_ready(lambda: any("port" in one for one in _said(process)), 3 * BUSY_SECONDS)
        yield process, next(int(one["port"]) for one in _said(process) if "port" in one)
    finally:
        process.kill()


def _said(process: Process) -> list[dict[str, Any]]:
    """Whole lines only: the last may still be written."""
    lines = process.log.read_text(errors="replace").split("\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith("{")]
