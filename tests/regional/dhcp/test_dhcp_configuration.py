"""The file of networks: what it means, and what it refuses by name."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.lifecycle import Lifecycle
from regional.boot_targets import Asker, BootFile, Firmware
from regional.dhcp.assembly import start_dhcp
from regional.dhcp.configuration import DhcpConfigurationInvalid, load_file, proxy_on
from regional.metrics import Metrics
from regional.settings import RegionalSettings

from .packets import ip

WHOLE = """
[boot]
script = "https://boot.example/{mac}"
loaders = { uefi-x64 = "shimx64.efi" }
architectures = { 7 = "by-number.efi", 36 = "sunway" }
[boot.machines."52-54-00-12-34-56"]
bios = "pxelinux.0"
[boot.makers."52-54-00"]
uefi-x64 = "qemu.efi"

[[subnets]]
network = "10.77.0.0/24"
interface = "eth1"
pools = [
  { first = "10.77.0.10", last = "10.77.0.20" },
  { first = "10.77.0.30", last = "10.77.0.40", known_only = true },
]
routers = ["10.77.0.254"]
options = { 150 = "0x0a4d0001", 209 = "conf" }
[[subnets.reservations]]
uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
address = "10.77.0.99"

[[subnets]]
network = "10.78.0.0/16"
pools = [{ first = "10.78.0.10", last = "10.78.200.20" }]
server = "10.77.0.2"
"""


def loaded(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dhcp.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    file = load_file(loaded(tmp_path, WHOLE))
    subnets = file.subnet_set(IPv4Address("10.77.0.1"))
    near, far = subnets.every
    assert (near.server, near.probe, far.server, far.probe) == (ip("10.77.0.1"), True, ip("10.77.0.2"), False)
    assert (near.options[150], near.options[209], near.options[1]) == (b"\x0a\x4d\0\1", b"conf", b"\xff\xff\xff\0")
    assert near.reservations[0].uuid == bytes(range(16))
    assert not near.authoritative
    assert subnets.interfaces == ("eth1",)
    boot = file.boot_map("http://10.77.0.1:8081")
    mac = "52:54:00:12:34:56"
    assert boot.file_for(Asker(mac, (7,))) == BootFile("qemu.efi")
    assert boot.file_for(Asker("02:00:00:00:00:01", (7,))) == BootFile("by-number.efi")
    assert boot.file_for(Asker("02:00:00:00:00:01", (9,))) == BootFile("shimx64.efi")
    assert boot.file_for(Asker("02:00:00:00:00:01", (36,))) == BootFile("sunway")
    assert boot.file_for(Asker(mac, (0,))) == BootFile("pxelinux.0")
    assert boot.file_for(Asker("", (16,), http=True)) == BootFile("http://10.77.0.1:8081/shimx64.efi", url=True)
    assert boot.file_for(Asker(mac, (0,), ipxe=True)) == BootFile("https://boot.example/52-54-00-12-34-56", url=True)
    assert boot.loaders[Firmware.BIOS] == "static/undionly.kpxe"


def test_without_a_file_there_are_boot_files_on_one_interface() -> None:
    (only,) = proxy_on("eth7").subnet_set(IPv4Address("10.0.0.1")).every
    assert (only.proxy, only.interface, list(only.pools)) == (True, "eth7", [])


@pytest.mark.parametrize("address", ["127.0.0.1", "fd00::1"])
async def test_an_address_that_machines_cannot_reach_is_refused(tmp_path: Path, address: str) -> None:
    regional = RegionalSettings(idc="east", server_ip=address, enable_dhcp=True, data=tmp_path)
    async with Lifecycle() as lifecycle:
        with pytest.raises(DhcpConfigurationInvalid, match="--server-ip"):
            await start_dhcp(regional, lifecycle, SystemClock(), Metrics(), 8081)


NET = '[[subnets]]\nnetwork = "10.0.0.0/24"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no subnet"),
        ("subnets = 3", "subnets"),
        ("]", "cannot be read"),
        (NET + "poools = []", "poools"),
        (NET + 'pools = [{first = "10.0.1.1", last = "10.0.1.2"}]', "not a range"),
        (NET + 'pools = [{first = "10.0.0.9", last = "10.0.0.2"}]', "not a range"),
        (NET + 'pools = [{first="10.0.0.2", last="10.0.0.9"}, {first="10.0.0.9", last="10.0.0.10"}]', "covers another"),
        (NET + 'reservations = [{mac = "nonsense"}]', "no MAC"),
        (NET + 'reservations = [{address = "10.0.0.2"}]', "needs mac"),
        (NET + 'reservations = [{mac = "52:54:00:00:00:01", address = "10.9.0.2"}]', "not in 10.0.0.0/24"),
        (NET + 'reservations = [{mac = "52:54:00:00:00:01", host_name = "a b"}]', "host_name"),
        (NET + 'reservations = [{client_id = "xy"}]', "client_id|hex"),
        (NET + "options = { 300 = 'x' }", "1 to 254"),
        (NET + NET, "overlap"),
        (NET + "lease_seconds = 1", "lease_seconds"),
        (NET + '[boot.machines."x"]\nbios = "y"', "no MAC"),
        (NET + '[boot.makers."525400"]\nbios = "y"', "no MAC"),
        (NET + "other_servers = ['x']", "other_servers"),
        (NET + "keep_percent = 101", "keep_percent"),
        (NET + "[boot.loaders]\nzx81 = 'y'", "loaders"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DhcpConfigurationInvalid, match=words):
        load_file(loaded(tmp_path, text))


def test_options_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    for line in ("options = { 150 = '0xzz' }", "search = ['a..b']"):
        file = load_file(loaded(tmp_path, NET + line))
        with pytest.raises(DhcpConfigurationInvalid, match="DHCP configuration"):
            file.subnet_set(IPv4Address("10.0.0.1"))
    with pytest.raises(DhcpConfigurationInvalid, match="cannot be read"):
        load_file(tmp_path / "none")
