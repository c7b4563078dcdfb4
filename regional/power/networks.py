"""In which networks BMCs may be: what the operator of the regional said, and nowhere else; pure.

Invariant: an address is an IP address, so nobody's name server decides where a password goes, and the control plane
cannot send a regional anywhere but into these networks. None is configured by default: then there is no power.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from common.errors import Denied, Invalid

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BmcNetworksInvalid(Invalid):
    code = "bmc_networks_invalid"


class BmcNotAllowed(Denied):
    """It is not in a network that this regional may reach BMCs in."""

    code = "bmc_not_allowed"


def networks_of(text: str) -> tuple[Network, ...]:
    """Several separated by commas. Raises `BmcNetworksInvalid`."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BmcNetworksInvalid(
            f"--bmc-network: {error}", action="give networks such as 10.20.0.0/24, separated by commas"
        ) from None


def check_address(networks: Sequence[Network], address: str) -> str:
    """The address as it is dialled. Raises `BmcNotAllowed`."""
    if not networks:
        raise BmcNotAllowed("this regional reaches no BMCs", action="start it with --bmc-network and the BMCs' network")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise BmcNotAllowed(f"{address[:80]!r} is no IP address", action="give the BMC's IP address") from None
    # A mapped address would be judged as IPv6 and dialled as IPv4; a scope would name an interface of this machine.
    if isinstance(parsed, ipaddress.IPv6Address) and (parsed.ipv4_mapped is not None or parsed.scope_id is not None):
        raise BmcNotAllowed(f"{address[:80]} is no address of a BMC", action="give its plain IP address")
    if not any(parsed.version == network.version and parsed in network for network in networks):
        raise BmcNotAllowed(
            f"{parsed} is in no network in which this regional may reach BMCs",
            action="correct the address, or start the regional with that network in --bmc-network",
        )
    return str(parsed)
