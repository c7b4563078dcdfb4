"""From a profile and a machine to what its regional is told: operations, files, documents; pure.

A distribution's installer is booted directly where nothing has to be done before it; else, and for images, the machine
boots the regional's own installer environment, which carries out the operations and hands over.

Invariants: the last operation is `complete`, and the one before it the machine's own restart, or the distribution's
installer, which restarts it. Contents carry no token here: tokens are for one regional and one day (`targets`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from control_plane.machines.answers import model as answers
from control_plane.machines.model import Machine
from control_plane.machines.profiles_model import Method, ProfileSpec
from control_plane.machines.tasks_model import InstallTask, Step, TaskImage
from proto.content.v1 import content_pb2
from proto.regional.v1 import machines_pb2 as wire

BOOT, SYSTEM = "boot", "system"
Steps: TypeAlias = tuple[Step, ...]
_SCRIPT_SECONDS = 1800
_WIPE_SECONDS = 3600
_RESTART_SECONDS = 1800
_HARDWARE, _NETWORK, _WIPE, _INSTALL, _RESTART, _COMPLETE = (
    "hardware-config",
    "network-config",
    "disk-wipe",
    "os-install",
    "reboot",
    "complete",
)
_WEIGHTS = {_INSTALL: 20}


def operation_ids(spec: ProfileSpec) -> list[str]:
    wanted = [
        (_HARDWARE, bool(spec.hardware_script)),
        (_NETWORK, bool(spec.network_script)),
        (_WIPE, spec.wipe),
        (_INSTALL, True),
        (_RESTART, spec.method is Method.IMAGE),
        (_COMPLETE, True),
    ]
    return [name for name, needed in wanted if needed]


def steps_of(spec: ProfileSpec) -> tuple[Step, ...]:
    return tuple(Step(id=name, what=name, weight=_WEIGHTS.get(name, 1)) for name in operation_ids(spec))


def direct(spec: ProfileSpec) -> bool:
    """Whether the machine boots the distribution's installer at once."""
    return spec.method is Method.INSTALLER and not (spec.hardware_script or spec.network_script or spec.wipe)


def installation(spec: ProfileSpec, machine: Machine) -> answers.Installation:
    """What the renderers take. The machine's own network and variables come before the profile's."""
    uefi = (machine.boot.firmware.value or machine.architecture).startswith("uefi")
    arm = "arm64" in (machine.boot.firmware.value or machine.architecture)
    return answers.Installation(
        machine_id=machine.id,
        hostname=machine.name,
        system=spec.system,
        domain=spec.domain,
        serial=machine.serial,
        mac=machine.macs[0],
        architecture="aarch64" if arm else "x86_64",
        firmware=answers.Firmware.UEFI if uefi else answers.Firmware.BIOS,
        locale=spec.locale,
        keyboard=spec.keyboard,
        timezone=spec.timezone,
        ntp_servers=spec.ntp_servers,
        root_password_hash=spec.root_password_hash,
        root_ssh_keys=spec.root_ssh_keys,
        users=spec.users,
        storage=spec.storage,
        network=machine.network or spec.network,
        source=spec.source,
        repositories=spec.repositories,
        packages=spec.packages,
        post_script=spec.post_script,
        operation=_INSTALL,
        kernel_arguments=spec.kernel_arguments,
        ending=spec.ending,
        template=spec.template,
        variables=tuple(sorted({**dict(spec.variables), **machine.variables}.items())),
        secrets=spec.secrets,
    )


