"""The rules of RFC 2131, PXE, UEFI HTTP boot and relays, one request at a time."""

from __future__ import annotations

import pytest

from regional.boot_targets import BootMap, Firmware
from regional.dhcp import options as o
from regional.dhcp.handler import Arrival, Handler
from regional.dhcp.leases import LeaseBook, State
from regional.dhcp.packet import BROADCAST_FLAG, decode, encode
from regional.dhcp.rates import Rate
from regional.dhcp.replies import EVERYBODY, Destination
from regional.dhcp.subnets import Pool, Reservation, Subnets

from .packets import HERE, MAC, OTHER, SERVER, book_of, discover, firmware, ip, message, request, subnet

FIRST = ip("10.77.0.10")
RESERVED = bytes.fromhex("525400000099")
NOBODYS = Arrival("eth9")


def test_a_client_gets_an_address_and_what_it_asked_for() -> None:
    _, handler = book_of()
    wanted = {o.PARAMETERS: bytes((1, 3, 6, 26)), o.CLIENT_ID: b"\x01abc"}
    offer = handler.handle(discover(options=wanted), HERE, 0)
    assert offer.answer is not None
    assert (offer.verdict, offer.answer.yiaddr, offer.answer.xid, offer.lease) == ("offer", FIRST, 7, None)
    assert offer.to == Destination(FIRST, 68, MAC)
    ack = handler.handle(request("10.77.0.10", options=wanted), HERE, 1)
    assert ack.answer is not None
    said = ack.answer.options
    assert next(iter(said)) == o.MESSAGE_TYPE
    assert (said[53], said[54], said[51]) == (b"\x05", o.address(SERVER), o.seconds(43200))
    assert (said[58], said[59], said[61]) == (o.seconds(21600), o.seconds(37800), b"\x01abc")
    assert said[26] == b"\x05\xdc"
    assert o.DOMAIN not in said
    assert ack.lease is not None
    assert (ack.lease.state, ack.lease.address) == (State.LEASED, FIRST)


def test_an_answer_goes_where_the_client_can_hear_it() -> None:
    _, handler = book_of()
    flagged = handler.handle(discover(flags=BROADCAST_FLAG), HERE, 0)
    assert flagged.to == Destination(EVERYBODY, 68)
    handler.handle(request("10.77.0.10"), HERE, 0)
    renewed = handler.handle(message(o.REQUEST, ciaddr=FIRST), NOBODYS, 1)
    assert (renewed.verdict, renewed.to) == ("ack", Destination(FIRST, 68))
    assert handler.handle(discover(), NOBODYS, 0).verdict == "no network of ours"


def test_a_relayed_request_is_of_the_relays_network_and_option_82_comes_back_last() -> None:
    far = subnet()
    _, handler = book_of(
        subnet(network=far.network.supernet(8), interface=""),
    )
    relay = ip("10.77.0.250")
    circuit = {o.RELAY_AGENT: b"\x01\x02ge\x02\x01x", 60: b"anything"}
    offer = handler.handle(discover(giaddr=relay, hops=1, options=circuit), NOBODYS, 0)
    assert offer.answer is not None
    assert offer.to == Destination(relay, 67)
    assert (offer.answer.giaddr, offer.answer.options[82]) == (relay, circuit[82])
    assert encode(offer.answer).rstrip(b"\0").endswith(b"\x52\x07" + circuit[82] + b"\xff")
    elsewhere = handler.handle(discover(giaddr=ip("192.0.2.1")), HERE, 0)
    assert elsewhere.verdict == "no network of ours"
    selected = {o.RELAY_AGENT: bytes((5, 4)) + o.address(ip("10.77.0.0")) + bytes((11, 4)) + o.address(relay)}
    chosen = handler.handle(discover(giaddr=ip("192.0.2.1"), options=selected), NOBODYS, 0)
    assert chosen.answer is not None
    assert chosen.answer.options[o.SERVER_ID] == o.address(relay)  # RFC 5107
    refused = handler.handle(request("10.9.9.9", giaddr=relay), NOBODYS, 0)
    assert refused.answer is not None
    assert (refused.verdict, refused.answer.flags & BROADCAST_FLAG) == ("nak", BROADCAST_FLAG)


def test_an_option_82_that_no_relay_can_have_added_does_not_crowd_out_the_answer() -> None:
    _, handler = book_of()
    for size, echoed in ((255, True), (256, False), (3000, False)):
        options = {o.RELAY_AGENT: b"\x01" + bytes(size - 1)}
        outcome = handler.handle(discover(options=options, giaddr=ip("10.77.0.5")), HERE, 0)
        assert outcome.answer is not None
        answer = decode(encode(outcome.answer, outcome.limit, outcome.overload))
        assert (answer.options[53], o.RELAY_AGENT in answer.options) == (bytes((o.OFFER,)), echoed)
        assert len(encode(outcome.answer, outcome.limit, outcome.overload)) <= 548


