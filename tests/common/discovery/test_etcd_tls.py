"""etcd over mutual TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.clock import SystemClock
from common.discovery.etcd import EtcdRegistry
from common.discovery.etcd_client import EtcdOptions
from common.errors import Unavailable
from tests.engines.etcd import EtcdEngine, etcd_engine
from tests.engines.fixtures import running

pytestmark = pytest.mark.engine("etcd")


class Authority:
    """A certificate authority that lasts for one test."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key, for both ends of a connection on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = self._builder(subject, key).add_extension(uses, False).add_extension(address, False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM), private

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)  # noqa: TID251  etcd looks at the machine's clock
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )


@pytest.fixture
def authority() -> Authority:
    return Authority("test authority")


@pytest.fixture
def secured_etcd(authority: Authority, tmp_path: Path) -> Iterator[EtcdEngine]:
    certificate, key = authority.issue("etcd")
    for name, content in (("ca.pem", authority.pem), ("cert.pem", certificate), ("key.pem", key)):
        (tmp_path / name).write_bytes(content)
    options = ["--client-cert-auth", "--trusted-ca-file", str(tmp_path / "ca.pem")]
    options += ["--cert-file", str(tmp_path / "cert.pem"), "--key-file", str(tmp_path / "key.pem")]
    with running("etcd", etcd_engine(options=options, scheme="https")) as engine:
        yield engine


@pytest.fixture
async def open_registry(secured_etcd: EtcdEngine) -> AsyncIterator[Callable[..., EtcdRegistry]]:
    opened: list[EtcdRegistry] = []

    def open_one(**options: Any) -> EtcdRegistry:
        opened.append(EtcdRegistry(EtcdOptions(secured_etcd.endpoints, operation_seconds=1, **options), SystemClock()))
        return opened[-1]

    yield open_one
    for registry in opened:
        await registry.close()


async def test_a_client_with_a_certificate_registers_watches_and_leads(
    open_registry: Callable[..., EtcdRegistry], authority: Authority
) -> None:
    certificate, key = authority.issue("host/e1")
    registry = open_registry(ca_pem=authority.pem, certificate_pem=certificate, key_pem=key)
    async with registry.register("/os/east/hosts/e1", b"alive", 5), registry.lock("duty", 5):
        assert await registry.list("/os/east/") == {"/os/east/hosts/e1": b"alive"}
        changes = registry.watch("/os/east/")
        assert (await anext(changes)).value == b"alive"
        await changes.aclose()


async def test_a_client_without_a_certificate_of_the_authority_gets_nothing(
    open_registry: Callable[..., EtcdRegistry], authority: Authority
) -> None:
    certificate, key = Authority("stranger").issue("host/e1")
    strangers = (
        open_registry(ca_pem=authority.pem),
        open_registry(ca_pem=authority.pem, certificate_pem=certificate, key_pem=key),
        open_registry(),
    )
    for registry in strangers:
        with pytest.raises(Unavailable):
            await registry.list("/os/")


async def test_a_server_that_the_authority_does_not_know_is_not_talked_to(
    open_registry: Callable[..., EtcdRegistry], authority: Authority
) -> None:
    certificate, key = authority.issue("host/e1")
    registry = open_registry(ca_pem=Authority("another").pem, certificate_pem=certificate, key_pem=key)
    with pytest.raises(Unavailable):
        await registry.list("/os/")
