"""What a loader that asks is told to boot.

Invariant: a machine boots an installer only for an intent that is its own by MAC, by serial number where that is known,
and by the address that we gave it; in every doubt it boots its disk. Blocking, like the ledger that it stands before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from common.digest import Digest
from regional.machines import course
from regional.machines.asking import Answer, Ask, Boot, LocalDisk, Wait, same_serial
from regional.machines.ledger import Bearer, Ledger, Told, token_hash
from regional.machines.model import Install, Intent, Otherwise, Session, Stage, Target
from regional.machines.queue import RETRY_SECONDS, BootQueue

# Loaders ask for one script more than once: a size probe, a second look, a retry. Whoever asks again so soon, before
# anything was begun, is the same boot.
_SAME_BOOT_SECONDS = 20.0
_MIDWAY = "it booted in the middle of its installation"


@dataclass(frozen=True, slots=True)
class Rules:
    """`discover_strangers`: machines that nobody knows boot the installer environment, else their disk. `at_once`: most
    installations, 0: no bound.
    """

    discover_strangers: bool = False
    at_once: int = 0


@dataclass(frozen=True, slots=True)
class _Recent:
    answer: Boot
    at: float
    intent_id: str


class Doorway:
    """`tokens` makes a token of 16 characters at least; `held`: whether the edge cache has a content."""

    def __init__(self, ledger: Ledger, rules: Rules, tokens: Callable[[], str], held: Callable[[Digest], bool]) -> None:
        self._ledger = ledger
        self._rules = rules
        self._tokens = tokens
        self.held = held
        self._recent: dict[str, _Recent] = {}
        self.queue = BootQueue(rules.at_once)
        ledger.completed = self.queue.ended

    def ask(self, ask: Ask, now: float) -> Answer:
        """Durable before it is answered, if it may install. Raises `MachinesNotStored`."""
        with self._ledger.held():
            answer = self._answer(ask, now)
            self._ledger.tell(_told(ask, answer))
            return answer

    def begin_here(self, token: str, serial: str, now: float) -> Bearer:
        """A machine that looks around asks whether to install: if that was approved meanwhile and the installer
        environment in which it is can do it, its token becomes that of the installation.
        """
        with self._ledger.held():
            bearer = self._ledger.bearer(token)
            target = bearer.target
            intent = target.intent if target is not None else None
            if bearer.install is not None or target is None or intent is None or intent.boot is not None:
                return bearer
            ask = Ask(bearer.session.mac, serial)
            known = self._ledger.install(intent.id) is not None or intent.consumed
            if known or _refusal(ask, target) is not None or self._wait(intent, target, now) is not None:
                return bearer
            moved = course.boots(intent, None, target.machine_id, token_hash(token), now)
            if moved is None:
                return bearer
            session = Session(ask.mac, target.machine_id, intent.id, now)
            self._ledger.commit(moved, ask.mac, now, {token_hash(token): session})
            return self._ledger.bearer(token)

    def _answer(self, ask: Ask, now: float) -> Answer:
        target = self._ledger.target(ask.mac)
        if target is None:
            if self._rules.discover_strangers:
                return self._look_around(ask, None, now)
            return LocalDisk("no machine with this address is known here")
        again = self._same_boot(ask, now)
        if again is not None:
            return again
        if target.intent is None:
            return self._otherwise(ask, target, LocalDisk("nothing is to be installed"), now)
        return _refusal(ask, target) or self._install(ask, target, target.intent, now)

    def _same_boot(self, ask: Ask, now: float) -> Boot | None:
        recent = self._recent.get(ask.mac)
        if recent is None or not 0 <= now - recent.at <= _SAME_BOOT_SECONDS:
            return None
        install, target = self._ledger.install(recent.intent_id), self._ledger.target(ask.mac)
        if install is None or not course.may_boot(install, token_hash(recent.answer.token)):
            return None
        return recent.answer if target is not None and _refusal(ask, target) is None else None

    def _install(self, ask: Ask, target: Target, intent: Intent, now: float) -> Answer:
        install = self._ledger.install(intent.id)
        if install is None and intent.consumed:
            why = LocalDisk("the installation was begun elsewhere, or before this regional lost its disk", trouble=True)
            return self._otherwise(ask, target, why, now)
        token = self._tokens()
        moved = course.boots(intent, install, target.machine_id, token_hash(token), now)
        if moved is None:
            return self._otherwise(ask, target, _why_not(install), now)
        if not course.may_boot(moved.install, token_hash(token)):
            self._ledger.commit(moved, ask.mac, now)
            why = LocalDisk(moved.install.detail or _MIDWAY, trouble=moved.install.stage is not Stage.COMPLETED)
            return self._otherwise(ask, target, why, now)
        wait = self._wait(intent, target, now)
        if wait is not None:
            return wait
        session = Session(ask.mac, target.machine_id, intent.id, now)
        self._ledger.commit(moved, ask.mac, now, {token_hash(token): session})
        answer = Boot(token, target, intent.boot, intent.nonce, installs=True)
        self._recent[ask.mac] = _Recent(answer, now, intent.id)
        return answer

    def _wait(self, intent: Intent, target: Target, now: float) -> Wait | None:
        missing = [each for each in intent.contents() if not self.held(each.digest)]
        if missing:
            return Wait(f"{len(missing)} of its files are still on their way to this data centre", RETRY_SECONDS)
        place = self.queue.ask(target.machine_id, self._ledger.running(now), now)
        if place is None:
            return None
        minutes = max(1, round(place.seconds / 60))
        return Wait(f"place {place.number} in the queue, about {minutes} min", RETRY_SECONDS)

    def _otherwise(self, ask: Ask, target: Target, why: LocalDisk, now: float) -> Answer:
        stranger = target.otherwise is Otherwise.AS_STRANGER and self._rules.discover_strangers
        if stranger or target.otherwise is Otherwise.DISCOVERY:
            return replace(self._look_around(ask, target, now), why=why.why)
        return why

    def _look_around(self, ask: Ask, target: Target | None, now: float) -> Boot:
        token = self._tokens()
        machine_id = target.machine_id if target is not None else ""
        self._ledger.admit(token, Session(ask.mac, machine_id, "", now))
        return Boot(token, target, None)


def _refusal(ask: Ask, target: Target) -> LocalDisk | None:
    """Why whoever asks with this address is not this machine, or cannot be told to be."""
    if target.intent is None:
        return None
    if ask.leased and ask.address and ask.leased != ask.address:
        return LocalDisk(f"asked for from {ask.address}, but the machine was given {ask.leased}", trouble=True)
    if not target.serial:
        return None
    if ask.serial is None:
        # Our own installer says it before anything is done; a distribution's says nothing.
        if target.intent.boot is None:
            return None
        return LocalDisk("its loader cannot say a serial number, and its installer is not ours", trouble=True)
    if same_serial(target.serial, ask.serial):
        return None
    why = f"the machine says serial number {ask.serial[:64]!r}, and {target.serial[:64]!r} was approved"
    return LocalDisk(why, trouble=True)


def _why_not(install: Install | None) -> LocalDisk:
    if install is None:
        return LocalDisk("its approval is too old", trouble=True)
    return LocalDisk(f"its installation is {install.stage}" + (f": {install.detail}" if install.detail else ""))


def _told(ask: Ask, answer: Answer) -> Told:
    match answer:
        case LocalDisk(why=why, trouble=trouble):
            return Told(ask.mac, "script", f"to its local disk: {why}", trouble)
        case Wait(why=why):
            return Told(ask.mac, "script", f"told to wait: {why}")
        case Boot(installs=True):
            return Told(ask.mac, "script", "to install")
    return Told(ask.mac, "script", "to look around")
