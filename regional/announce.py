"""The query of an announce (BEP 3, BEP 23) read byte by byte; pure.

`info_hash` is 20 raw bytes, percent-encoded one by one: a query parser that makes text of it damages every byte above
127, so the raw query string is split here. The address is the connection's: an `ip` parameter would let any bearer
point a whole swarm at a victim.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

from common.digest import Digest
from common.errors import Invalid
from regional.tracker import Address, Announce, AnnounceInvalid, Endpoint

_HASH_BYTES = 20
_FIELDS = frozenset({"token", "digest", "info_hash", "port", "left", "event", "numwant", "compact"})
_MAXIMUM_NUMBER = 1 << 62


@dataclass(frozen=True, slots=True)
class AnnounceQuery:
    """`digest`: of the content, where the token is for several; None: it did not say."""

    token: str
    digest: Digest | None
    info_hash: bytes
    port: int
    left_bytes: int
    stopped: bool
    wanted: int

    def announce(self, bearer: str, remote: str) -> Announce:
        """Raises `AnnounceInvalid` if `remote` is no IP address."""
        return Announce(
            self.info_hash,
            bearer,
            Endpoint(_address(remote), self.port),
            self.left_bytes,
            stopped=self.stopped,
            wanted=self.wanted,
        )


def parse_announce(raw_query: str) -> AnnounceQuery:
    """Raises `AnnounceInvalid`; it names the field."""
    fields: dict[str, str] = {}
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        if name in _FIELDS:
            if name in fields:
                raise AnnounceInvalid(f"{name} is given twice")
            fields[name] = value
    info_hash = unquote_to_bytes(fields.get("info_hash", ""))
    if len(info_hash) != _HASH_BYTES:
        raise AnnounceInvalid(f"info_hash has {len(info_hash)} bytes instead of {_HASH_BYTES}")
    if fields.get("compact") == "0":
        raise AnnounceInvalid("only compact answers are given (BEP 23)")
    token = unquote(fields.get("token", ""))
    if not token:
        raise AnnounceInvalid("the announce URL has no token")
    port = _number(fields, "port", None)
    if not 0 < port < 1 << 16:
        raise AnnounceInvalid(f"port {port} is not a TCP port")
    return AnnounceQuery(
        token,
        _digest(unquote(fields.get("digest", ""))),
        info_hash,
        port,
        _number(fields, "left", _MAXIMUM_NUMBER),
        fields.get("event") == "stopped",
        _number(fields, "numwant", 50),
    )


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except Invalid as failure:
        raise AnnounceInvalid(f"digest: {failure.detail}") from None


def _number(fields: dict[str, str], name: str, default: int | None) -> int:
    text = fields.get(name)
    if text is None and default is not None:
        return default
    # -1 is what some clients send for "as many as you like" (numwant) and "unknown" (left).
    if text == "-1" and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 19:
        raise AnnounceInvalid(f"{name} is not a number")
    return int(text)


def _address(remote: str) -> Address:
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        raise AnnounceInvalid(f"{remote[:60]!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
