"""The course of one installation: which step follows which, and what is said of it; pure.

Invariants: an operation of an intent is handed out under one nonce only, so whatever is lost, repeated, killed or
started again, nothing is carried out twice; a machine that boots in the middle of an operation goes to its disk and the
installation fails; what is over stays over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.errors import Conflict, Invalid
from regional.machines.model import (
    Install,
    Intent,
    Operation,
    Phase,
    PhaseSaid,
    Said,
    Stage,
    StepPhase,
    StepSaid,
    Word,
)

# Boots of one intent in which nothing was begun: a loop of a harmless kind is a loop all the same.
MOST_BOOTS = 8
# A loader asked in the middle of an operation. Whoever was asked for another is silent from then on; a real installer
# goes on speaking, and then somebody merely pretended. Distributions' installers say nothing until their end.
_SILENCE_SECONDS = 120.0
_HANDED_OVER_SECONDS = 900.0
_TEXT = 65_536


class InstallOver(Conflict):
    """The installation failed, was withdrawn or is complete: the machine is to stop."""

    code = "install_over"


class OperationUnexpected(Conflict):
    """It is not the operation that was handed out."""

    code = "operation_unexpected"


class DigestMissing(Invalid):
    code = "digest_missing"


@dataclass(frozen=True, slots=True)
class Moved:
    install: Install
    said: tuple[Said, ...] = ()


def boots(intent: Intent, install: Install | None, machine_id: str, session: str, now: float) -> Moved | None:
    """Its loader asks. None: to its disk, and nothing changes; an install that is not OFFERED or RUNNING under
    `session`: to its disk as well.
    """
    if install is None:
        if intent.not_after and now > intent.not_after:
            return None
        fresh = Install(intent.id, machine_id, Stage.OFFERED, session, now, now)
        return Moved(fresh, (PhaseSaid(Phase.BOOTING),))
    if install.stage.over:
        return None
    if not install.begun and not install.handed_over:
        return _again(install, session, now)
    present = _present(intent, install)
    if install.handed_over or present is None or present.word is not Word.REBOOT:
        return Moved(install if install.booted_at else replace(install, booted_at=now))
    moved = _advanced(intent, install, now)
    if moved.install.stage.over:
        return moved
    again = _again(moved.install, session, now)
    return Moved(again.install, moved.said + again.said)


def _again(install: Install, session: str, now: float) -> Moved:
    if install.boots >= MOST_BOOTS:
        return failed(install, f"it booted {install.boots} times and its installer never began", now)
    return Moved(replace(install, session=session, boots=install.boots + 1, heard_at=now))


def checks_in(install: Install, now: float) -> Moved:
    """Its installer spoke."""
    heard = replace(install, heard_at=max(now, install.heard_at))
    if install.stage is not Stage.OFFERED:
        return Moved(heard)
    return Moved(replace(heard, stage=Stage.RUNNING), (PhaseSaid(Phase.INSTALLING),))


def hands_over(install: Install, now: float) -> Moved:
    """The kernel of a distribution's installer is about to be sent: from here on everything is its own doing. Raises
    `InstallOver`.
    """
    _check_open(install)
    if install.handed_over:
        return Moved(install)
    moved = checks_in(install, now)
    return Moved(replace(moved.install, handed_over=True, step_at=now), moved.said)


def asks_next(intent: Intent, install: Install, nonce: str, now: float) -> tuple[Moved, Operation | None]:
    """What to do now; None: nothing any more. The same nonce gets the same answer. Asked with another one in the middle
    of an operation, the installation fails: its installer lost its way, and what it did is unknown.
    """
    if install.stage is Stage.COMPLETED:
        return Moved(install), None
    _check_open(install)
    moved = checks_in(install, now)
    present = _present(intent, install)
    if present is None:
        return completed(moved, now), None
    if install.begun == nonce:
        return moved, present
    if install.begun:
        why = f"{present.word} was begun and its installer asked for the next operation before it ended"
        ended = failed(moved.install, why, now)
        return Moved(ended.install, moved.said + ended.said), None
    begun = replace(moved.install, begun=nonce, step_at=now)
    return Moved(begun, (*moved.said, StepSaid(present.id, StepPhase.STARTED))), present


def progresses(intent: Intent, install: Install, operation: str, percent: int, text: str, now: float) -> Moved:
    """`percent` below 0: only lines for people. Raises `OperationUnexpected` or `InstallOver`."""
    _check_open(install)
    moved = checks_in(install, now)
    if percent < 0 and not text:
        return moved
    if percent < 0:
        return Moved(moved.install, (*moved.said, StepSaid(operation, StepPhase.LOG, 0, text[-_TEXT:])))
    present = _named(intent, install, operation)
    said = StepSaid(present.id, StepPhase.PROGRESS, min(percent, 100), text[-_TEXT:])
    return Moved(moved.install, (*moved.said, said))


def ends(intent: Intent, install: Install, operation: str, digest: str, now: float) -> Moved:
    """An operation is done; `digest`: of the image that was written. Said again, nothing changes. Raises
    `OperationUnexpected`, `InstallOver` or `DigestMissing`.
    """
    if install.stage is Stage.COMPLETED or _was_ended(intent, install, operation):
        return Moved(install)
    _check_open(install)
    moved = checks_in(install, now)
    if install.handed_over and operation in ("", *Word, *(each.id for each in intent.operations)):
        return completed(moved, now)
    present = _named(intent, install, operation)
    if present.image is not None:
        if not digest:
            raise DigestMissing("the operation wrote an image", action="say its digest, as read back while writing")
        if digest != str(present.image.digest):
            why = (
                f"the image on the disk is {digest[:100]}, not {present.image.digest}: it arrived truncated or damaged"
            )
            return _failed_in(moved, present, why, now)
    advanced = _advanced(intent, moved.install, now)
    return Moved(advanced.install, moved.said + advanced.said)


def breaks(intent: Intent, install: Install, operation: str, why: str, now: float) -> Moved:
    """An operation failed, as the machine says."""
    if install.stage is Stage.FAILED:
        return Moved(install)
    _check_open(install)
    moved = checks_in(install, now)
    present = _present(intent, install)
    why = why[-_TEXT:] or "its installer said that it failed, and not why"
    if present is None or not install.begun:
        ended = failed(moved.install, why, now)
        return Moved(ended.install, moved.said + ended.said)
    return _failed_in(moved, present, why, now)


def withdrawn(install: Install, why: str) -> Moved:
    if install.stage.over:
        return Moved(install)
    return Moved(replace(install, stage=Stage.STOPPED, detail=why), (PhaseSaid(Phase.STOPPED, why),))


def waited(intent: Intent, install: Install, now: float) -> Moved | None:
    """What time does to it; None: nothing."""
    if install.stage.over:
        return None
    if intent.longest_seconds and now - install.began_at > intent.longest_seconds:
        return failed(install, f"no end within {intent.longest_seconds} s of its first boot", now)
    present = _present(intent, install)
    limit = present.timeout_seconds if present is not None and install.begun else 0
    if present is not None and limit and now - install.step_at > limit:
        return _failed_in(Moved(install), present, f"no end within {limit} s", now)
    patience = _HANDED_OVER_SECONDS if _is_handed_over(intent, install) else _SILENCE_SECONDS
    if install.booted_at > install.heard_at and now - install.booted_at > patience:
        step = present.word if present is not None else Word.OS_INSTALL
        why = f"the machine booted again in the middle of {step} (power loss, crash, or its last word was lost)"
        return failed(install, f"{why}; it boots its disk until it is approved anew", now)
    return None


def failed(install: Install, why: str, now: float) -> Moved:
    return Moved(replace(install, stage=Stage.FAILED, detail=why, step_at=now), (PhaseSaid(Phase.FAILED, why),))


def completed(moved: Moved, now: float) -> Moved:
    done = replace(moved.install, stage=Stage.COMPLETED, begun="", step_at=now)
    return Moved(done, (*moved.said, PhaseSaid(Phase.COMPLETED)))


def may_boot(install: Install, session: str) -> bool:
    """After `boots`: whether this boot may go on to install."""
    untouched = not install.begun and not install.handed_over
    return not install.stage.over and untouched and install.session == session


def _failed_in(moved: Moved, operation: Operation, why: str, now: float) -> Moved:
    ended = failed(moved.install, f"{operation.word}: {why}", now)
    return Moved(ended.install, (*moved.said, StepSaid(operation.id, StepPhase.FAILED, 0, why), *ended.said))


def _advanced(intent: Intent, install: Install, now: float) -> Moved:
    present = intent.operations[install.operation]
    index = install.operation + 1
    on = replace(install, operation=index, begun="", step_at=now)
    said: tuple[Said, ...] = (StepSaid(present.id, StepPhase.COMPLETE, 100),)
    rest = {operation.word for operation in intent.operations[index:]}
    # A reboot at the end leads to the disk, and who left our installer cannot say "complete" there any more.
    left = present.word is Word.REBOOT or present.boot is not None
    if rest <= {Word.REBOOT} or (left and rest <= {Word.REBOOT, Word.COMPLETE}):
        return completed(Moved(on, said), now)
    return Moved(on, said)


def _present(intent: Intent, install: Install) -> Operation | None:
    return intent.operations[install.operation] if install.operation < len(intent.operations) else None


def _is_handed_over(intent: Intent, install: Install) -> bool:
    if install.handed_over:
        return True
    present = _present(intent, install)
    return bool(install.begun) and present is not None and present.boot is not None


def _named(intent: Intent, install: Install, operation: str) -> Operation:
    present = _present(intent, install)
    if present is None or not install.begun or operation not in (present.id, present.word.value):
        raise OperationUnexpected(
            f"{operation[:80]!r} is not the operation that was handed out",
            action="ask for the next operation",
            present=present.id if present is not None and install.begun else None,
        )
    return present


def _was_ended(intent: Intent, install: Install, operation: str) -> bool:
    ids = [each.id for each in intent.operations[: install.operation]]
    return bool(operation) and operation in ids


def _check_open(install: Install) -> None:
    if install.stage.over:
        raise InstallOver(
            f"the installation is {install.stage}" + (f": {install.detail}" if install.detail else ""),
            action="stop; another one needs another approval",
        )
