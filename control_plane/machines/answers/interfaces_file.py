"""What configures the network of an installed Debian: /etc/network/interfaces and systemd's link files; pure.

Source: interfaces(5), and interfaces-bond(5), -vlan(5) of the packages ifenslave and vlan. Invariant: whatever stands
in a line passed a rule that has no blank and no line end.
"""

from __future__ import annotations

from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Interface, Network
from control_plane.machines.answers.network_rules import addresses_of


def network_script(network: Network, late: Late) -> str:
    """Shell in the new system; empty: what the installer wrote is right."""
    if not network.interfaces and not network.nameservers:
        return ""
    lines = _file("/etc/network/interfaces", _interfaces(network), late) if network.interfaces else []
    for one in network.interfaces:
        if one.mac:
            link = f"[Match]\nMACAddress={one.mac}\n\n[Link]\nName={one.name}"
            lines += _file(f"/etc/systemd/network/10-longshore-{one.name}.link", link, late)
    # Without resolvconf nothing reads `dns-nameservers`.
    resolver = [f"nameserver {server}" for server in network.nameservers]
    if network.search:
        resolver.append(f"search {' '.join(network.search)}")
    if resolver:
        lines += _file("/etc/resolv.conf", "\n".join(resolver), late)
    return "\n".join(lines)


def packages_of(network: Network) -> list[str]:
    bonds = any(one.bond for one in network.interfaces)
    vlans = any(one.vlan for one in network.interfaces)
    return [*(["ifenslave"] if bonds else []), *(["vlan"] if vlans else [])]


def _file(path: str, text: str, late: Late) -> list[str]:
    end = f"{late.ends()}-file"
    return [f"cat >{path} <<'{end}'", text, end, f"chmod 644 {path}"]


def _interfaces(network: Network) -> str:
    stanzas = ["source /etc/network/interfaces.d/*", "auto lo\niface lo inet loopback"]
    masters = {member: one.name for one in network.interfaces if one.bond for member in one.bond.members}
    for one in network.interfaces:
        stanzas.append("\n".join(_stanzas(one, masters.get(one.name))))
    return "\n\n".join(stanzas)


def _stanzas(one: Interface, master: str | None) -> list[str]:
    lines = [f"auto {one.name}"]
    options = _options(one)
    if master is not None:
        return [*lines, f"iface {one.name} inet manual", f"    bond-master {master}", *options]
    four, six = addresses_of(one)
    made: list[list[str]] = []
    if one.dhcp4:
        made.append([f"iface {one.name} inet dhcp"])
    for index, address in enumerate([*four, *six]):
        family, gateway = ("inet", one.gateway4) if address.version == 4 else ("inet6", one.gateway6)
        first = index in (0, len(four))
        made.append(
            [
                f"iface {one.name} {family} static",
                f"    address {address}",
                *([f"    gateway {gateway}"] if gateway and first else []),
            ]
        )
    if one.dhcp6:
        made.append([f"iface {one.name} inet6 dhcp"])
    if not made:
        made.append([f"iface {one.name} inet manual"])
    made[0] += options
    return lines + [line for stanza in made for line in stanza]


def _options(one: Interface) -> list[str]:
    lines = []
    if one.mtu is not None:
        lines.append(f"    mtu {one.mtu}")
    if one.vlan is not None:
        lines += [f"    vlan-raw-device {one.vlan.parent}", f"    vlan-id {one.vlan.number}"]
    if one.bond is not None:
        lines += [
            f"    bond-slaves {' '.join(one.bond.members)}",
            f"    bond-mode {one.bond.mode.value}",
            f"    bond-miimon {one.bond.monitor_milliseconds}",
        ]
    return lines
