"""What offers mean to the firmware that is played: those of the real DHCP rules, and each broken on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regional.boot_targets import BootMap, Firmware
from regional.check.clients import FIRMWARE, Kind, discover
from regional.check.model import Level, Load
from regional.check.offers import judged
from regional.dhcp import options as o
from regional.dhcp.handler import Handler
from regional.dhcp.leases import LeaseBook
from regional.dhcp.packet import Packet, decode, encode
from regional.dhcp.subnets import Subnets
from tests.regional.dhcp.packets import HERE, book_of, ip, subnet

OTHER = ip("10.77.0.9")


def offer(kind: Kind) -> Packet:
    """As the regional's own rules make it, over the wire."""
    _, handler = book_of()
    answer = handler.handle(decode(encode(discover(kind, 7))), HERE, 0).answer
    assert answer is not None
    return decode(encode(answer))


def foreign(like: Packet, **changes: object) -> Packet:
    """Another server's."""
    options = {**like.options, o.SERVER_ID: o.address(OTHER), **changes.pop("options", {})}  # type: ignore[dict-item]
    return replace(like, siaddr=OTHER, options=options, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "load"),
    [
        (Kind.BIOS, Load("10.77.0.1", "static/undionly.kpxe")),
        (Kind.UEFI, Load("10.77.0.1", "static/ipxe.efi")),
        (Kind.UEFI_ARM, Load("10.77.0.1", "static/ipxe-arm64.efi")),
        (Kind.HTTP, Load("", "http://10.77.0.1:8081/static/ipxe.efi")),
        (Kind.IPXE, Load("", "http://10.77.0.1:8081/boot/02-4c-53-43-48-4b.ipxe")),
    ],
)
def test_what_a_regional_offers_is_well(kind: Kind, load: Load) -> None:
    findings, found = judged(kind, [offer(kind)])
    assert [finding.level for finding in findings] == [Level.OK]
    assert found == load


@pytest.mark.parametrize("kind", list(FIRMWARE))
def test_silence_is_said_to_be_silence(kind: Kind) -> None:
    findings, found = judged(kind, [])
    assert (findings[0].level, found) == (Level.WRONG, None)
    assert "--enable-dhcp" in findings[0].action


def test_an_address_without_a_boot_file_is_another_servers_or_a_missing_loader() -> None:
    subnets = Subnets((subnet(),))
    boot = BootMap("http://10.77.0.1:8081", "http://10.77.0.1:8081/boot/{mac}.ipxe", loaders={Firmware.UEFI_X64: "x"})
    answer = Handler(subnets, LeaseBook(subnets), boot).handle(discover(Kind.BIOS, 7), HERE, 0).answer
    assert answer is not None
    (finding,), found = judged(Kind.BIOS, [answer])
    assert (finding.level, found) == (Level.WRONG, None)
    assert "no boot file" in finding.words
    assert "proxy" in finding.action


def test_two_servers_that_give_addresses_are_both_named() -> None:
    own = offer(Kind.UEFI)
    findings, found = judged(Kind.UEFI, [own, foreign(own)])
    assert [finding.level for finding in findings] == [Level.WARNING, Level.OK]
    assert "10.77.0.1, 10.77.0.9" in findings[0].words
    assert found == Load("10.77.0.1", "static/ipxe.efi")


def test_a_proxy_beside_a_server_that_gives_addresses_is_well() -> None:
    own = offer(Kind.UEFI)
    without = {code: value for code, value in own.options.items() if code != o.BOOT_FILE}
    plain = replace(own, siaddr=0, file=b"", options={**without, o.SERVER_ID: o.address(OTHER)})
    findings, found = judged(Kind.UEFI, [plain, replace(own, yiaddr=0)])
    assert [finding.level for finding in findings] == [Level.OK]
    assert found == Load("10.77.0.1", "static/ipxe.efi")


def test_a_proxy_alone_leaves_machines_without_an_address() -> None:
    findings, _ = judged(Kind.UEFI, [replace(offer(Kind.UEFI), yiaddr=0)])
    assert findings[0].level is Level.WRONG
    assert "no address" in findings[0].words


def test_servers_that_contradict_each_other_are_told_apart() -> None:
    own = offer(Kind.UEFI)
    other = foreign(own, yiaddr=0, file=b"pxelinux.0", options={o.BOOT_FILE: b"pxelinux.0"})
    findings, _ = judged(Kind.UEFI, [own, other])
    assert "different boot files" in findings[0].words
    assert "10.77.0.9 says pxelinux.0" in findings[0].words


def test_ipxe_that_is_told_to_load_ipxe_is_a_loop() -> None:
    again = replace(offer(Kind.IPXE), file=b"", options={**offer(Kind.IPXE).options, o.BOOT_FILE: b"static/ipxe.efi"})
    findings, found = judged(Kind.IPXE, [again])
    assert (findings[-1].level, found) == (Level.WRONG, None)
    assert "for ever" in findings[-1].words


def test_firmware_that_boots_over_http_needs_the_word_and_a_url() -> None:
    own = offer(Kind.HTTP)
    wordless = replace(own, options={code: value for code, value in own.options.items() if code != o.VENDOR_CLASS})
    assert "HTTPClient" in judged(Kind.HTTP, [wordless])[0][-1].words
    by_tftp = replace(own, file=b"", options={**own.options, o.BOOT_FILE: b"static/ipxe.efi"})
    assert "no URL" in judged(Kind.HTTP, [by_tftp])[0][-1].words
