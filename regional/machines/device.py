"""The device API: what a machine in an installer environment asks and says, in LPMOS's words.

Invariants: a machine is heard only with the token of its present boot, and must be the one that the approval names, by
MAC and by serial number where that is known; its answer leaves after what it said is on the disk. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import json_format

from common.clock import Clock
from common.errors import Denied, Invalid, NotFound, Unavailable
from common.late_words import LateFacts, LateWordInvalid, fill
from proto.regional.v1 import machines_pb2 as pb
from regional.boot_targets import mac_of
from regional.machines import course
from regional.machines.asking import said_serial, same_serial
from regional.machines.course import InstallOver, Moved
from regional.machines.doorway import Doorway
from regional.machines.ledger import Bearer, Ledger, Told
from regional.machines.links import Links
from regional.machines.model import Document, Install, Intent, Operation, Sighting, Stage, Word
from regional.machines.reports import Writer

Body = Mapping[str, Any]
_RETRY_SECONDS = 10
# An installer reads a document a few times; who reads it more often is no installer.
_READS = 50
_MOST_COUNTED = 10_000
# Lines for people lie on our disk until the centre has them.
_LINE_BYTES = 16 << 10
_LOG_BYTES = 4 << 20


class WordsInvalid(Invalid):
    """A field of the request is missing or makes no sense."""

    code = "device_words_invalid"


class MachineForeign(Denied):
    """The machine that speaks is not the one that the token was made for."""

    code = "machine_foreign"


class DocumentUnknown(NotFound):
    code = "machine_document_unknown"


class ReadTooOften(Denied):
    code = "machine_document_read_too_often"


class Device:
    """`links`: the URLs of this regional; set before anything is asked."""

    def __init__(self, ledger: Ledger, doorway: Doorway, writer: Writer, clock: Clock) -> None:
        self._ledger = ledger
        self._doorway = doorway
        self._writer = writer
        self._clock = clock
        self.links: Links | None = None
        self._said: dict[str, int] = {}
        self._reads: dict[tuple[str, str], int] = {}

    @property
    def words(self) -> Mapping[str, Callable[[str, Body], dict[str, Any]]]:
        return {
            "report": self.report,
            "isInInstallQueue": self.is_in_install_queue,
            "getNextOperation": self.get_next_operation,
            "getHardwareConfig": self.get_hardware_config,
            "progress": self.progress,
            "operationComplete": self.operation_complete,
            "operationFailed": self.operation_failed,
        }

    def report(self, token: str, body: Body) -> dict[str, Any]:
        """What the machine is made of: `{"sn", "mac", "hardware": {...}}`, the fields of `Inventory`."""
        bearer = self._known(token, body)
        hardware = body.get("hardware", {})
        if not isinstance(hardware, dict):
            raise WordsInvalid("`hardware` is no object", action="send what the machine is made of")
        try:
            inventory = json_format.ParseDict(hardware, pb.Inventory(), ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise WordsInvalid(f"the hardware is not understood: {str(error)[:200]}", action="see docs") from None
        inventory.serial = said_serial(inventory.serial or _text(body, "sn"))
        session, now = bearer.session, self._now()
        seen = Sighting(
            session.mac, inventory.serial, inventory.uuid, architecture=inventory.cpu_architecture, by="http"
        )
        self._ledger.report(
            self._writer.inventory(session.machine_id, inventory, session.mac, now),
            self._writer.sighting(session.machine_id, seen, now),
        )
        self._heard(bearer, "it reported its hardware")
        return {"status": "success", "machine": session.machine_id}

    def is_in_install_queue(self, token: str, body: Body) -> dict[str, Any]:
        """Whether to go on to `getNextOperation`; `reboot`: something was approved that needs another boot."""
        bearer = self._known(token, body)
        if bearer.install is None:
            bearer = self._doorway.begin_here(token, _text(body, "sn"), self._now())
        install, target = bearer.install, bearer.target
        if install is not None and bearer.intent is not None:
            return {"result": not install.stage.over, "stage": str(install.stage), "detail": install.detail}
        waits = target is not None and target.intent is not None and self._ledger.install(target.intent.id) is None
        other = waits and target is not None and target.intent is not None and target.intent.boot is not None
        return {"result": False, "reboot": other, "detail": "", "retry_seconds": _RETRY_SECONDS}

    def get_next_operation(self, token: str, body: Body) -> dict[str, Any]:
        """`attempt`: made anew for each question, the same for each repetition of it."""
        attempt = _text(body, "attempt")
        if not 0 < len(attempt) <= 64:
            raise WordsInvalid("`attempt` is missing", action="send something random, the same when you ask again")
        self._known(token, body, strictly=True)
        given: list[Operation] = []

        def move(intent: Intent, install: Install) -> Moved:
            moved, operation = course.asks_next(intent, install, attempt, self._now())
            given.extend([operation] if operation is not None else [])
            return moved

        after = self._act(token, move)
        if not given or after.intent is None:
            last = "reboot" if after.install is not None and after.install.stage is Stage.COMPLETED else "stop"
            reason = after.install.detail if after.install is not None else ""
            return {"operation": last, "id": "", "reason": reason}
        return {"operation": str(given[0].word), "id": given[0].id, **self._details(given[0], after, token)}

    def get_hardware_config(self, token: str, body: Body) -> dict[str, Any]:
        """All scripts of the installation that configure hardware."""
        bearer = self._known(token, body, strictly=True)
        if bearer.intent is None:
            return {"scripts": []}
        wanted = [each for each in bearer.intent.operations if each.word is Word.HARDWARE_CONFIG]
        return {"scripts": [{"id": each.id, **self._script(each, bearer.intent, token)} for each in wanted]}

    def progress(self, token: str, body: Body) -> dict[str, Any]:
        """`{"operation", "percent", "text"}`; without a percentage only lines for people."""
        self._known(token, body)
        percent = body.get("percent", -1)
        if not isinstance(percent, int | float) or isinstance(percent, bool) or not -1 <= percent <= 100:
            raise WordsInvalid("`percent` is no number up to 100", action="send 0 to 100, or leave it out")
        operation, text = _text(body, "operation"), self._bounded(token, _text(body, "text") or _text(body, "message"))
        self._act(token, lambda a, b: course.progresses(a, b, operation, int(percent), text, self._now()))
        return {"status": "success"}

    def operation_complete(self, token: str, body: Body) -> dict[str, Any]:
        """`{"operation", "success", "message", "digest"}`; without `success` it succeeded."""
        success = body.get("success", True)
        if not isinstance(success, bool) and success not in ("true", "false"):
            raise WordsInvalid("`success` is neither true nor false", action="send a boolean")
        if success in (False, "false"):
            return self.operation_failed(token, body)
        self._known(token, body)
        operation, digest = _text(body, "operation"), _text(body, "digest")
        after = self._act(token, lambda a, b: course.ends(a, b, operation, digest, self._now()))
        return {"status": "success", "stage": str(after.install.stage) if after.install is not None else ""}

    def operation_failed(self, token: str, body: Body) -> dict[str, Any]:
        """`{"operation", "message"}`: the installation ends here."""
        self._known(token, body)
        operation, why = _text(body, "operation"), _text(body, "message") or _text(body, "text")
        after = self._act(token, lambda a, b: course.breaks(a, b, operation, why, self._now()))
        return {"status": "success", "stage": str(after.install.stage) if after.install is not None else ""}

    def document(self, token: str, name: str) -> Document:
        """Filled with what only this regional knows. Raises `DocumentUnknown`, `InstallOver`, `ReadTooOften`."""
        bearer = self._ledger.bearer(token)
        intent = bearer.intent
        found = next((each for each in intent.documents if each.name == name), None) if intent is not None else None
        if intent is None or found is None:
            raise DocumentUnknown(f"no document {name[:80]!r} was made for this boot", action="see the install task")
        if bearer.install is not None and bearer.install.stage.over:
            raise InstallOver(f"the installation is {bearer.install.stage}", action="stop")
        self._count(token, name)
        self._act(token, lambda _, install: course.checks_in(install, self._now()))
        self._ledger.tell(Told(bearer.session.mac, "installer", f"it read {name}"))
        text = self.filled(found.content.decode("utf-8", "replace"), intent.nonce, token)
        return Document(found.name, found.media_type, text.encode(), found.secret)

    def filled(self, text: str, nonce: str, token: str) -> str:
        """Raises `LateWordInvalid`."""
        links = self.links
        if links is None:
            raise Unavailable("this regional is still starting", retry_after_seconds=2)
        facts = LateFacts(links.base, links.documents(token), links.device(token), token)
        return fill(text, nonce, facts)

    def _details(self, operation: Operation, bearer: Bearer, token: str) -> dict[str, Any]:
        intent, links = bearer.intent, self.links
        if intent is None or links is None:
            raise LateWordInvalid("this regional does not know its own address yet", action="ask again")
        if operation.script is not None:
            return self._script(operation, intent, token)
        disk = {
            "serial": operation.disk.serial,
            "wwn": operation.disk.wwn,
            "name": operation.disk.name,
            "least_bytes": operation.disk.least_bytes,
        }
        if operation.image is not None:
            return {
                "method": "image",
                "url": links.file(token, "image"),
                "digest": str(operation.image.digest),
                "size_bytes": operation.image.size_bytes,
                "format": operation.image_format,
                "disk": disk,
                "grow": operation.grow,
                "seed": [links.documents(token) + "/" + name for name in operation.seed_documents],
            }
        if operation.boot is not None:
            files = operation.boot
            return {
                "method": "installer",
                "kernel": links.file(token, "os-kernel"),
                "initrds": [links.file(token, f"os-initrd{number}") for number in range(len(files.initrds))],
                "arguments": self.filled(files.arguments, intent.nonce, token),
            }
        return {"disk": disk, "whole": operation.whole} if operation.word is Word.DISK_WIPE else {}

    def _script(self, operation: Operation, intent: Intent, token: str) -> dict[str, Any]:
        script = operation.script
        if script is None:
            return {}
        text = self.filled(script.content.decode("utf-8", "replace"), intent.nonce, token)
        return {"name": script.name, "interpreter": script.interpreter, "script": text}

    def _known(self, token: str, body: Body, *, strictly: bool = False) -> Bearer:
        """Raises `MachineForeign` for words about another machine, `strictly` also if the serial number is missing."""
        bearer = self._ledger.bearer(token)
        said_mac, said_sn, target = _text(body, "mac"), _text(body, "sn"), bearer.target
        macs = (bearer.session.mac, *(target.macs if target is not None else ()))
        if said_mac and mac_of(said_mac) not in macs:
            raise MachineForeign(f"{said_mac[:40]!r} is not the machine of this token", action="use your own token")
        known = target.serial if target is not None else ""
        if known and (said_sn or strictly) and not same_serial(known, said_sn):
            why = f"serial number {said_sn[:64]!r} is not the one of this token's machine"
            self._ledger.tell(Told(bearer.session.mac, "installer", why, trouble=True))
            raise MachineForeign(why, action="send the serial number that SMBIOS says as `sn`")
        return bearer

    def _act(self, token: str, move: Callable[[Intent, Install], Moved]) -> Bearer:
        return self._ledger.act(token, self._now(), move)

    def _heard(self, bearer: Bearer, what: str) -> None:
        self._ledger.tell(Told(bearer.session.mac, "installer", what))

    def _count(self, token: str, name: str) -> None:
        count = self._reads[token, name] = self._reads.pop((token, name), 0) + 1
        if len(self._reads) > _MOST_COUNTED:
            del self._reads[next(iter(self._reads))]
        if count > _READS:
            raise ReadTooOften(f"{name[:80]!r} was read {_READS} times", action="boot again from the network")

    def _bounded(self, token: str, text: str) -> str:
        """Its last lines, as long as this boot has not said too much already."""
        kept = text[-_LINE_BYTES:]
        said = self._said[token] = self._said.pop(token, 0) + len(kept)
        if len(self._said) > _MOST_COUNTED:
            del self._said[next(iter(self._said))]
        return kept if said <= _LOG_BYTES else ""

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _text(body: Body, name: str) -> str:
    value = body.get(name, "")
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise WordsInvalid(f"`{name}` is no text", action="send a string")
    return value
