"""Identities on disk and names in certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.tls import CertificateInvalid, Identity, Name, certificate_name, new_key_and_request


def certificate_for(*names: x509.GeneralName) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_name_reads_back_as_it_prints() -> None:
    for name in (Name("east", "host", "h1"), Name("west", "regional", "r1")):
        assert Name.parse(name.uri()) == name


@pytest.mark.parametrize(
    "uri", ["", "longshore://idc/east/admin/x", "longshore://idc/east/host", "https://idc/east/host/x", "longshore://"]
)
def test_other_uris_are_no_names(uri: str) -> None:
    with pytest.raises(CertificateInvalid, match="enrol again"):
        Name.parse(uri)


def test_the_name_of_a_certificate_is_its_longshore_uri() -> None:
    uri = x509.UniformResourceIdentifier("longshore://idc/east/host/h1")
    assert certificate_name(certificate_for(x509.DNSName("x"), uri)) == Name("east", "host", "h1")


def test_a_certificate_without_our_uri_names_nobody() -> None:
    for pem in (certificate_for(), certificate_for(x509.DNSName("host"))):
        with pytest.raises(CertificateInvalid):
            certificate_name(pem)


def test_an_identity_reads_back_and_its_key_is_private(tmp_path: Path) -> None:
    key_pem, request_pem = new_key_and_request()
    assert x509.load_pem_x509_csr(request_pem).is_signature_valid
    uri = x509.UniformResourceIdentifier("longshore://idc/east/host/h1")
    identity = Identity(key_pem, certificate_for(uri), certificate_for())
    assert Identity.load(tmp_path) is None
    identity.save(tmp_path)
    assert Identity.load(tmp_path) == identity
    assert (tmp_path / "identity.pem").stat().st_mode & 0o077 == 0


def test_a_damaged_identity_says_how_to_get_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "identity.pem").write_text("half a k")
    (tmp_path / "ca.pem").write_text("")
    with pytest.raises(CertificateInvalid, match="enrol again"):
        Identity.load(tmp_path)
