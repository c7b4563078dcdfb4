"""What answers where a BMC should be: it sends us elsewhere, shows another certificate, drips, or talks nonsense."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from common.errors import Failure
from common.tls import Name
from regional.power import Bmc, BmcNotAnswering, BmcNotTrusted, BmcRefused, PowerState, Protocols
from regional.power.children import Children
from tests.regional.certificates import Authority

ROOT = {
    "@odata.id": "/redfish/v1/", "Id": "r", "Name": "r", "RedfishVersion": "1.0.0", "UUID": "u",
    "Systems": {"@odata.id": "/redfish/v1/Systems"}, "Links": {"Sessions": {"@odata.id": "/s"}},
}  # fmt: skip


class Answering:
    """An HTTPS server; `answers` are by path, or what it does instead. `heard`: headers of what it was asked."""

    def __init__(self, directory: Path) -> None:
        authority = Authority("makers of BMCs")
        identity = authority.identity(Name("rack", "regional", "bmc"))
        self.answers: dict[str, Any] = {"/redfish/v1/": ROOT}
        self.heard: list[dict[str, str]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (directory / "ca.pem").write_bytes(authority.pem)
        (directory / "bmc.pem").write_bytes(identity.certificate_pem + identity.key_pem)
        context.load_cert_chain(directory / "bmc.pem")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.heard.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
                said = outer.answers.get(self.path, (404, {}, b"{}"))
                if callable(said):
                    said(self)
                    return
                status, headers, body = said if isinstance(said, tuple) else (200, {}, json.dumps(said).encode())
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
        fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        self.bmc = Bmc(Protocols.REDFISH, "127.0.0.1", self.port, "root", "a secret", fingerprint)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    made = Answering(tmp_path)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    with closing(made.server.socket):
        yield made
        made.server.shutdown()
        thread.join()


async def asked(bmc: Bmc, port: Children) -> PowerState:
    async with port.session(bmc) as session:
        return await session.state()


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for longer than anybody waits: no timeout of a socket ever ends it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(600):
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


LINK = {"@odata.id": "https://127.0.0.2:1/redfish/v1/Systems/1"}


@pytest.mark.parametrize(
    ("path", "answer", "failure", "word_seconds"),
    [
        ("/redfish/v1/", (302, {"Location": "https://127.0.0.2:1/"}, b""), BmcNotTrusted, 30.0),
        ("/redfish/v1/", {**ROOT, "Systems": {"@odata.id": "http://127.0.0.2:1/"}}, BmcNotTrusted, 30.0),
        ("/redfish/v1/Systems", {"Name": "s", "Members": [LINK]}, BmcNotTrusted, 30.0),
        ("/redfish/v1/Systems", {"Name": "s", "Members": [LINK, LINK]}, BmcRefused, 30.0),
        ("/redfish/v1/", (200, {}, b"<html>"), BmcRefused, 30.0),
        ("/redfish/v1/", (200, {}, b"[" * 100_000), BmcRefused, 30.0),
        ("/redfish/v1/", drip, BmcNotAnswering, 3.0),
    ],
    ids=["redirect", "other scheme", "other address", "two systems", "no json", "deep", "drip"],
)
async def test_what_misbehaves_is_a_failure_and_gets_no_secret_elsewhere(
    answering: Answering, path: str, answer: Any, failure: type[Failure], word_seconds: float
) -> None:
    answering.answers[path] = answer
    with pytest.raises(failure) as failed:
        await asked(answering.bmc, Children(1, word_seconds=word_seconds))
    assert answering.bmc.password not in str(failed.value)


async def test_without_a_fingerprint_the_certificate_must_verify(answering: Answering, tmp_path: Path) -> None:
    unpinned = replace(answering.bmc, fingerprint="")
    with pytest.raises(BmcNotTrusted, match=answering.bmc.fingerprint):
        await asked(unpinned, Children(1))
    assert answering.heard == []  # not even the user's name
    with pytest.raises(BmcRefused):
        await asked(unpinned, Children(1, tmp_path / "ca.pem"))
    assert {one["path"] for one in answering.heard} >= {"/redfish/v1/"}


async def test_proxies_and_netrc_of_the_environment_do_not_count(
    answering: Answering, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(BmcRefused):
        await asked(answering.bmc, Children(1))
    assert answering.heard != []
