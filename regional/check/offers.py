"""What the offers to one kind of firmware mean: what it would load, and what is wrong with them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from regional.check.clients import Kind
from regional.check.model import Finding, Load, is_url, ok, warning, wrong
from regional.dhcp import options as o
from regional.dhcp.packet import Packet

_LOADERS = (".efi", ".kpxe", ".pxe", ".kkpxe", ".0")


def judged(kind: Kind, offers: Sequence[Packet]) -> tuple[list[Finding], Load | None]:
    step = f"dhcp {kind}"
    if not offers:
        return [_silence(step)], None
    findings = _addresses(step, offers)
    named = [(offer, name) for offer in offers if (name := _file(offer))]
    if not named:
        servers = ", ".join(sorted(_server(offer) for offer in offers))
        return [*findings, _no_file(kind, step, servers)], None
    offer, name = named[0]
    if len({name for _, name in named}) > 1:
        words = ", ".join(f"{_server(each)} says {name}" for each, name in named)
        action = "let one server name boot files; firmware takes whichever answers first"
        findings.append(warning(step, f"servers name different boot files: {words}", action))
    load = Load("" if is_url(name) else _host(offer), name)
    trouble = _unfit(kind, step, offer, load)
    if trouble is not None:
        return [*findings, trouble], None
    return [*findings, ok(step, f"{_server(offer)} says: load {name}")], load


def _silence(step: str) -> Finding:
    return wrong(
        step,
        "nobody answered DHCP",
        "start the regional with --enable-dhcp; see that its --interface or --dhcp-config names this network, and that "
        "no firewall drops UDP 67 and 68; behind a router, that it relays to the regional",
    )


def _addresses(step: str, offers: Sequence[Packet]) -> list[Finding]:
    givers = sorted({_server(offer) for offer in offers if offer.yiaddr})
    if not givers:
        return [
            wrong(
                step,
                "boot files are offered, and no address",
                "give the regional a pool in --dhcp-config, or start the DHCP server that gives addresses here",
            )
        ]
    if len(givers) > 1:
        action = "stop all but one; machines take whichever answers first"
        return [warning(step, f"{len(givers)} DHCP servers give addresses: {', '.join(givers)}", action)]
    return []


def _no_file(kind: Kind, step: str, servers: str) -> Finding:
    if kind is Kind.IPXE:
        return wrong(step, f"{servers} gives iPXE no script", "see that it is the regional that answers iPXE")
    return wrong(
        step,
        f"{servers} gives an address and no boot file for this firmware",
        "if that is another DHCP server, start the regional beside it as a proxy (--enable-dhcp, no --dhcp-config); "
        "if it is the regional, name a loader for this firmware in its --dhcp-config",
    )


def _unfit(kind: Kind, step: str, offer: Packet, load: Load) -> Finding | None:
    if kind is Kind.IPXE and load.name.lower().endswith(_LOADERS):
        action = "let the regional alone answer iPXE: it gives iPXE a script"
        return wrong(step, f"iPXE is told to load {load.name}, a loader: it would load it for ever", action)
    if kind is not Kind.HTTP:
        return None
    if not offer.options.get(o.VENDOR_CLASS, b"").startswith(b"HTTPClient"):
        action = "let the regional answer; firmware drops such an offer"
        return wrong(step, "the offer does not say HTTPClient (option 60)", action)
    if not load.by_http:
        return wrong(step, f"{load.name} is no URL, and this firmware knows nothing else", "name an http:// URL")
    return None


def _file(offer: Packet) -> str:
    found = offer.options.get(o.BOOT_FILE) or offer.file
    return found.partition(b"\0")[0].decode("utf-8", "replace")


def _host(offer: Packet) -> str:
    if offer.siaddr:
        return str(IPv4Address(offer.siaddr))
    name = offer.options.get(o.SERVER_NAME, b"").partition(b"\0")[0].decode("ascii", "replace")
    return name or _server(offer)


def _server(offer: Packet) -> str:
    return str(IPv4Address(o.read_address(offer.options.get(o.SERVER_ID)) or offer.siaddr))
