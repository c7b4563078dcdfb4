"""The centre's boot targets as this package's own words.

Invariant: what makes no sense is left out and logged, the rest of the machine still counts; an operation that is not
understood makes its intent unusable instead of being skipped.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from common.digest import Digest
from common.errors import Failure
from proto.content.v1 import content_pb2
from proto.regional.v1 import machines_pb2 as pb
from regional.boot_targets import mac_of
from regional.machines.model import (
    BootFile,
    BootFiles,
    Content,
    Disk,
    Document,
    Intent,
    Operation,
    Otherwise,
    Script,
    Target,
    Word,
)

log = structlog.get_logger()

_OTHERWISE: dict[int, Otherwise] = {
    pb.WITHOUT_INTENT_LOCAL_DISK: Otherwise.LOCAL_DISK,
    pb.WITHOUT_INTENT_DISCOVERY: Otherwise.DISCOVERY,
    pb.WITHOUT_INTENT_AS_STRANGER: Otherwise.AS_STRANGER,
}

# As DHCP option 93 would say it (boot_targets.py).
_ARCHITECTURES: dict[int, int] = {
    pb.FIRMWARE_BIOS: 0,
    pb.FIRMWARE_UEFI_X64: 7,
    pb.FIRMWARE_UEFI_ARM64: 11,
    pb.FIRMWARE_UEFI_HTTP_X64: 16,
    pb.FIRMWARE_UEFI_HTTP_ARM64: 19,
}


def targets_of(bodies: Iterable[bytes]) -> list[Target]:
    found = []
    for body in bodies:
        target = target_of(pb.BootTarget.FromString(body))
        if target is not None:
            found.append(target)
    return found


def target_of(said: pb.BootTarget) -> Target | None:
    """None: nobody could ask for it."""
    macs = tuple(mac for text in said.macs if (mac := mac_of(text)) is not None)
    if not macs or not said.machine_id:
        log.error("boot target without an address left out", machine=said.machine_id[:80])
        return None
    intent = None
    if said.HasField("intent"):
        try:
            intent = intent_of(said.intent)
        except Failure as failure:
            log.error("install intent not understood", machine=said.machine_id, error=str(failure))
        except ValueError as error:
            log.error("install intent not understood", machine=said.machine_id, error=str(error))
    return Target(
        said.machine_id,
        macs,
        said.serial,
        said.name,
        said.loader,
        said.loader_arguments,
        _ARCHITECTURES.get(said.firmware),
        intent,
        _OTHERWISE.get(said.without_intent, Otherwise.SETTING),
    )


def intent_of(said: pb.InstallIntent) -> Intent:
    """Raises `Failure` or ValueError."""
    if not said.id:
        raise ValueError("it has no id")
    return Intent(
        said.id,
        said.tenant_id,
        said.not_after_ms / 1000,
        said.longest_seconds,
        _boot(said.boot) if said.HasField("boot") else None,
        tuple(Document(each.name, each.media_type, each.content, each.secret) for each in said.documents),
        tuple(_operation(each) for each in said.operations),
        said.placeholder_nonce,
        said.consumed,
    )


def _operation(said: pb.Operation) -> Operation:
    what = said.WhichOneof("what")
    match what:
        case "hardware_config":
            return _script(said, Word.HARDWARE_CONFIG, said.hardware_config)
        case "network_config":
            return _script(said, Word.NETWORK_CONFIG, said.network_config)
        case "disk_wipe":
            wipe = said.disk_wipe
            return Operation(said.id, Word.DISK_WIPE, said.timeout_seconds, disk=_disk(wipe.disk), whole=wipe.whole)
        case "image_install":
            image = said.image_install
            return Operation(
                said.id,
                Word.OS_INSTALL,
                said.timeout_seconds,
                disk=_disk(image.disk),
                image=_content(image.content),
                image_format=image.format,
                seed_documents=tuple(image.seed_documents),
                grow=image.grow,
            )
        case "installer_boot":
            return Operation(said.id, Word.OS_INSTALL, said.timeout_seconds, boot=_boot(said.installer_boot.boot))
        case "reboot":
            return Operation(said.id, Word.REBOOT, said.timeout_seconds)
        case "complete":
            return Operation(said.id, Word.COMPLETE, said.timeout_seconds)
    raise ValueError(f"operation {said.id!r} is of a kind that this regional does not know")


def _script(said: pb.Operation, word: Word, script: pb.Script) -> Operation:
    shell = Script(script.name, script.interpreter or "/bin/sh", script.content)
    return Operation(said.id, word, said.timeout_seconds, script=shell)


def _boot(said: pb.BootFiles) -> BootFiles:
    return BootFiles(_file(said.kernel), tuple(_file(each) for each in said.initrds), said.arguments)


def _file(said: pb.BootFile) -> BootFile:
    if said.WhichOneof("where") == "content":
        return BootFile(_content(said.content))
    if not said.path:
        raise ValueError("a boot file is neither a content nor a path")
    return BootFile(None, said.path)


def _content(said: content_pb2.Content) -> Content:
    return Content(Digest.parse(said.digest), said.size_bytes, said.token)


def _disk(said: pb.DiskChoice) -> Disk:
    return Disk(said.serial, said.wwn, said.name, said.least_bytes)
