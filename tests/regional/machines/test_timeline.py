"""What was seen of a machine, and why it does not boot."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from regional.boot_targets import SELF_CHECK_MAC
from regional.dhcp.events import DhcpSeen
from regional.machines.device_routes import shell_lines
from regional.machines.ledger import Told
from regional.machines.model import Sighting
from regional.machines.queue import FORGET_SECONDS, BootQueue
from regional.machines.sightings import Sightings
from regional.machines.timeline import Timeline
from regional.machines.verdicts import Kind
from regional.tftp.events import TftpSeen

from .boots import running_site
from .rack import MAC

ADDRESS = "10.0.0.7"


def seen(verdict: str, *, ipxe: bool = False, file: str | None = "static/ipxe.efi") -> DhcpSeen:
    return DhcpSeen(MAC, verdict, "eth0", ADDRESS, UUID(int=7), True, ipxe, False, (7,), file)


def fetched(file: str, outcome: str = "completed", sent: int = 1000) -> TftpSeen:
    return TftpSeen(ADDRESS, file, outcome, sent)


def test_each_place_where_a_boot_stands_still_has_its_verdict() -> None:
    clock = ManualClock()
    line = Timeline(clock)
    steps: list[tuple[Callable[[], None], str]] = [
        (lambda: line.dhcp(seen("offer")), "another DHCP server was faster"),
        (lambda: line.dhcp(seen("ack")), "never fetched its loader"),
        (lambda: line.tftp(fetched("static/ipxe.efi", "timed_out", 5000)), "broke off"),
        (lambda: line.tftp(fetched("static/ipxe.efi")), "never ran"),
        (lambda: line.dhcp(seen("ack", ipxe=True)), "never asked for its script"),
        (lambda: line.told(Told(MAC, "script", "to install")), "never fetched the kernel"),
        (lambda: line.note(MAC, "kernel", "it fetches its kernel", kind=Kind.KERNEL), "its installer never spoke"),
    ]
    for step, why in steps:
        step()
        assert line.verdict(MAC) is None
        clock.tick(400)
        assert why in (line.verdict(MAC) or "")
        line.judge()
        line.judge()
    assert [event.stage for event in line.events(MAC)].count("verdict") == len(steps)
    line.told(Told(MAC, "step", "wipe started"))
    clock.tick(5000)
    assert line.verdict(MAC) is None


async def test_the_machine_that_checks_play_is_nobody_to_look_after(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        for mac in (SELF_CHECK_MAC, MAC):
            site.machines.watching.dhcp(replace(seen("offer"), mac=mac))
        assert site.machines.timeline.macs() == [MAC]


def test_who_took_the_address_of_another_server_is_said_to_have() -> None:
    clock = ManualClock()
    line = Timeline(clock)
    line.dhcp(replace(seen("another server's", file=None), server="10.0.0.9", address=None))
    clock.tick(60)
    assert "it took the offer of another server, 10.0.0.9, and never came back" in (line.verdict(MAC) or "")
    # A proxy beside that server: it loads from us all the same.
    line.dhcp(seen("proxy ack"))
    clock.tick(10)
    assert line.verdict(MAC) is None


def test_a_loader_that_is_fetched_again_and_again_never_ran() -> None:
    clock = ManualClock()
    line = Timeline(clock)
    for _ in range(3):
        line.dhcp(seen("ack"))
        line.tftp(fetched("static/ipxe.efi"))
        clock.tick(100)
    assert "fetched 3 times and never ran" in (line.verdict(MAC) or "")
    assert "Secure Boot" in (line.verdict(MAC) or "")


@pytest.mark.parametrize(
    ("verdict", "why"), [("no address free", "enlarge the pool"), ("nothing to boot", "no loader is known")]
)
def test_what_dhcp_cannot_give_is_said_at_once(verdict: str, why: str) -> None:
    line = Timeline(ManualClock())
    line.dhcp(seen(verdict, file=None))
    assert why in (line.verdict(MAC) or "")


def test_files_that_loaders_merely_try_are_no_trouble() -> None:
    clock = ManualClock()
    line = Timeline(clock)
    line.dhcp(seen("ack"))
    line.tftp(fetched("grub/x86_64-efi/command.lst", "missing", 0))
    assert not any(event.trouble for event in line.events(MAC))
    line.tftp(fetched("static/shimx64.efi", "missing", 0))
    clock.tick(60)
    assert "static/shimx64.efi" in (line.verdict(MAC) or "")


def test_http_boots_are_seen_as_well() -> None:
    clock = ManualClock()
    line = Timeline(clock)
    line.dhcp(seen("ack"))
    line.http(ADDRESS, "/static/ipxe.efi", 200, 1000)
    line.http("10.0.0.99", "/static/ipxe.efi", 200, 1000)
    clock.tick(100)
    assert "never ran" in (line.verdict(MAC) or "")
    assert line.macs() == [MAC]


def test_renewals_of_installed_systems_fill_no_timeline() -> None:
    line = Timeline(ManualClock())
    line.dhcp(DhcpSeen(MAC, "ack", "eth0", ADDRESS))
    assert line.events(MAC) == []
    assert (line.mac_at(ADDRESS), line.leased(MAC)) == (MAC, ADDRESS)


def test_a_flood_of_addresses_is_bounded() -> None:
    line = Timeline(ManualClock())
    for number in range(6000):
        line.note(f"{number}", "dhcp", "offer")
        for _ in range(3):
            line.note("0", "dhcp", str(random.random()))
    assert len(line.macs()) <= 4000
    assert len(line.events("0")) <= 200


def test_strangers_are_reported_once_in_a_while_and_when_they_say_more() -> None:
    sightings = Sightings()
    first = Sighting(MAC, by="dhcp", architecture="uefi-x64")
    assert sightings.worth_saying(first, 0) == first
    assert sightings.worth_saying(first, 100) is None
    more = sightings.worth_saying(Sighting(MAC, serial="SN-1", by="http"), 200)
    assert more is not None
    assert (more.serial, more.architecture) == ("SN-1", "uefi-x64")
    assert sightings.worth_saying(first, 300) is None
    assert sightings.worth_saying(first, 300 + 7 * 3600) is not None


def test_a_flood_of_strangers_is_reported_at_a_bounded_rate() -> None:
    sightings = Sightings()
    said = [sightings.worth_saying(Sighting(str(number)), 1 + number / 1000) for number in range(50_000)]
    assert sum(each is not None for each in said) <= 200 + 10 * 51


def test_a_place_in_the_queue_is_kept_by_those_who_go_on_asking() -> None:
    queue = BootQueue(1)
    assert queue.ask("a", set(), 0) is None
    assert [queue.ask(each, {"a"}, number) for number, each in enumerate("bcd", 1)] == [
        queue.ask(each, {"a"}, 10) for each in "bcd"
    ]
    place = queue.ask("d", {"a"}, 11)
    assert place is not None
    assert place.number == 3
    assert queue.ask("d", {"a"}, 12) == place
    # b and c are switched off.
    for moment in range(20, int(FORGET_SECONDS) + 30, 20):
        queue.ask("d", {"a"}, moment)
    assert queue.ask("d", set(), FORGET_SECONDS + 40) is None


@given(asks=st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 50)), max_size=60), at_once=st.integers(1, 3))
def test_never_more_than_so_many_install_at_once(asks: list[tuple[str, float]], at_once: int) -> None:
    queue, running, now = BootQueue(at_once), set[str](), 0.0
    for name, step in asks:
        now += step
        if queue.ask(name, running, now) is None:
            running.add(name)
        assert len(running) <= at_once
        if len(running) == at_once and step > 25:
            running.pop()
            queue.ended(step)


def test_a_shell_reads_answers_as_they_are_meant() -> None:
    text = 'it\'s $(reboot) `x`\n"quoted" \\'
    answer = {"operation": text, "disk": {"name": "sda"}, "seed": ["a", "b"], "whole": True, "scripts": [{"id": "r"}]}
    script = (
        shell_lines(answer)
        + 'printf "%s|%s|%s|%s|%s|%s" "$OPERATION" $DISK_NAME $SEED_COUNT $SEED_1 $WHOLE $SCRIPTS_0_ID'
    )
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == f"{text}|sda|2|b|true|r"
