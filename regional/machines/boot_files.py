"""Kernels, initrds and images of one boot, by the token that it was given.

Invariant: the kernel of a distribution's installer leaves only after it is on the disk that the installation was handed
over, so no later boot gets it. Blocking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.clock import Clock
from common.errors import NotFound
from regional.machines import course
from regional.machines.ledger import Bearer, Ledger, Told
from regional.machines.model import BootFile, BootFiles, Install, Intent

_INITRD = re.compile(r"initrd([0-9]{1,2})")


class BootFileUnknown(NotFound):
    code = "boot_file_unknown"


@dataclass(frozen=True, slots=True)
class Environment:
    """Our installer environment: paths below the static root, and arguments for its kernel."""

    kernel: str
    initrd: str
    arguments: str = ""

    def files(self) -> BootFiles:
        initrds = (BootFile(path=self.initrd),) if self.initrd else ()
        return BootFiles(BootFile(path=self.kernel), initrds, self.arguments)


@dataclass(frozen=True, slots=True)
class Found:
    """`tenant_id`: whose content it is."""

    file: BootFile
    tenant_id: str


class BootFilesOf:
    def __init__(self, ledger: Ledger, environment: Environment, clock: Clock) -> None:
        self._ledger = ledger
        self.environment = environment
        self._clock = clock

    def find(self, token: str, name: str, *, peek: bool = False) -> Found:
        """`peek`: nothing will be sent. Raises `BootFileUnknown`, `InstallOver`, and what `Ledger.bearer` raises."""
        bearer = self._ledger.bearer(token)
        file = self._file(bearer, name)
        if file is None:
            raise BootFileUnknown(f"this boot has no file {name[:40]!r}", action="boot again from the network")
        intent = bearer.intent
        if bearer.install is not None and not peek:
            handed = intent is not None and intent.boot is not None and name == "kernel"
            self._ledger.act(token, self._now(), self._handed_over if handed else self._still_open)
        if name in ("kernel", "os-kernel", "image") and not peek:
            # An installer that is fetched speaks next; an image is fetched by one that speaks.
            kind = "" if name == "image" else "kernel"
            self._ledger.tell(Told(bearer.session.mac, kind or "http", f"it fetches its {name}"))
        return Found(file, intent.tenant_id if intent is not None else "")

    def lacks(self, token: str, path: str) -> None:
        """A file below /static that this boot needs is not there."""
        environment = path in (self.environment.kernel, self.environment.initrd)
        hint = ": make it with `make installer` and publish it" if environment else ": publish it"
        mac = self._ledger.bearer(token).session.mac
        self._ledger.tell(Told(mac, "http", f"/static/{path} is not there{hint}", trouble=True))

    def _file(self, bearer: Bearer, name: str) -> BootFile | None:
        intent, install = bearer.intent, bearer.install
        if name.startswith("os-") or name == "image":
            if intent is None or install is None or not install.begun or install.operation >= len(intent.operations):
                return None
            present = intent.operations[install.operation]
            if name == "image":
                return BootFile(present.image) if present.image is not None else None
            return _named(present.boot, name.removeprefix("os-")) if present.boot is not None else None
        if install is not None and intent is None:
            return None
        return _named(intent.boot if intent is not None and intent.boot else self.environment.files(), name)

    def _handed_over(self, _: Intent, install: Install) -> course.Moved:
        return course.hands_over(install, self._now())

    def _still_open(self, _: Intent, install: Install) -> course.Moved:
        if install.stage.over:
            raise course.InstallOver(f"the installation is {install.stage}", action="stop")
        return course.Moved(install)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _named(files: BootFiles, name: str) -> BootFile | None:
    if name == "kernel":
        return files.kernel
    found = _INITRD.fullmatch(name)
    number = int(found[1]) if found is not None else -1
    return files.initrds[number] if 0 <= number < len(files.initrds) else None
