"""The play against real TFTP and HTTP, whole and with each thing broken on purpose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from common.clock import SystemClock
from common.lifecycle import Lifecycle
from regional.admission import Admission, networks_of
from regional.check.asking import CannotAsk
from regional.check.clients import USUAL, Kind
from regional.check.loading import Loading
from regional.check.model import Finding, Level
from regional.check.play import play
from regional.dhcp.packet import Packet
from regional.files import Files
from regional.metrics import Metrics
from regional.serving import listening, watch
from regional.tftp.boot_files import Directory
from regional.tftp.metrics import TftpMetrics
from regional.tftp.server import TftpServer, serving
from regional.tftp.terms import Limits, ServerLimits
from regional.tree import create_tree
from regional.web import Health

SCRIPT = (
    "#!ipxe\n:again\nchain --autofree --replace {base}/boot/next.ipxe?serial=${{serial:uristring}} ||\ngoto again\n"
)
NEXT = """#!ipxe
initrd --name initrd0 {base}/static/initramfs/i.gz || goto again
kernel {base}/static/kernels/k initrd=initrd0 url=http://x/y || goto again
boot
"""


class Site:
    """Everything that a rack needs, on loopback; `attached` and `script` can be changed."""

    def __init__(self, root: Path) -> None:
        self.root, self.attached = root, True
        self.http, self.tftp, self.base = 0, 0, ""
        self.scripts = {"/boot/02-4c-53-43-48-4b.ipxe": SCRIPT, "/boot/next.ipxe": NEXT}

    async def script(self, request: web.Request) -> web.Response:
        return web.Response(text=self.scripts[request.path].format(base=self.base))

    async def findings(self, *kinds: Kind, base: str | None = None) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            async for finding in play(None, Loading(http, 0.3, self.tftp), kinds or USUAL, base or self.base):
                found.setdefault(finding.step, []).append(finding)
        return found

    async def wrong(self, *kinds: Kind, base: str | None = None) -> list[Finding]:
        found = await self.findings(*kinds, base=base)
        return [finding for findings in found.values() for finding in findings if finding.level is Level.WRONG]


@asynccontextmanager
async def running_site(root: Path, *, networks: str = "") -> AsyncIterator[Site]:
    create_tree(root)
    for name, data in (
        ("undionly.kpxe", b"\xea" * 70_000), ("ipxe.efi", b"MZ" + bytes(1_000_000)),
        ("kernels/k", b"kernel"), ("initramfs/i.gz", b"initrd"),
    ):  # fmt: skip
        (root / "static" / name).write_bytes(data)
    site, clock, metrics = Site(root), SystemClock(), Metrics()
    app = web.Application(middlewares=[watch(clock, metrics), Admission(clock, networks_of(networks)).middleware()])
    app.add_routes([*Files(root, clock).routes(), *Health(metrics, lambda: site.attached).routes()])
    app.add_routes([web.get(path, site.script) for path in site.scripts])
    limits = ServerLimits(100, 100, False, Limits(1468, 64, 0))
    server = TftpServer(Directory(root), limits, clock, random.Random(1).random, TftpMetrics(CollectorRegistry()))
    async with Lifecycle() as lifecycle:
        site.tftp = await lifecycle.enter(serving(server, "127.0.0.1", 0, lifecycle.spawn))
        site.http = await lifecycle.enter(listening(app, "127.0.0.1", 0))
        site.base = f"http://127.0.0.1:{site.http}"
        yield site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path / "root") as subject:
        yield subject


async def test_a_rack_that_boots_has_nothing_wrong(site: Site) -> None:
    found = await site.findings()
    # Not every rack has machines with Secure Boot.
    assert [finding.level for finding in found.pop("secure boot")] == [Level.WARNING]
    assert {finding.level for findings in found.values() for finding in findings} == {Level.OK}
    assert set(found) == {"tftp bios", "tftp uefi", "http uefi-http", "http ipxe", "http regional"}
    words = " ".join(finding.words for finding in found["http ipxe"])
    assert "/boot/next.ipxe?serial= is a script" in words
    assert "/static/kernels/k is there" in words
    assert "/static/initramfs/i.gz is there" in words
    assert "http://x/y" not in words


async def test_a_missing_loader_is_named_with_where_it_comes_from(site: Site) -> None:
    (site.root / "static/ipxe.efi").unlink()
    tftp, http = await site.wrong(Kind.UEFI, Kind.HTTP)
    assert "has no static/ipxe.efi" in tftp.words
    assert "longshore-regional publish /usr/lib/ipxe/ipxe.efi static/ipxe.efi" in tftp.action
    assert "answers 404" in http.words


@pytest.mark.parametrize(
    ("kind", "name", "data", "words"),
    [
        (Kind.UEFI, "ipxe.efi", b"", "is empty"),
        (Kind.UEFI, "ipxe.efi", b"<html>", "no EFI program"),
        (Kind.HTTP, "ipxe.efi", b"<html>", "no EFI program"),
        (Kind.BIOS, "undionly.kpxe", b"MZ and more", "BIOS runs none"),
    ],
)
async def test_a_loader_that_is_none_is_seen(site: Site, kind: Kind, name: str, data: bytes, words: str) -> None:
    (site.root / "static" / name).write_bytes(data)
    (finding,) = await site.wrong(kind)
    assert words in finding.words


async def test_a_loader_that_is_still_copied_is_said_to_be(site: Site) -> None:
    with (site.root / "static/ipxe.efi").open("ab"):
        (finding,) = await site.wrong(Kind.HTTP)
    assert "answers 503" in finding.words
    assert "publish" in finding.action


async def test_tftp_that_is_not_there_is_told_from_a_missing_file(site: Site) -> None:
    site.tftp = 1
    (finding,) = await site.wrong(Kind.BIOS)
    assert "did not answer TFTP" in finding.words
    assert "--enable-tftp" in finding.action


async def test_http_that_is_not_there_is_said_once_for_each_way_to_it(site: Site) -> None:
    wrong = await site.wrong(Kind.HTTP, Kind.IPXE, base="http://127.0.0.1:1")
    assert [finding.step for finding in wrong] == ["http uefi-http", "http ipxe", "http regional"]
    assert all("--server-ip" in finding.action for finding in wrong)


async def test_a_kernel_that_a_script_names_and_nobody_has_is_seen(site: Site) -> None:
    (site.root / "static/kernels/k").unlink()
    (finding,) = await site.wrong(Kind.IPXE)
    assert "/static/kernels/k answers 404" in finding.words


async def test_what_is_no_script_is_seen(site: Site) -> None:
    site.scripts["/boot/next.ipxe"] = "<html>"
    (finding,) = await site.wrong(Kind.IPXE)
    assert "no iPXE script" in finding.words


async def test_scripts_that_chain_in_a_circle_end(site: Site) -> None:
    site.scripts["/boot/next.ipxe"] = "#!ipxe\nchain {base}/boot/next.ipxe ||\n"
    async with asyncio.timeout(20):
        assert not await site.wrong(Kind.IPXE)


async def test_a_client_that_is_not_allowed_is_told_which_setting_says_so(tmp_path: Path) -> None:
    async with running_site(tmp_path / "root", networks="10.0.0.0/8") as site:
        wrong = await site.wrong(Kind.HTTP)
    assert all("answers 403" in finding.words and "allow_clients" in finding.action for finding in wrong)
    assert len(wrong) == 2


async def test_a_centre_that_is_away_is_a_warning(site: Site) -> None:
    site.attached = False
    found = await site.findings(Kind.BIOS)
    assert [finding.level for finding in found["http regional"]] == [Level.OK, Level.WARNING, Level.OK]


async def test_dhcp_that_cannot_be_asked_ends_the_play_with_what_to_do(site: Site) -> None:
    class Refused:
        async def offers(self, kind: Kind) -> list[Packet]:
            raise CannotAsk("DHCP cannot be asked for on eth9: No such device", action="name the interface")

    async with aiohttp.ClientSession() as http:
        said = [finding async for finding in play(Refused(), Loading(http, 0.3, site.tftp), USUAL, None)]
    assert [(finding.step, finding.action) for finding in said] == [("dhcp bios", "name the interface")]


def test_a_finding_is_a_line_that_people_read() -> None:
    line = Finding("dhcp bios", Level.WRONG, "nobody answered", "start it").line()
    assert line == "WRONG   dhcp bios         nobody answered\n                          do: start it"
