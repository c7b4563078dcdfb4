"""EFI programs for the tests: whole, signed by an authority of ours, with the sections that shim and GRUB have."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

_START, _SECTIONS_AT = 0x40, 0x40 + 24 + 240
_DATA_AT = 0x400
_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Authority:
    """Signs programs by a signer of its own."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    signer_key: ec.EllipticCurvePrivateKey
    signer: x509.Certificate

    def signature(self, digest: bytes) -> bytes:
        builder = pkcs7.PKCS7SignatureBuilder().set_data(digest).add_signer(self.signer, self.signer_key, SHA256())
        return builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])


def authority(name: str) -> Authority:
    key, signer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    own = _certificate(name, key, name, key)
    return Authority(name, key, own, signer_key, _certificate(f"{name} signer", signer_key, name, key))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject, by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(_AT).not_valid_after(_AT + timedelta(days=9000)).sign(issuer_key, SHA256())


def unsigned(sections: Mapping[str, bytes]) -> bytearray:
    """Names beyond eight letters stand in the table of names, as in shim."""
    names, bodies, table = b"\0\0\0\0", b"", b""
    at = _DATA_AT
    for name, body in sections.items():
        short = name.encode()
        if len(short) > 8:
            short, names = f"/{len(names)}".encode(), names + name.encode() + b"\0"
        table += struct.pack("<8sIIII16x", short, len(body), 0x1000, len(body), at)
        bodies, at = bodies + body, at + len(body)
    head = struct.pack("<HHIIIHH", 0x8664, len(sections), 0, at, 0, 240, 0x22)
    optional = struct.pack("<H106xI128x", 0x20B, 16)
    whole = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", _START) + b"PE\0\0" + head + optional
    assert len(whole) == _SECTIONS_AT
    whole = (whole + table).ljust(_DATA_AT, b"\0") + bodies + names
    return bytearray(whole.ljust(-(-len(whole) // 8) * 8, b"\0"))


def signed(sections: Mapping[str, bytes], *authorities: Authority) -> bytes:
    data = unsigned(sections)
    checksum, entry = _START + 24 + 64, _START + 24 + 112 + 32
    digest = hashlib.sha256(data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 :]).digest()
    table = b""
    for each in authorities:
        body = each.signature(digest)
        size = 8 + len(body)
        table += (struct.pack("<IHH", size, 0x200, 2) + body).ljust(-(-size // 8) * 8, b"\0")
    struct.pack_into("<II", data, entry, len(data), len(table))
    return bytes(data) + table


def shim(vendor: Authority, *signers: Authority, grub: int = 5) -> bytes:
    der = vendor.certificate.public_bytes(Encoding.DER)
    return signed(
        {
            ".text": b"shim" * 50,
            ".vendor_cert": struct.pack("<IIII", len(der), 0, 16, 16 + len(der)) + der,
            ".sbatlevel": struct.pack("<III", 0, 8, 8) + f"sbat,1,2025021800\nshim,4\ngrub,{grub}\n".encode() + b"\0",
            ".sbat": b"sbat,1,SBAT Version,sbat,1,https://x\nshim,4,UEFI shim,shim,1,x\nshim.d,1,D,shim,16.1,x\n",
        },
        *signers,
    )


def grub(*signers: Authority, generation: int = 5, sbat: bool = True) -> bytes:
    rows = f"sbat,1,SBAT Version,sbat,1,x\ngrub,{generation},FSF,grub,2.12,x\n".encode()
    return signed({".text": b"grub" * 50, **({".sbat": rows + bytes(100)} if sbat else {})}, *signers)
