"""Which addresses the control plane may connect to when a user names the target; pure.

By default: unicast addresses of the public internet, on any port. What the operator lists in `outbound.allow` is
permitted as well. Everything else is refused: this machine, its networks, and whatever a cloud puts there (server-side
request forgery, CWE-918).

- The special-purpose registries of IANA (RFC 6890) are written out here: what `ipaddress` calls private has changed
  between patch releases of Python.
- An IPv6 address that carries an IPv4 address is judged by what is inside (mapped, NAT64); the old tunnels (6to4,
  Teredo, IPv4-compatible) are refused, for nobody needs them and a router might still unwrap them.
- Metadata services of clouds are permitted only if the operator lists that very address, not a network around it.
- A host that ends in a number is an IPv4 address to every resolver (WHATWG URL, "ends in a number"), in spellings like
  `0x7f.1`, `2130706433` or `0177.0.0.1`: taken only in the canonical dotted form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from common.errors import Denied, Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_METADATA = frozenset(
    ip_address(text)
    for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,62}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class AddressRefused(Denied):
    """The control plane does not connect to this address."""

    code = "address_refused"


class UrlInvalid(Invalid):
    code = "url_invalid"


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether it is a unicast address of the internet."""
    address = embedded(address)
    if address in _METADATA:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    return address in _GLOBAL_6 and not any(address in network for network in _SPECIAL_6)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`allow`: networks beyond the public internet; `public`: whether that itself is permitted."""

    allow: tuple[Network, ...] = ()
    public: bool = True

    @classmethod
    def of(cls, allow: Sequence[str]) -> AddressPolicy:
        """Raises `ValueError` for what is no network."""
        return cls(tuple(ip_network(text, strict=False) for text in allow))

    @property
    def only_allowed(self) -> AddressPolicy:
        """For what may not cross the internet, as plain HTTP."""
        return AddressPolicy(self.allow, public=False)

    def permits(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        inner = embedded(address)
        for network in self.allow:
            if inner in network and (inner not in _METADATA or network.prefixlen == network.max_prefixlen):
                return True
        return self.public and is_public(inner)

    def check(self, address: Address | str, host: str) -> None:
        """Raises `AddressRefused`; `host` is what it was found under."""
        try:
            parsed = ip_address(address)
        except ValueError:
            parsed = None
        if parsed is None or not self.permits(parsed):
            raise AddressRefused(
                # Not the address itself: what a name resolves to inside our network is nobody's business.
                f"{host} is not an address that this server connects to",
                action="name a public host by https, or have the operator add its network to outbound.allow",
                host=host,
            )


def check_url(url: str, policy: AddressPolicy) -> SplitResult:
    """The parts of an `http` or `https` URL whose host is spelt in the one canonical way; if it is an address, a
    permitted one. Names are judged when they are resolved.

    Raises `UrlInvalid`, `AddressRefused`.
    """
    if not url.isascii() or any(character <= " " or character in "\\\x7f" for character in url):
        raise _invalid(url, "it holds characters that no URL holds")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise _invalid(url, str(error)[:100]) from None
    if parts.scheme not in ("http", "https"):
        raise _invalid(url, "only https and http are spoken")
    if "@" in parts.netloc:
        raise _invalid(url, "credentials do not belong into a URL")
    if not host or port == 0 or parts.netloc.endswith(":"):
        raise _invalid(url, "the host or the port is missing")
    address = _literal(url, host)
    if address is not None:
        (policy if parts.scheme == "https" else policy.only_allowed).check(address, host)
    return parts


def _literal(url: str, host: str) -> Address | None:
    if ":" in host or "%" in host:
        try:
            found = IPv6Address(host)
        except ValueError:
            found = None
        if found is None or found.scope_id is not None:
            raise _invalid(url, "the host is not an IPv6 address")
        return found
    name = host.removesuffix(".")
    if len(name) > 253 or not _HOST.fullmatch(name):
        raise _invalid(url, "the host is not a name")
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise _invalid(url, "an IPv4 address is written as four decimal numbers") from None


def _invalid(url: str, why: str) -> UrlInvalid:
    shown = url.rpartition("@")[2][:120]
    return UrlInvalid(f"{shown!r} is not a URL that this server asks: {why}", action="give https://host[:port]/path")
