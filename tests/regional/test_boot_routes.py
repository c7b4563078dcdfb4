"""The script that iPXE asks for: nothing approved means the local disk."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from regional.boot_routes import BootRoutes, MacInvalid
from regional.boot_targets import mac_of
from regional.problems import status_of


async def test_a_machine_without_a_task_goes_to_its_disk() -> None:
    app = web.Application()
    app.add_routes(BootRoutes().routes())
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as http,
        http.get(server.make_url("/boot/52-54-00-12-34-56.ipxe")) as answer,
    ):
        text = await answer.text()
    assert text.startswith("#!ipxe\n")
    # UEFI goes on after `exit 1`; a plain `exit` hangs in its menu.
    assert "exit 1" in text
    assert status_of(MacInvalid("x")) == 400


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("52-54-00-AB-34-56", "52:54:00:ab:34:56"),
        ("52:54:00:ab:34:56", "52:54:00:ab:34:56"),
        ("52:54-00:ab:34:56", None),
        ("525400ab3456", None),
        ("52-54-00-ab-34", None),
        ("../../etc/passwd", None),
    ],
)
def test_addresses_are_read_with_hyphens_or_colons(text: str, mac: str | None) -> None:
    assert mac_of(text) == mac
