"""Whom a request comes from, as far as limits care; pure.

Behind a proxy the server (uvicorn's `--proxy-headers` with the proxies it trusts) has already put the client's address
into the scope; headers are never read here, because anybody can write them.
"""

from __future__ import annotations

import ipaddress

from starlette.requests import HTTPConnection


def client_of(connection: HTTPConnection) -> str:
    """The address that limits count by: IPv4 whole, IPv6 by its /64 (one customer's network, RFC 6177); "" if
    unknown.
    """
    return limited_address(connection.client.host) if connection.client is not None else ""


def limited_address(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
