"""EFI programs as a Secure Boot path reads them: sections, signatures, and who signed; pure.

Microsoft's "Windows Authenticode Portable Executable Signature Format" and "PE Format". Invariant: whatever the bytes
are, they are a program or `NotAProgram`. That a signature is genuine is for firmware to say; what is seen here is
whether it was made for these very bytes, and by whom.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from common.errors import Invalid

_PE32_PLUS = 0x20B
_OPTIONAL_SIZE, _SECTION_SIZE, _SYMBOL_SIZE = 24, 40, 18
_CHECKSUM_AT = 64
_CERTIFICATES_ENTRY = 4
_SIGNED_DATA = 2


class NotAProgram(Invalid):
    code = "not_an_efi_program"


@dataclass(frozen=True, slots=True)
class Signature:
    """`fits`: it was made for this file, as it is. `certificates` that came with it; none if they cannot be read."""

    fits: bool
    certificates: tuple[x509.Certificate, ...]

    @property
    def authorities(self) -> tuple[str, ...]:
        """Who issued the signer's certificate."""
        issuers = {each.issuer for each in self.certificates}
        signers = [each for each in self.certificates if each.subject not in issuers] or list(self.certificates)
        return tuple(_common_name(each.issuer) for each in signers)


@dataclass(frozen=True)
class Program:
    sections: Mapping[str, bytes]
    signatures: tuple[Signature, ...]

    @property
    def fits(self) -> bool:
        """Its signatures, if there are any, are of this file."""
        return all(each.fits for each in self.signatures)

    @cached_property
    def sbat(self) -> dict[str, tuple[int, str]]:
        """Generation and version by component (shim's SBAT.md)."""
        rows = (line.split(",") for line in _text(self.sections.get(".sbat", b"")).splitlines())
        return {row[0]: (int(row[1]), row[4]) for row in rows if len(row) >= 5 and row[1].isdigit()}

    @cached_property
    def level(self) -> dict[str, int]:
        """Of shim: the least generation of each component that it runs, where nothing newer was written into the
        machine (`.sbatlevel`: a version, then offsets of the level of its own and of the latest).
        """
        section = self.sections.get(".sbatlevel", b"")
        if len(section) < 12:
            return {}
        rows = (line.split(",") for line in _text(section[4 + struct.unpack_from("<I", section, 4)[0] :]).splitlines())
        return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}

    @cached_property
    def vendor(self) -> x509.Certificate | None:
        """Of shim: whose programs it runs (`.vendor_cert`: sizes of the allowed and of the refused, then offsets)."""
        section = self.sections.get(".vendor_cert", b"")
        if len(section) < 16:
            return None
        size, _, start, _ = struct.unpack_from("<IIII", section)
        try:
            return x509.load_der_x509_certificate(section[start : start + size])
        except ValueError:
            return None  # a list of several, as some vendors have


def program(data: bytes) -> Program:
    """Raises `NotAProgram`."""
    try:
        return _program(data)
    except (struct.error, IndexError, OverflowError) as error:
        raise NotAProgram(f"the file is cut off, or no EFI program: {error}") from error


def _program(data: bytes) -> Program:
    start = struct.unpack_from("<I", data, 0x3C)[0]
    if not data.startswith(b"MZ") or data[start : start + 4] != b"PE\0\0":
        raise NotAProgram("the file does not begin as an EFI program does")
    optional = start + _OPTIONAL_SIZE
    directories = optional + (112 if struct.unpack_from("<H", data, optional)[0] == _PE32_PLUS else 96)
    if struct.unpack_from("<I", data, directories - 4)[0] <= _CERTIFICATES_ENTRY:
        return Program(dict(_sections(data, start)), ())
    entry = directories + 8 * _CERTIFICATES_ENTRY
    at, size = struct.unpack_from("<II", data, entry)
    if at + size > len(data):
        raise NotAProgram(f"the file is cut off: {len(data)} bytes, and its signature ends at {at + size}")
    checksum = optional + _CHECKSUM_AT
    end = at or len(data)
    digest = hashlib.sha256(data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : end]).digest()
    return Program(dict(_sections(data, start)), tuple(_signatures(data[at : at + size] if at else b"", digest)))


def _sections(data: bytes, start: int) -> Iterator[tuple[str, bytes]]:
    count, symbols, number, optional_size = struct.unpack_from("<H4xIIH", data, start + 6)
    names = symbols + number * _SYMBOL_SIZE
    table = start + _OPTIONAL_SIZE + optional_size
    for at in range(table, table + count * _SECTION_SIZE, _SECTION_SIZE):
        name = data[at : at + 8].rstrip(b"\0")
        if name[:1] == b"/" and name[1:].isdigit():  # longer than eight: in the table of names
            name = data[names + int(name[1:]) :][:64].partition(b"\0")[0]
        size, _, stored, where = struct.unpack_from("<IIII", data, at + 8)
        yield name.decode("ascii", "replace"), data[where : where + min(size, stored)]


def _signatures(table: bytes, digest: bytes) -> Iterator[Signature]:
    at = 0
    while at + 8 <= len(table):
        size, _, kind = struct.unpack_from("<IHH", table, at)
        if size < 8:
            return
        if kind == _SIGNED_DATA:
            signed = _without_padding(table[at + 8 : at + size])
            yield Signature(digest in signed, _certificates(signed))
        at += (size + 7) & ~7


def _certificates(signed: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(pkcs7.load_der_pkcs7_certificates(signed))
    except ValueError:
        return ()


def _without_padding(der: bytes) -> bytes:
    """A DER sequence says how long it is (X.690 section 8.1.3)."""
    if len(der) < 2 or der[1] < 0x80:
        return der
    count = der[1] & 0x7F
    return der[: 2 + count + int.from_bytes(der[2 : 2 + count], "big")]


def _text(section: bytes) -> str:
    return section.partition(b"\0")[0].decode("ascii", "replace")


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