def test_no_is_said_only_by_who_may() -> None:
    _, strict = book_of()
    _, polite = book_of(subnet(authoritative=False))
    wrong_network = request("192.168.1.5", server=None)
    assert strict.handle(wrong_network, HERE, 0).verdict == "nak"
    assert polite.handle(wrong_network, HERE, 0).verdict == "unknown lease"
    assert polite.handle(request("192.168.1.5"), HERE, 0).verdict == "nak"  # it chose us
    assert strict.handle(request("10.77.0.12", server=None), HERE, 0).verdict == "ack"
    assert strict.handle(request("10.77.0.12", OTHER, server=None), HERE, 0).verdict == "nak"
    assert polite.handle(request("10.77.0.12", server=None), HERE, 0).verdict == "unknown lease"
    refused = strict.handle(wrong_network, HERE, 0)
    assert refused.answer is not None
    assert (refused.answer.yiaddr, refused.to) == (0, Destination(EVERYBODY, 68))


def test_a_client_that_takes_another_servers_offer_frees_ours() -> None:
    book, handler = book_of()
    handler.handle(discover(), HERE, 0)
    assert len(book) == 1
    assert handler.handle(request("10.0.0.9", server=ip("10.77.0.2")), HERE, 0).verdict == "another server's"
    assert len(book) == 0


def test_a_reserved_address_is_its_owners_by_mac_uuid_or_identifier() -> None:
    uuid = bytes(range(1, 17))
    others = [
        Reservation(uuid=uuid, address=ip("10.77.0.50")),
        Reservation(client_id=b"\xffid", address=ip("10.77.0.51")),
    ]
    mine = subnet().reservations[0]
    _, handler = book_of(subnet(reservations=[mine, *others]))
    first = handler.handle(discover(RESERVED), HERE, 0).answer
    assert first is not None
    assert (first.yiaddr, first.options[o.HOST_NAME]) == (ip("10.77.0.99"), b"node-99")
    assert handler.handle(request("10.77.0.99", OTHER), HERE, 0).verdict == "nak"
    by_uuid = handler.handle(discover(options={o.MACHINE_ID: b"\0" + uuid}), HERE, 0).answer
    by_id = handler.handle(discover(OTHER, options={o.CLIENT_ID: b"\xffid"}), HERE, 0).answer
    assert by_uuid is not None
    assert by_id is not None
    assert (by_uuid.yiaddr, by_id.yiaddr) == (ip("10.77.0.50"), ip("10.77.0.51"))


def test_all_stages_of_a_machine_are_one_client() -> None:
    _, handler = book_of()
    rom = handler.handle(discover(options={**firmware(7), o.CLIENT_ID: b"\0rom"}), HERE, 0)
    handler.handle(request("10.77.0.10", options=firmware(7)), HERE, 0)
    ipxe = handler.handle(discover(options={o.USER_CLASS: b"iPXE", o.CLIENT_ID: b"\x01ipxe"}), HERE, 5)
    system = handler.handle(discover(options={o.CLIENT_ID: b"\xffduid"}), HERE, 60)
    answers = [each.answer for each in (rom, ipxe, system)]
    assert [each.yiaddr for each in answers if each] == [FIRST] * 3
    assert answers[0] is not None
    assert answers[2] is not None
    assert answers[0].options[51] == o.seconds(300)  # a ROM that never comes back holds it for minutes
    assert answers[2].options[51] == o.seconds(43200)


@pytest.mark.parametrize(
    ("architecture", "file"),
    [
        (0, "undionly.kpxe"),
        (6, "ipxe-ia32.efi"),
        (7, "ipxe.efi"),
        (9, "ipxe.efi"),
        (10, "ipxe-arm32.efi"),
        (11, "ipxe-arm64.efi"),
        (25, "ipxe-riscv32.efi"),
        (27, "ipxe-riscv64.efi"),
        (39, "ipxe-loongarch64.efi"),
    ],
)
def test_firmware_gets_the_loader_of_its_architecture(architecture: int, file: str) -> None:
    _, handler = book_of()
    answer = handler.handle(discover(options=firmware(architecture)), HERE, 0).answer
    assert answer is not None
    name = f"static/{file}".encode()
    assert (answer.file, answer.options[67]) == (name, name)
    assert (answer.sname, answer.options[66], answer.siaddr) == (b"10.77.0.1", b"10.77.0.1", SERVER)
    assert (answer.options[60], answer.options[97]) == (b"PXEClient", bytes(17))
    assert answer.options.get(43) == (b"\x06\x01\x08\xff" if architecture == 0 else None)