def intent(
    spec: ProfileSpec, task: InstallTask, answered: answers.Answers, nonce: str, begin_by: datetime
) -> wire.InstallIntent:
    """`task` is armed already: it has its intent's id."""
    arguments = " ".join((*answered.boot_arguments, *spec.installer_arguments))
    files = _boot_files(spec, task, arguments) if spec.method is Method.INSTALLER else None
    return wire.InstallIntent(
        id=task.intent_id,
        task_id=task.id,
        attempt=task.attempt,
        tenant_id=task.content_tenant_id,
        not_after_ms=int(begin_by.timestamp() * 1000),
        longest_seconds=spec.longest_seconds,
        boot=files if direct(spec) else None,
        documents=[
            wire.Document(name=one.name, media_type=one.media_type, content=one.text.encode(), secret=True)
            for one in answered.documents
        ],
        operations=[_operation(name, spec, task, answered, files) for name in operation_ids(spec)],
        placeholder_nonce=nonce,
    )


def contents_in(intent: wire.InstallIntent) -> Sequence[content_pb2.Content]:
    """Every content that it names, to be given its token in place."""
    found = [content for file in _files_in(intent.boot) for content in file]
    for operation in intent.operations:
        if operation.HasField("image_install"):
            found.append(operation.image_install.content)
        if operation.HasField("installer_boot"):
            found += [content for file in _files_in(operation.installer_boot.boot) for content in file]
    return found


def _files_in(files: wire.BootFiles) -> list[list[content_pb2.Content]]:
    return [[file.content] for file in (files.kernel, *files.initrds) if file.HasField("content")]


def _boot_files(spec: ProfileSpec, task: InstallTask, arguments: str) -> wire.BootFiles:
    image = task.images.get(BOOT)
    if image is not None:
        kernel, *initrds = [wire.BootFile(content=_content(*one)) for one in _layers(image)]
    else:
        kernel = wire.BootFile(path=spec.boot.kernel)
        initrds = [wire.BootFile(path=path) for path in spec.boot.initrds]
    return wire.BootFiles(kernel=kernel, initrds=initrds, arguments=arguments)


def _operation(
    name: str, spec: ProfileSpec, task: InstallTask, answered: answers.Answers, files: wire.BootFiles | None
) -> wire.Operation:
    made = wire.Operation(id=name, weight=_WEIGHTS.get(name, 1), timeout_seconds=_SCRIPT_SECONDS)
    if name == _HARDWARE:
        made.hardware_config.CopyFrom(wire.Script(name=name, content=spec.hardware_script.encode()))
    elif name == _NETWORK:
        made.network_config.CopyFrom(wire.Script(name=name, content=spec.network_script.encode()))
    elif name == _WIPE:
        made.timeout_seconds = _WIPE_SECONDS
        made.disk_wipe.CopyFrom(wire.DiskWipe(disk=_disk(spec)))
    elif name == _INSTALL:
        made.timeout_seconds = spec.longest_seconds
        if files is not None:
            made.installer_boot.CopyFrom(wire.InstallerBoot(boot=files))
        else:
            made.image_install.CopyFrom(_image_install(spec, task, answered))
    elif name == _RESTART:
        made.timeout_seconds = _RESTART_SECONDS
        made.reboot.CopyFrom(wire.Reboot())
    else:
        made.timeout_seconds = 0
        made.complete.CopyFrom(wire.Complete())
    return made


def _image_install(spec: ProfileSpec, task: InstallTask, answered: answers.Answers) -> wire.ImageInstall:
    layers = _layers(task.images[SYSTEM])
    return wire.ImageInstall(
        content=_content(*layers[0]),
        format=spec.image_format.value,
        disk=_disk(spec),
        seed_documents=[one.name for one in answered.documents],
        grow=True,
    )


def _disk(spec: ProfileSpec) -> wire.DiskChoice:
    chosen = spec.storage.disks[0] if spec.storage.disks else answers.Disk()
    return wire.DiskChoice(name=chosen.path, serial=chosen.serial, wwn=chosen.wwn)


def _layers(image: TaskImage) -> Sequence[tuple[str, int, str]]:
    """Without the config, which is the first."""
    return image.contents[1:]


def _content(digest: str, size_bytes: int, media_type: str) -> content_pb2.Content:
    return content_pb2.Content(digest=digest, size_bytes=size_bytes, media_type=media_type)
