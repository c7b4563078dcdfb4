"""Firmware to shim to GRUB: what a machine with Secure Boot switched on would refuse is said before it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.check.clients import Kind
from regional.check.model import Finding, Level
from regional.check.programs import NotAProgram, Program, program
from regional.check.secure_boot import judged
from tests.engines import boot_kernel

from . import efi
from .test_play import Site, running_site

MICROSOFT, NEWER, DEBIAN, OTHER = map(efi.authority, ("UEFI CA 2011", "UEFI CA 2023", "Debian CA", "Other CA"))
SHIM, GRUB = efi.shim(DEBIAN, MICROSOFT, NEWER), efi.grub(DEBIAN)


def said(shim: bytes | None, grub: bytes | None) -> list[Finding]:
    return judged("static/shimx64.efi", shim, "static/grubx64.efi", grub)


def test_what_fits_is_said_with_its_versions_and_who_signed_it() -> None:
    findings = said(SHIM, GRUB)
    assert [each.level for each in findings] == [Level.OK, Level.OK]
    assert findings[0].words == "static/shimx64.efi (16.1) is signed by UEFI CA 2011, UEFI CA 2023"
    assert findings[1].words == "static/grubx64.efi (2.12) is one that this shim runs"


def test_a_rack_without_it_is_told_what_it_cannot_boot() -> None:
    (finding,) = said(None, None)
    assert finding.level is Level.WARNING
    assert "machines with Secure Boot switched on do not boot" in finding.words


@pytest.mark.parametrize(
    ("shim", "grub", "words"),
    [
        (SHIM, None, "grubx64.efi, which it loads, is not"),
        (b"MZ" + bytes(1_000_000), GRUB, "shimx64.efi: the file"),
        (SHIM[:-100], GRUB, "cut off"),
        (SHIM, GRUB[: len(GRUB) // 2], "cut off"),
        (bytes(efi.unsigned({".text": b"x"})), GRUB, "shimx64.efi is not signed"),
        (SHIM, bytes(efi.unsigned({".text": b"x"})), "grubx64.efi is not signed"),
        (SHIM.replace(b"shimshim", b"shimSHIM", 1), GRUB, "shimx64.efi is not what was signed"),
        (SHIM, GRUB.replace(b"grubgrub", b"grubGRUB", 1), "grubx64.efi is not what was signed"),
        (GRUB, GRUB, "is no shim"),
        (SHIM, efi.grub(OTHER), "is signed by Other CA, and static/shimx64.efi believes CN=Debian CA alone"),
        (SHIM, efi.grub(DEBIAN, generation=4), "its grub is of generation 4, and static/shimx64.efi wants 5"),
        (SHIM, efi.grub(DEBIAN, sbat=False), "no SBAT section"),
    ],
)
def test_what_would_be_refused_is_said(shim: bytes, grub: bytes | None, words: str) -> None:
    (finding,) = said(shim, grub)
    assert finding.level is Level.WRONG
    assert words in finding.words


def test_the_distributions_own_files_fit() -> None:
    if not boot_kernel.installed():
        pytest.skip("python -m tests.engines.install netboot")
    findings = said(boot_kernel.SHIM.read_bytes(), boot_kernel.GRUB.read_bytes())
    assert [each.level for each in findings] == [Level.OK, Level.OK], findings
    assert "Microsoft" in findings[0].words


def test_an_authority_may_sign_a_program_itself() -> None:
    direct = efi.Authority(DEBIAN.name, DEBIAN.key, DEBIAN.certificate, DEBIAN.key, DEBIAN.certificate)
    assert [each.level for each in said(SHIM, efi.grub(direct))] == [Level.OK, Level.OK]


@given(st.data())
def test_any_bytes_are_a_program_or_not_one(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from((SHIM, GRUB))))
    for _ in range(data.draw(st.integers(1, 8))):
        # Where the lengths and offsets stand, and anywhere.
        at = data.draw(st.one_of(st.integers(0, 0x3FF), st.integers(0, len(whole) - 1)))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(whole))))
    try:
        found = program(bytes(whole[:cut]))
        assert isinstance(found, Program)
        assert found.sbat is not None
        assert found.level is not None
        said(bytes(whole[:cut]), GRUB)
        said(SHIM, bytes(whole[:cut]))
    except NotAProgram:
        pass


async def _findings(site: Site, kind: Kind = Kind.UEFI) -> list[Finding]:
    return (await site.findings(kind)).get("secure boot", [])


async def test_what_is_served_is_fetched_and_judged(tmp_path: Path) -> None:
    async with running_site(tmp_path / "root") as site:
        assert [each.level for each in await _findings(site)] == [Level.WARNING]
        (site.root / "static/shimx64.efi").write_bytes(SHIM)
        (site.root / "static/grubx64.efi").write_bytes(GRUB)
        (finding,) = await site.wrong(Kind.UEFI)
        assert "has no grub/grub.cfg" in finding.words
        (site.root / "grub").mkdir()
        (site.root / "grub/grub.cfg").write_text("exit\n")
        assert [each.level for each in await _findings(site)] == [Level.OK] * 3
        assert [each.level for each in await _findings(site, Kind.UEFI_ARM)] == [Level.WARNING]
        site.tftp = 1
        assert await _findings(site) == []
