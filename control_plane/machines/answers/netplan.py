"""A network in the words of netplan, which Ubuntu's installer and cloud-init (network configuration 2) read; pure."""

from __future__ import annotations

from typing import Any

from control_plane.machines.answers.model import Interface, Network


def netplan(network: Network) -> dict[str, Any]:
    """No interfaces: DHCP on every card that is plugged in."""
    made: dict[str, Any] = {"version": 2}
    if not network.interfaces:
        every = {"match": {"name": "e*"}, "dhcp4": True, "dhcp6": True, "optional": True}
        return {**made, "ethernets": {"every": {**every, **_names(network)}}}
    for one in network.interfaces:
        kind = "bonds" if one.bond else "vlans" if one.vlan else "ethernets"
        made.setdefault(kind, {})[one.name] = _interface(one, network)
    return made


def _interface(one: Interface, network: Network) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if one.mac:
        made |= {"match": {"macaddress": one.mac}, "set-name": one.name}
    if one.vlan:
        made |= {"id": one.vlan.number, "link": one.vlan.parent}
    if one.bond:
        parameters = {"mode": one.bond.mode.value, "mii-monitor-interval": one.bond.monitor_milliseconds}
        made |= {"interfaces": list(one.bond.members), "parameters": parameters}
    made |= {"dhcp4": one.dhcp4, "dhcp6": one.dhcp6}
    if one.addresses:
        made["addresses"] = list(one.addresses)
    gateways = [("0.0.0.0/0", one.gateway4), ("::/0", one.gateway6)]
    routes = [{"to": to, "via": via} for to, via in gateways if via]
    if routes:
        made["routes"] = routes
    if one.mtu is not None:
        made["mtu"] = one.mtu
    if one.dhcp4 or one.dhcp6 or one.addresses:
        made |= _names(network)
    return made


def _names(network: Network) -> dict[str, Any]:
    names = {"addresses": list(network.nameservers), "search": list(network.search)}
    filled = {name: values for name, values in names.items() if values}
    return {"nameservers": filled} if filled else {}
