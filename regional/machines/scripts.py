"""From an answer to the text that a loader runs: iPXE's or GRUB's. Blocking: it asks the doorway.

Invariant: where a text cannot be made, the machine goes to its disk and its timeline says why.
"""

from __future__ import annotations

from common.clock import Clock
from common.errors import Invalid
from regional.machines import grub, ipxe
from regional.machines.asking import Answer, Ask, Boot, LocalDisk, Wait
from regional.machines.boot_files import Environment
from regional.machines.device import Device
from regional.machines.doorway import Doorway
from regional.machines.ledger import Ledger, Told
from regional.machines.links import Links, grub_path


class Scripts:
    """`device.links` is set before the first ask."""

    def __init__(
        self, ledger: Ledger, doorway: Doorway, device: Device, environment: Environment, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._doorway = doorway
        self._device = device
        self._environment = environment
        self._clock = clock

    def ipxe_stub(self, mac: str) -> str:
        links = self._device.links
        return ipxe.stub(links.script(mac)) if links is not None else ipxe.local_disk("this regional is still starting")

    def ipxe(self, ask: Ask) -> str:
        answer, links = self._answer(ask), self._device.links
        if isinstance(answer, LocalDisk) or links is None:
            return ipxe.local_disk(answer.why)
        if isinstance(answer, Wait):
            return ipxe.wait(answer.why, answer.seconds, links.stub(ask.mac))
        try:
            names, arguments = self._files(answer, links, ask.mac)
            urls = [links.file(answer.token, name) for name in names]
            return ipxe.boot(urls[0], urls[1:], arguments, _title(answer))
        except Invalid as failure:
            return ipxe.local_disk(self._broken(ask, failure))

    def grub(self, ask: Ask) -> str:
        """`ask.serial` is None: GRUB cannot say it."""
        answer, links = self._answer(ask), self._device.links
        if isinstance(answer, LocalDisk) or links is None:
            return grub.local_disk(answer.why)
        if isinstance(answer, Wait):
            return grub.wait(answer.why, answer.seconds, grub_path(ask.mac))
        try:
            names, arguments = self._files(answer, links, ask.mac)
            paths = [links.path(answer.token, name) for name in names]
            return grub.boot(paths[0], paths[1:], arguments, _title(answer))
        except Invalid as failure:
            return grub.local_disk(self._broken(ask, failure))

    def _answer(self, ask: Ask) -> Answer:
        return self._doorway.ask(ask, self._clock.now().timestamp())

    def _files(self, answer: Boot, links: Links, mac: str) -> tuple[list[str], str]:
        files = answer.files or self._environment.files()
        arguments = self._device.filled(files.arguments, answer.nonce, answer.token)
        if answer.files is None:
            arguments += f" longshore.url={links.base} longshore.token={answer.token} longshore.mac={mac}"
        if answer.target is not None and answer.target.arguments:
            arguments += f" {answer.target.arguments}"
        return ["kernel", *(f"initrd{number}" for number in range(len(files.initrds)))], arguments

    def _broken(self, ask: Ask, failure: Invalid) -> str:
        self._ledger.tell(Told(ask.mac, "script", f"no script could be made: {failure}", trouble=True))
        return failure.detail


def _title(answer: Boot) -> str:
    name = answer.target.name if answer.target is not None else ""
    return f"{'installing' if answer.installs else 'looking at'} {name or 'this machine'}"
