"""Which other DHCP servers are an alarm: nobody whom the configuration names, and not ourselves."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.dhcp import options as o
from regional.dhcp.overhearing import answer_in, question
from regional.dhcp.packet import Packet, decode, encode
from regional.dhcp.rivals import Rivals
from regional.dhcp.subnets import Subnet, Subnets
from regional.dhcp.wire import datagram

from .packets import MAC, SERVER, firmware, ip, subnet

ROGUE = ip("10.77.0.9")
OTHER = ip("10.77.0.8")


def answer(
    kind: int = o.OFFER, server: int = ROGUE, address: int = ip("10.77.0.150"), file: str = "", boots: bool = False
) -> Packet:
    options = {o.MESSAGE_TYPE: bytes((kind,)), o.SERVER_ID: o.address(server)}
    if boots:
        options[o.VENDOR_CLASS] = b"PXEClient"
    return Packet(2, 7, MAC, options, yiaddr=address, file=file.encode())


def rivals(here: Subnet | None = None) -> Rivals:
    return Rivals(Subnets((here or subnet(),)), 300)


def test_another_server_is_told_once_and_known_while_it_goes_on() -> None:
    book = rivals()
    first = book.heard("eth0", answer(), 0, 0.0)
    assert first is not None
    assert first.words == "another DHCP server, 10.77.0.9, gives addresses on eth0"
    assert book.heard("eth0", answer(o.ACK), 0, 600.0) is None
    assert [each.server for each in book.present(1400.0)] == [ROGUE]
    assert book.present(1600.0) == []
    assert book.heard("eth0", answer(), 0, 1601.0) is not None


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (answer(o.NAK, address=0), "refuses addresses"),
        (answer(address=0, file="evil\n.efi"), "names the boot file evil?.efi"),
        (answer(o.ACK, address=0), None),
        (answer(server=SERVER), None),
        (answer(5000 % 256), None),
        (question(7), None),
    ],
)
def test_only_answers_of_others_count(packet: Packet, words: str | None) -> None:
    found = rivals().heard("eth0", packet, 0, 0.0)
    assert (found.deed if found else None) == words


def test_an_answer_without_a_name_is_its_senders() -> None:
    nameless = Packet(2, 7, MAC, {o.MESSAGE_TYPE: b"\2"}, yiaddr=1)
    found = rivals().heard("eth0", nameless, ROGUE, 0.0)
    assert found is not None
    assert found.server == ROGUE
    assert rivals().heard("eth0", nameless, 0, 0.0) is None


def test_who_is_named_in_the_configuration_may_be_there() -> None:
    book = rivals(subnet(others=frozenset({ROGUE})))
    assert book.heard("eth0", answer(), 0, 0.0) is None
    assert book.heard("eth0", answer(server=OTHER), 0, 0.0) is not None
    assert book.heard("eth7", answer(server=OTHER), 0, 0.0) is None  # none of our networks


def test_beside_a_proxy_one_server_gives_addresses_and_none_names_boot_files() -> None:
    book = rivals(subnet(proxy=True))
    assert book.heard("eth0", answer(), 0, 0.0) is None
    second = book.heard("eth0", answer(server=OTHER), 0, 0.0)
    assert second is not None
    assert second.words == "another DHCP server, 10.77.0.8, gives addresses, as 10.77.0.9 does, on eth0"
    boots = book.heard("eth0", answer(file="pxelinux.0", boots=True), 0, 0.0)
    assert boots is not None
    assert boots.deed == "names the boot file pxelinux.0"


def test_a_client_that_takes_another_offer_tells_of_its_server() -> None:
    book = rivals()
    assert book.chosen("eth0", SERVER, 0.0) is None
    assert book.chosen("eth0", ROGUE, 0.0) is not None


def test_a_flood_of_invented_servers_is_bounded() -> None:
    book = rivals()
    told = [book.heard("eth0", answer(server=number), 0, 0.0) for number in range(1, 5000)]
    assert len([each for each in told if each]) == 64 == len(book.present(1.0))


def test_the_question_is_a_whole_message_that_any_server_answers() -> None:
    frame = datagram(encode(question(9)), 0, 0xFFFFFFFF, (68, 67))
    assert frame[20:24] == b"\0\x44\0\x43"
    packet = decode(frame[28:])
    assert packet.options[o.MESSAGE_TYPE] == b"\1"
    assert {code: packet.options[code] for code in (o.ARCHITECTURE, o.VENDOR_CLASS)} == {
        code: firmware(7)[code] for code in (o.ARCHITECTURE, o.VENDOR_CLASS)
    }


@given(st.binary(max_size=600))
def test_whatever_is_on_the_wire_is_an_answer_or_nothing(data: bytes) -> None:
    found = answer_in(data)
    assert found is None or isinstance(found[0], Packet)
    whole = answer_in(datagram(encode(answer()), ROGUE, 0xFFFFFFFF))
    assert whole is not None
    assert socket.inet_ntoa(whole[1].to_bytes(4, "big")) == "10.77.0.9"
