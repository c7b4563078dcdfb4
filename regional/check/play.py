"""The whole play: each kind of firmware from its DISCOVER to the file that it would run, then the regional itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

from regional.boot_targets import LOADERS, SELF_CHECK_MAC, Firmware
from regional.check.asking import Asker, CannotAsk
from regional.check.clients import Kind
from regional.check.loading import Loading
from regional.check.model import Finding, Load, wrong
from regional.check.offers import judged

_FIRMWARE = {Kind.BIOS: Firmware.BIOS, Kind.UEFI: Firmware.UEFI_X64, Kind.UEFI_ARM: Firmware.UEFI_ARM64}


async def play(
    asker: Asker | None, loading: Loading, kinds: Sequence[Kind], base: str | None
) -> AsyncIterator[Finding]:
    """`asker` None: DHCP is left out, and what it would have said is what the regional at `base` says by itself. `base`
    None: the regional is found through what DHCP names.
    """
    for kind in kinds:
        load: Load | None
        if asker is None:
            load = _usual(kind, base or "")
        else:
            try:
                findings, load = judged(kind, await asker.offers(kind))
            except CannotAsk as failure:
                yield wrong(f"dhcp {kind}", failure.detail, failure.action)
                return
            for finding in findings:
                yield finding
        if load is None:
            continue
        for finding in await loading.loader(kind, load):
            yield finding
        base = base or _base(load)
    if base is not None:
        for finding in await loading.health(base):
            yield finding


def _usual(kind: Kind, base: str) -> Load:
    if kind is Kind.IPXE:
        return Load("", f"{base}/boot/{SELF_CHECK_MAC.replace(':', '-')}.ipxe")
    if kind is Kind.HTTP:
        return Load("", f"{base}/{LOADERS[Firmware.UEFI_X64]}")
    return Load(urlsplit(base).hostname or "", LOADERS[_FIRMWARE[kind]])


def _base(load: Load) -> str | None:
    if not load.by_http:
        return None
    parts = urlsplit(load.name)
    return f"{parts.scheme}://{parts.netloc}"
