"""`longshore-regional check` and `publish` as commands: from another computer of the network, and from the same one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.fixtures import running
from tests.regional.dhcp.rack import CONFIGURATION, PROJECT, Rack, rack, regional
from tests.regional.test_process import run

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def network() -> Iterator[Rack]:
    with running("dhcp", rack()) as subject:
        subject.run(subject.machines, "ip", "addr", "replace", "10.77.0.200/24", "dev", "eth0")
        yield subject


async def check(
    network: Rack, *options: str, where: str = "machines", whole: bool = False
) -> dict[str, list[tuple[str, str]]]:
    """(level, words) by step."""
    # Without the rest of the regional, which takes a second to load.
    quick = (sys.executable, "-c", "from regional.check.command import app; app()")
    begin = (sys.executable, "-m", "regional", "check") if whole else quick
    command = (*begin, "--interface=eth0", "--wait=10", "--json", *options)
    namespace = network.regional if where == "regional" else network.machines
    process = await asyncio.create_subprocess_exec(
        *namespace.command_prefix, *command, cwd=PROJECT, env={"PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    findings = [json.loads(line) for line in said.splitlines()]
    assert (process.returncode == 1) == any(finding["level"] == "wrong" for finding in findings), said
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in findings:
        found.setdefault(finding["step"], []).append((finding["level"], finding["words"]))
    return found


async def test_a_real_rack_is_checked_whole_then_without_a_loader_then_without_anybody(
    network: Rack, tmp_path: Path
) -> None:
    configuration = tmp_path / "dhcp.toml"
    configuration.write_text(CONFIGURATION)
    options = (f"--dhcp-config={configuration}", "--enable-tftp")
    (tmp_path / "undionly.kpxe").write_bytes(b"\xea" * 70_000)
    async with regional(network.regional, tmp_path, *options):
        (tmp_path / "root/static/ipxe.efi").write_bytes(b"MZ" + bytes(1_000_000))
        target, static_root = "static/undionly.kpxe", ("--static-root", str(tmp_path / "root"))
        code, said = await run("publish", str(tmp_path / "undionly.kpxe"), target, *static_root)
        assert (code, said.strip()) == (0, str(tmp_path / "root" / target))
        found = await check(network, whole=True)
        levels = {step: {level for level, _ in findings} for step, findings in found.items()}
        assert levels.pop("http regional") == {"ok", "warning"}  # there is no centre here
        assert levels.pop("secure boot") == {"warning"}
        steps = ("dhcp bios", "tftp bios", "dhcp uefi", "tftp uefi", "dhcp uefi-http", "http uefi-http")
        assert levels == {step: {"ok"} for step in (*steps, "dhcp ipxe", "http ipxe")}
        assert found["dhcp bios"] == [("ok", "10.77.0.1 says: load static/undionly.kpxe")]
        (tmp_path / "root/static/ipxe.efi").unlink()
        found, same = await asyncio.gather(
            check(network, "--firmware=uefi"),
            # On the computer of the regional itself, whose own ports 67 and 69 are taken.
            check(network, "--firmware=bios", where="regional"),
        )
        assert found["tftp uefi"] == [("wrong", "10.77.0.1 has no static/ipxe.efi")]
        assert [same[step][0][0] for step in ("dhcp bios", "tftp bios")] == ["ok", "ok"]
    found = await check(network, "--firmware=bios", "--wait=1")
    assert found == {"dhcp bios": [("wrong", "nobody answered DHCP")]}


async def test_an_interface_that_is_not_there_is_said_without_a_traceback(network: Rack) -> None:
    found = await check(network, "--interface=none0")
    assert found["dhcp bios"][0][1].startswith("DHCP cannot be asked for on none0")


async def test_a_file_that_cannot_be_published_is_said_to_be(tmp_path: Path) -> None:
    code, said = await run("publish", str(tmp_path / "nothing"), "etc/passwd", "--static-root", str(tmp_path))
    assert code == 2
    assert "no place that is served" in said


async def test_ports_and_their_rights_are_listed() -> None:
    code, said = await run("check", "--ports")
    assert code == 0
    assert "CAP_NET_BIND_SERVICE" in said