@pytest.mark.parametrize(
    ("architecture", "file"),
    [
        (15, "ipxe-ia32.efi"),
        (16, "ipxe.efi"),
        (18, "ipxe-arm32.efi"),
        (19, "ipxe-arm64.efi"),
        (20, "undionly.kpxe"),
        (26, "ipxe-riscv32.efi"),
        (28, "ipxe-riscv64.efi"),
        (40, "ipxe-loongarch64.efi"),
    ],
)
def test_firmware_that_boots_over_http_gets_a_url(architecture: int, file: str) -> None:
    _, handler = book_of()
    answer = handler.handle(discover(options=firmware(architecture, "HTTPClient")), HERE, 0).answer
    assert answer is not None
    assert answer.options[60] == b"HTTPClient"
    assert answer.options[67] == f"http://10.77.0.1:8081/static/{file}".encode()
    assert 66 not in answer.options


@pytest.mark.parametrize("said", [(41, "PXEClient"), (0, "PXEClient")])
def test_a_raspberry_pi_gets_the_menu_that_its_rom_wants(said: tuple[int, str]) -> None:
    _, handler = book_of()
    mac = bytes.fromhex("dca632000001")
    answer = handler.handle(discover(mac, options=firmware(*said)), HERE, 0).answer
    assert answer is not None
    assert b"Raspberry Pi Boot" in answer.options[43]
    assert o.inside(answer.options[43]) == {6: b"\x08", 9: b"\0\0\x11Raspberry Pi Boot", 10: b"\0PXE"}
    assert (answer.siaddr, answer.options[66]) == (SERVER, b"10.77.0.1")
    # With UEFI in it, it is what it says it is.
    uefi = handler.handle(discover(mac, options=firmware(11)), HERE, 0).answer
    assert uefi is not None
    assert (uefi.file, uefi.options.get(43)) == (b"static/ipxe-arm64.efi", None)


@pytest.mark.parametrize("architecture", [12, 22, 29, 33, 37, 65535])
def test_an_architecture_without_a_loader_is_given_an_address_and_what_the_file_names(architecture: int) -> None:
    _, handler = book_of()
    answer = handler.handle(discover(options=firmware(architecture)), HERE, 0).answer
    assert answer is not None
    assert (answer.yiaddr, answer.file, 67 in answer.options) == (FIRST, b"", False)
    every = Subnets([subnet()])
    boot = BootMap("", "", numbers={architecture: "static/it"})
    named = Handler(every, LeaseBook(every), boot).handle(discover(options=firmware(architecture)), HERE, 0).answer
    assert named is not None
    assert named.file == b"static/it"


def test_ipxe_gets_its_script_and_never_a_loader_again() -> None:
    _, handler = book_of()
    script = b"http://10.77.0.1:8081/boot/52-54-00-12-34-56.ipxe"
    for sign in ({o.USER_CLASS: b"iPXE"}, {o.USER_CLASS: b"\x04iPXE"}, {o.IPXE: b"\x13\x01\x01"}):
        for number in (0, 7, 11, 16):
            answer = handler.handle(discover(options={**firmware(number), **sign}), HERE, 0).answer
            assert answer is not None
            assert answer.options[67] == script
            assert answer.options[o.IPXE] == b"\xb0\x01\x01"
    no_http = handler.handle(discover(options={**firmware(0), o.IPXE: b"\x12\x01\x01"}), HERE, 0).answer
    assert no_http is not None
    assert no_http.options[67] == b"boot/52-54-00-12-34-56.ipxe"


def test_arm_firmware_that_says_0_is_known_by_its_class() -> None:
    _, handler = book_of()
    said = {**firmware(11), o.ARCHITECTURE: b"\0\0"}
    answer = handler.handle(discover(options=said), HERE, 0).answer
    assert answer is not None
    assert answer.file == b"static/ipxe-arm64.efi"


def test_a_machine_may_have_its_own_loader_and_an_unknown_architecture_has_none() -> None:
    every = Subnets([subnet()])
    book, _ = book_of()
    own = BootMap("http://x", "http://x/{mac}", machines={"52:54:00:12:34:56": {Firmware.UEFI_X64: "shimx64.efi"}})
    handler = Handler(every, book.__class__(every), own)
    mine = handler.handle(discover(options=firmware(7)), HERE, 0).answer
    theirs = handler.handle(discover(OTHER, options=firmware(7)), HERE, 0).answer
    assert mine is not None
    assert theirs is not None
    assert (mine.file, theirs.file) == (b"shimx64.efi", b"static/ipxe.efi")
    strange = handler.handle(discover(options=firmware(31)), HERE, 0).answer
    assert strange is not None
    assert (strange.file, 67 in strange.options, 60 in strange.options) == (b"", False, False)


