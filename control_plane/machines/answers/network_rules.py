"""Whether the interfaces of a network fit together; pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface

from control_plane.machines.answers import words
from control_plane.machines.answers.failures import Problem
from control_plane.machines.answers.model import Interface, Network

_MOST = 64


def network_problems(network: Network) -> Iterator[Problem]:
    interfaces = network.interfaces
    names = [interface.name for interface in interfaces]
    if len(interfaces) > _MOST or len(set(names)) != len(names):
        yield Problem("network.interfaces", f"at most {_MOST}, each name once")
        return
    by_name = {interface.name: interface for interface in interfaces}
    for index, interface in enumerate(interfaces):
        where = f"network.interfaces[{index}]"
        yield from _interface_problems(where, interface)
        yield from _bond_problems(where, interface, by_name)
        yield from _vlan_problems(where, interface, by_name)
    if interfaces and not any(has_address(interface) for interface in interfaces):
        yield Problem("network.interfaces", "none of them gets an address")
    members = [member for interface in interfaces if interface.bond for member in interface.bond.members]
    if len(set(members)) != len(members):
        yield Problem("network.interfaces", "an interface is a member of two bonds")
    for name, values, rule in (
        ("nameservers", network.nameservers, words.is_address),
        ("search", network.search, words.is_domain),
    ):
        if len(values) > 8 or not all(map(rule, values)):
            yield Problem(f"network.{name}", "at most 8, each an IP address" if name == "nameservers" else "DNS names")


def addresses_of(interface: Interface) -> tuple[list[IPv4Interface], list[IPv6Interface]]:
    """Raises ValueError for what is no address."""
    parsed = [ip_interface(address) for address in interface.addresses]
    four = [address for address in parsed if isinstance(address, IPv4Interface)]
    return four, [address for address in parsed if isinstance(address, IPv6Interface)]


def has_address(interface: Interface) -> bool:
    return interface.dhcp4 or interface.dhcp6 or bool(interface.addresses)


def _interface_problems(where: str, interface: Interface) -> Iterator[Problem]:
    if not words.is_interface_name(interface.name):
        yield Problem(f"{where}.name", "a letter, then letters, digits, _ . and -, at most 15")
    if interface.mac and not words.is_mac(interface.mac):
        yield Problem(f"{where}.mac", "six hexadecimal bytes with colons, in lower case")
    if interface.mac and (interface.bond or interface.vlan):
        yield Problem(f"{where}.mac", "names a card; a bond or VLAN has none")
    if interface.bond and interface.vlan:
        yield Problem(where, "is a bond or a VLAN, not both: put the VLAN on the bond")
    if interface.mtu is not None and not 1280 <= interface.mtu <= 9216:
        yield Problem(f"{where}.mtu", "1280 to 9216")
    yield from _address_problems(where, interface)


def _address_problems(where: str, interface: Interface) -> Iterator[Problem]:
    if len(interface.addresses) > 8 or not all(_is_interface_address(address) for address in interface.addresses):
        yield Problem(f"{where}.addresses", "at most 8, each an address with its prefix: 192.0.2.5/24, 2001:db8::5/64")
        return
    four, six = addresses_of(interface)
    if four and interface.dhcp4:
        yield Problem(f"{where}.addresses", "IPv4 comes from DHCP already")
    for name, gateway, kind, nets in (
        ("gateway4", interface.gateway4, IPv4Address, [address.network for address in four]),
        ("gateway6", interface.gateway6, IPv6Address, [address.network for address in six]),
    ):
        if not gateway:
            continue
        if not words.is_address(gateway) or not isinstance(ip_address(gateway), kind):
            yield Problem(f"{where}.{name}", f"an IPv{name[-1]} address")
            continue
        found = ip_address(gateway)
        if not (found.is_link_local and name == "gateway6") and not any(found in net for net in nets):
            yield Problem(f"{where}.{name}", "lies in none of the networks of this interface")


def _is_interface_address(value: str) -> bool:
    try:
        ip_interface(value)
    except ValueError:
        return False
    return "/" in value and "%" not in value and value.rpartition("/")[2].isdecimal()


def _bond_problems(where: str, interface: Interface, by_name: dict[str, Interface]) -> Iterator[Problem]:
    if interface.bond is None:
        return
    if not 1 <= len(interface.bond.members) <= 8:
        yield Problem(f"{where}.bond.members", "1 to 8")
    if not 10 <= interface.bond.monitor_milliseconds <= 10_000:
        yield Problem(f"{where}.bond.monitor_milliseconds", "10 to 10000")
    for name in interface.bond.members:
        member = by_name.get(name)
        if member is None or member.bond or member.vlan:
            yield Problem(f"{where}.bond.members", "each is a network card among the interfaces")
        elif has_address(member):
            yield Problem(f"{where}.bond.members", f"{name} has addresses of its own; give them to the bond")


def _vlan_problems(where: str, interface: Interface, by_name: dict[str, Interface]) -> Iterator[Problem]:
    if interface.vlan is None:
        return
    if not 1 <= interface.vlan.number <= 4094:
        yield Problem(f"{where}.vlan.number", "1 to 4094")
    parent = by_name.get(interface.vlan.parent)
    if parent is None or parent.vlan:
        yield Problem(f"{where}.vlan.parent", "a network card or bond among the interfaces")
    elif any(other.bond and parent.name in other.bond.members for other in by_name.values()):
        yield Problem(f"{where}.vlan.parent", "is a member of a bond; put the VLAN on the bond")
