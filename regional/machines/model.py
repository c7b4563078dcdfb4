"""What the centre says of a machine, and how far its installation is; pure.

Times are seconds since 1970 by the regional's clock, because they must mean something after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from common.digest import Digest


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes in the edge cache. `token`: the right to fetch them if they are not there yet."""

    digest: Digest
    size_bytes: int
    token: str


@dataclass(frozen=True, slots=True)
class BootFile:
    """A content, or else a path below `/static`."""

    content: Content | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """`arguments` carry placeholders of late facts."""

    kernel: BootFile
    initrds: tuple[BootFile, ...] = ()
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    media_type: str
    content: bytes
    secret: bool = True


class Word(StrEnum):
    """What the device API asks a machine to do."""

    HARDWARE_CONFIG = "hardware_config"
    NETWORK_CONFIG = "network_config"
    DISK_WIPE = "disk_wipe"
    OS_INSTALL = "os_install"
    REBOOT = "reboot"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    interpreter: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Disk:
    """Which one; what is empty does not choose."""

    serial: str = ""
    wwn: str = ""
    name: str = ""
    least_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """`image` or `boot` for an os_install, `script` for a configuration, `disk` for what writes to one."""

    id: str
    word: Word
    timeout_seconds: int = 0
    script: Script | None = None
    disk: Disk = field(default_factory=Disk)
    whole: bool = False
    image: Content | None = None
    image_format: str = ""
    seed_documents: tuple[str, ...] = ()
    grow: bool = False
    boot: BootFiles | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """Permission for one installation. `boot` None: through our own installer environment. `nonce`: of placeholders.
    `consumed`: the centre heard that it was begun.
    """

    id: str
    tenant_id: str = ""
    not_after: float = 0.0
    longest_seconds: int = 0
    boot: BootFiles | None = None
    documents: tuple[Document, ...] = ()
    operations: tuple[Operation, ...] = ()
    nonce: str = ""
    consumed: bool = False

    def contents(self) -> list[Content]:
        """Everything that must be held before it begins."""
        files = [*_files(self.boot)]
        for operation in self.operations:
            files += _files(operation.boot)
            if operation.image is not None:
                files.append(BootFile(operation.image))
        return [file.content for file in files if file.content is not None]


def _files(boot: BootFiles | None) -> list[BootFile]:
    return [boot.kernel, *boot.initrds] if boot is not None else []


class Otherwise(StrEnum):
    """What a machine boots that has nothing to install."""

    SETTING = "setting"
    LOCAL_DISK = "local-disk"
    DISCOVERY = "discovery"
    AS_STRANGER = "as-stranger"  # nobody accepted it yet


@dataclass(frozen=True, slots=True)
class Target:
    """`serial` empty: not known. `macs` in lower case with colons. `loader`: a path below /static instead of the usual
    one. `architecture`: the number of DHCP option 93 that is believed instead of the machine's.
    """

    machine_id: str
    macs: tuple[str, ...]
    serial: str = ""
    name: str = ""
    loader: str = ""
    arguments: str = ""
    architecture: int | None = None
    intent: Intent | None = None
    otherwise: Otherwise = Otherwise.SETTING


class Stage(StrEnum):
    OFFERED = "offered"  # its script was handed out; nothing was begun
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"  # its intent was withdrawn

    @property
    def over(self) -> bool:
        return self not in (Stage.OFFERED, Stage.RUNNING)


@dataclass(frozen=True, slots=True)
class Install:
    """How far one intent is. `session`: hash of the token of the one boot that may act on it. `operation`: index of
    the next or present one; `begun`: the nonce with which it was handed out, empty: it was not. `handed_over`: the
    kernel of a distribution's installer was sent. `heard_at`: when the machine last spoke; `booted_at`: when a loader
    asked in the middle of an operation, 0: it did not.
    """

    intent_id: str
    machine_id: str
    stage: Stage
    session: str
    began_at: float
    heard_at: float
    boots: int = 1
    operation: int = 0
    begun: str = ""
    handed_over: bool = False
    step_at: float = 0.0
    booted_at: float = 0.0
    detail: str = ""


class Phase(StrEnum):
    """Of an installation, as the centre is told."""

    BOOTING = "booting"
    INSTALLING = "installing"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class StepPhase(StrEnum):
    STARTED = "started"
    PROGRESS = "progress"
    LOG = "log"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PhaseSaid:
    phase: Phase
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepSaid:
    operation_id: str
    phase: StepPhase
    percent: int = 0
    text: str = ""


Said = PhaseSaid | StepSaid


@dataclass(frozen=True, slots=True)
class Session:
    """One boot that was given a script with a token. `intent_id` empty: it only looks around."""

    mac: str
    machine_id: str
    intent_id: str
    issued_at: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a machine said of itself when it was seen; what is not known is empty."""

    mac: str
    serial: str = ""
    uuid: str = ""
    address: str = ""
    architecture: str = ""
    vendor_class: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a boot timeline. `kind`: what verdicts go by; empty: nothing that anything must follow."""

    at: float
    stage: str
    detail: str
    trouble: bool = False
    kind: str = ""