def test_a_proxy_names_the_boot_file_and_gives_no_address() -> None:
    book, handler = book_of(subnet(proxy=True))
    offer = handler.handle(discover(options=firmware(7)), HERE, 0)
    assert offer.answer is not None
    assert (offer.verdict, offer.answer.yiaddr, offer.answer.file) == ("proxy offer", 0, b"static/ipxe.efi")
    assert (offer.answer.options[60], 51 in offer.answer.options, offer.to) == (
        b"PXEClient", False, Destination(EVERYBODY, 68),
    )  # fmt: skip
    assert handler.handle(discover(), HERE, 0).verdict == "nothing to boot"
    assert handler.handle(request("10.77.0.10", options=firmware(7)), HERE, 0).verdict == "proxy keeps silent"
    assert len(book) == 0


@pytest.mark.parametrize("proxy", [True, False])
def test_port_4011_answers_the_one_who_asked(proxy: bool) -> None:
    _, handler = book_of(subnet(proxy=proxy))
    asked = message(o.REQUEST, options=firmware(7), ciaddr=FIRST)
    ack = handler.handle(asked, Arrival("eth0", 4011, FIRST, 4011), 0)
    assert ack.answer is not None
    assert (ack.answer.options[53], ack.answer.yiaddr, ack.answer.file) == (b"\x05", 0, b"static/ipxe.efi")
    assert (ack.to, ack.lease) == (Destination(FIRST, 4011), None)
    assert handler.handle(discover(options=firmware(7)), Arrival("eth0", 4011), 0).answer is None


def test_inform_gets_words_and_no_lease() -> None:
    book, handler = book_of()
    answer = handler.handle(message(o.INFORM, ciaddr=ip("10.77.0.200")), HERE, 0).answer
    assert answer is not None
    assert (answer.yiaddr, 51 in answer.options, answer.options[6]) == (0, False, o.address(ip("10.77.0.53")))
    assert len(book) == 0


def test_decline_rests_an_address_and_release_frees_it_both_only_by_its_holder() -> None:
    book, handler = book_of()
    handler.handle(request("10.77.0.10"), HERE, 0)
    wrong = {o.REQUESTED_ADDRESS: o.address(FIRST), o.SERVER_ID: o.address(SERVER)}
    assert handler.handle(message(o.DECLINE, OTHER, options=wrong), HERE, 1).lease is None
    assert handler.handle(message(o.RELEASE, OTHER, ciaddr=FIRST), HERE, 1).lease is None
    declined = handler.handle(message(o.DECLINE, options=wrong), HERE, 1)
    assert declined.lease is not None
    assert (declined.lease.state, declined.answer) == (State.DECLINED, None)
    again = handler.handle(discover(), HERE, 2).answer
    assert again is not None
    assert again.yiaddr == ip("10.77.0.11")
    handler.handle(request("10.77.0.11"), HERE, 2)
    released = handler.handle(message(o.RELEASE, ciaddr=ip("10.77.0.11")), HERE, 3)
    assert released.lease is not None
    assert book.at(ip("10.77.0.11"), 3) is None


def test_who_cannot_be_told_from_others_and_what_is_no_request_is_left_alone() -> None:
    _, handler = book_of()
    assert handler.handle(discover(b"\0" * 6), HERE, 0).verdict == "nobody"
    assert handler.handle(message(o.OFFER), HERE, 0).verdict == "not a client's message"
    assert handler.handle(message(o.REQUEST), HERE, 0).verdict == "request without an address"
    assert handler.handle(discover(options={53: b""}), HERE, 0).verdict == "not a request"


def test_invented_clients_are_held_back_and_known_ones_are_not() -> None:
    every = Subnets([subnet(pools=[Pool(ip("10.77.0.10"), ip("10.77.0.90"))])])
    book, _ = book_of()
    handler = Handler(every, book.__class__(every), BootMap("", ""), Rate(1, 3))
    verdicts = [handler.handle(discover(bytes((2, 0, 0, 0, 0, n))), HERE, 0).verdict for n in range(10)]
    assert verdicts == ["offer"] * 3 + ["too many newcomers"] * 7
    assert handler.handle(discover(RESERVED), HERE, 0).verdict == "offer"
    assert handler.handle(discover(bytes((2, 0, 0, 0, 0, 1))), HERE, 0).verdict == "offer"
