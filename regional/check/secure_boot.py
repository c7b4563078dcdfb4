"""Whether what is served for Secure Boot would run: firmware to shim to GRUB, each believing the next; pure.

Firmware runs what Microsoft signed, which is shim; shim runs what its distribution signed, and nothing that is older
than the level it carries (shim's SBAT.md). A file of another distribution, of another version or cut off is refused
by the machine with a line on its screen, which nobody reads.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from regional.check.model import Finding, ok, warning, wrong
from regional.check.programs import NotAProgram, Program, program

STEP = "secure boot"
_FROM = (
    "take both from the same release of the same distribution: Debian's packages shim-signed and grub-efi-amd64-signed"
)


def judged(shim_name: str, shim: bytes | None, grub_name: str, grub: bytes | None) -> list[Finding]:
    """None: it is not there."""
    if shim is None:
        action = f"where machines have it switched on, publish shim as {shim_name} and GRUB as {grub_name}; {_FROM}"
        return [warning(STEP, "no shim is served, so machines with Secure Boot switched on do not boot", action)]
    first = _program(shim_name, shim)
    if isinstance(first, Finding):
        return [first]
    if grub is None:
        return [wrong(STEP, f"{shim_name} is there, and {grub_name}, which it loads, is not", _FROM)]
    second = _program(grub_name, grub)
    if isinstance(second, Finding):
        return [second]
    trouble = _refused(shim_name, first, grub_name, second)
    if trouble is not None:
        return [trouble]
    authorities = ", ".join(dict.fromkeys(name for each in first.signatures for name in each.authorities))
    return [
        ok(STEP, f"{shim_name}{_version(first)} is signed by {authorities}"),
        ok(STEP, f"{grub_name}{_version(second)} is one that this shim runs"),
    ]


def _program(name: str, data: bytes) -> Program | Finding:
    try:
        found = program(data)
    except NotAProgram as failure:
        return wrong(STEP, f"{name}: {failure.detail}", "publish it again, whole")
    if not found.signatures:
        return wrong(STEP, f"{name} is not signed", f"use the signed one: {_FROM}")
    if not found.fits:
        action = "publish the package's own file again; nothing may be changed in it"
        return wrong(STEP, f"{name} is not what was signed: it was changed, or damaged", action)
    return found


def _refused(shim_name: str, shim: Program, grub_name: str, grub: Program) -> Finding | None:
    vendor = shim.vendor
    if ".vendor_cert" not in shim.sections:
        return wrong(STEP, f"{shim_name} is no shim", _FROM)
    if vendor is not None and not any(_issued(each, vendor) for one in grub.signatures for each in one.certificates):
        signers = ", ".join(name for each in grub.signatures for name in each.authorities)
        trusted = vendor.subject.rfc4514_string()
        return wrong(STEP, f"{grub_name} is signed by {signers}, and {shim_name} believes {trusted} alone", _FROM)
    if not grub.sbat:
        return wrong(STEP, f"{grub_name} has no SBAT section, so shim refuses it", _FROM)
    for component, least in shim.level.items():
        generation = grub.sbat.get(component, (least, ""))[0]
        if generation < least:
            why = f"its {component} is of generation {generation}, and {shim_name} wants {least}"
            return wrong(STEP, f"{grub_name} is revoked: {why}", _FROM)
    return None


def _issued(certificate: x509.Certificate, vendor: x509.Certificate) -> bool:
    if certificate == vendor:
        return True
    try:
        certificate.verify_directly_issued_by(vendor)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _version(found: Program) -> str:
    """As its last maker says."""
    versions = [version for _, version in found.sbat.values() if version]
    return f" ({versions[-1]})" if versions else ""
