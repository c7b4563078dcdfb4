from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.web.outbound_addresses import AddressPolicy, AddressRefused, UrlInvalid, check_url, is_public

STRICT = AddressPolicy()
FORBIDDEN = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "223.255.255.254", "2606:4700::1111", "2a00:1450:4001:81c::2004")

forbidden = st.sampled_from(FORBIDDEN).flatmap(lambda text: st.ip_addresses(network=text)).map(IPv4Address)


def spellings(address: IPv4Address) -> list[str]:
    """Ways to write an address that `getaddrinfo` takes."""
    number, octets = int(address), list(address.packed)
    a, b, c, d = octets
    return [
        str(number),
        hex(number),
        hex(number).upper().replace("X", "x"),
        f"0{number:o}",
        ".".join(hex(octet) for octet in octets),
        ".".join(f"0{octet:o}" for octet in octets),
        f"{a}.{(b << 16) | (c << 8) | d}",
        f"{a}.{b}.{(c << 8) | d}",
        f"{a:#x}.{b}.0{c:o}.{d}",
        f"{a}.{b}.{c}.{d}.",
        f"{a:03}.{b:03}.{c:03}.{d:03}",
    ]


def wrapped(address: IPv4Address) -> list[str]:
    number = int(address)
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{address}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:4136:e378:8000:63bf:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}",
        f"64:ff9b:1::{high:x}:{low:x}",
        f"fe80::5efe:{address}",
    ]


@given(forbidden)
def test_no_spelling_of_a_forbidden_address_is_asked(address: IPv4Address) -> None:
    for host in (str(address), *spellings(address)):
        with pytest.raises((AddressRefused, UrlInvalid)):
            check_url(f"https://{host}/v2/", STRICT)


@given(forbidden)
def test_no_ipv6_form_of_a_forbidden_address_is_asked(address: IPv4Address) -> None:
    for host in wrapped(address):
        assert not STRICT.permits(IPv6Address(host)), host
        with pytest.raises(AddressRefused):
            check_url(f"https://[{host}]/", STRICT)


@given(st.ip_addresses(v=4).map(IPv4Address))
def test_an_address_is_taken_only_in_its_canonical_form(
    address: IPv4Address,
) -> None:
    for host in spellings(address):
        if host == str(address):
            continue
        with pytest.raises(UrlInvalid):
            check_url(f"https://{host}/", STRICT)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_asked(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    assert check_url(f"https://{host}:5000/v2/", STRICT).port == 5000


@pytest.mark.parametrize(
    "text", ["::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "100::1", "5f00::1", "3fff::1"]
)
def test_special_ipv6_addresses_are_refused(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"])
def test_a_metadata_service_is_permitted_only_by_its_own_address(text: str) -> None:
    address = ip_address(text)
    assert not AddressPolicy().permits(address)
    assert not AddressPolicy.of(["0.0.0.0/0", "::/0"]).permits(address)
    assert AddressPolicy.of([text]).permits(address)


@given(st.ip_addresses(network="10.1.0.0/16"))
def test_an_allowed_network_is_permitted_and_its_neighbour_is_not(address: IPv4Address) -> None:
    policy = AddressPolicy.of(["10.1.0.0/16"])
    assert policy.permits(address)
    assert policy.permits(IPv6Address(f"::ffff:{address}"))
    assert not policy.permits(IPv4Address(int(address) ^ (1 << 16)))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_nothing_is_public_that_python_knows_to_be_private(address: IPv4Address | IPv6Address) -> None:
    inner = address
    if isinstance(address, IPv6Address) and address in IPv6Network("64:ff9b::/96"):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if is_public(address):
        assert inner.is_global
        assert not inner.is_multicast
    elif isinstance(address, IPv4Address) and address.is_global and not address.is_multicast:
        odd = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv4Network("168.63.129.16/32"))
        assert any(address in network for network in odd)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1\\@example.com/",
        "https://exa mple.com/",
        "https://example.com\r\nHost: x/",
        "https:///nowhere",
        "https://[::1%25lo]/",
        "https://[fe80::1%eth0]/",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://example.com:/",
        "https://①②⑦.0.0.1/",
        "https://127。0。0。1/",
        "https://0x7f000001/",
        "https://example.0x7f/",
        "https://%31%32%37.0.0.1/",
        "https://a..b/",
        "https://-/",
        "//example.com/",
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises((UrlInvalid, AddressRefused)):
        check_url(url, STRICT)


def test_plain_http_goes_only_to_what_the_operator_allows() -> None:
    with pytest.raises(AddressRefused):
        check_url("http://1.1.1.1/", STRICT)
    assert check_url("http://10.0.0.1:5000/", AddressPolicy.of(["10.0.0.0/8"])).port == 5000


def test_a_refusal_does_not_tell_what_a_name_resolves_to() -> None:
    with pytest.raises(AddressRefused) as caught:
        STRICT.check("10.11.12.13", "db.internal")
    assert "10.11" not in str(caught.value)
    assert "10.11" not in str(caught.value.facts)
