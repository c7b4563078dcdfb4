"""Commands and how they end; pure.

Invariant: a command has one outcome. What a host said last counts, with one exception: an outcome is never replaced by
an earlier stage, so reports may come late, twice or out of order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from common.errors import Conflict, Invalid, NotFound, RateLimited

MOST_OPEN_PER_HOST = 100
MOST_RESULT = 256 << 10
MOST_DETAIL = 2000
# A host that began says so within this time after its end; then nothing more is waited for.
PATIENCE = timedelta(minutes=10)


class CommandUnknown(NotFound):
    code = "command_unknown"


class CommandInvalid(Invalid):
    code = "command_invalid"


class CommandDiffers(Conflict):
    """The id that was given names another command."""

    code = "command_differs"


class CommandTooLate(Conflict):
    """It was begun already, or is over."""

    code = "command_too_late"


class TooManyCommands(RateLimited):
    code = "too_many_commands"


class Verb(StrEnum):
    RESTART = "restart"
    REFETCH = "refetch"
    PRUNE_CACHE = "prune_cache"
    COLLECT_DIAGNOSTICS = "collect_diagnostics"
    SNAPSHOT = "snapshot"
    LIST_SNAPSHOTS = "list_snapshots"
    RESTORE_SNAPSHOT = "restore_snapshot"
    DELETE_SNAPSHOT = "delete_snapshot"


OF_SNAPSHOTS = frozenset({Verb.SNAPSHOT, Verb.RESTORE_SNAPSHOT, Verb.DELETE_SNAPSHOT})
OF_INSTANCES = frozenset({Verb.RESTART, Verb.REFETCH, Verb.LIST_SNAPSHOTS}) | OF_SNAPSHOTS
# As LXD has it; Longshore's own begin otherwise.
_SNAPSHOT_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


class State(StrEnum):
    QUEUED = "queued"  # the host has not been told
    OFFERED = "offered"  # the host was told, and did not answer yet
    ACCEPTED = "accepted"  # the host wrote it down
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # how far it got is not known; it is not begun again
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN = frozenset({State.QUEUED, State.OFFERED, State.ACCEPTED})
_BEFORE_BEGIN = frozenset({State.QUEUED, State.OFFERED})


@dataclass(frozen=True, slots=True)
class Command:
    """`begin_by`: when it is not to be begun any more. `end_seconds`: how long it may take. `tenant`: of the instance;
    empty for a command to the host itself. `argument`: of a snapshot, its name.
    """

    id: str
    host_id: str
    verb: Verb
    instance_id: str
    tenant: str
    requested_by: str
    created_at: datetime
    begin_by: datetime
    end_seconds: int
    state: State = State.QUEUED
    cancel_wanted: bool = False
    detail: str = ""
    result: str = ""
    updated_at: datetime | None = None
    argument: str = ""

    @property
    def subject(self) -> tuple[str, Verb, str, str]:
        return self.host_id, self.verb, self.instance_id, self.argument


def check_argument(verb: Verb, argument: str) -> None:
    """Raises `CommandInvalid` if the verb says nothing of it, or not that."""
    if verb not in OF_SNAPSHOTS:
        if argument:
            raise CommandInvalid(f"{verb.value} takes no argument", action="leave it out")
    elif not _SNAPSHOT_NAME.fullmatch(argument):
        raise CommandInvalid(
            f"{argument[:80]!r} is no name of a snapshot", action="use letters, digits, dots, hyphens; at most 63"
        )


def reported(command: Command, state: State, detail: str, result: str, now: datetime) -> Command:
    """The command after its host said that. An expiry that only we assumed gives way to what really happened."""
    said = replace(command, state=state, detail=detail, result=result, updated_at=now)
    assumed = command.state in (State.EXPIRED, State.INTERRUPTED)
    if state in OPEN:
        return said if command.state in _BEFORE_BEGIN else command
    return said if command.state in OPEN or (assumed and state is not command.state) else command


def cancelled(command: Command, now: datetime) -> Command:
    """What becomes of it when nobody wants it any more. Raises `CommandTooLate`."""
    if command.state is State.CANCELLED or (command.state in OPEN and command.cancel_wanted):
        return command
    if command.state is State.QUEUED:
        return replace(command, state=State.CANCELLED, detail="it was never sent", updated_at=now)
    if command.state in OPEN:
        # The host may have begun; only it knows.
        return replace(command, cancel_wanted=True, updated_at=now)
    raise CommandTooLate(f"the command is {command.state.value}", action="see what came of it")


def offered(command: Command, now: datetime) -> Command:
    """The command as its host is about to be told of it."""
    return replace(command, state=State.OFFERED, updated_at=now) if command.state is State.QUEUED else command


def aged(command: Command, now: datetime) -> Command:
    """What time alone makes of it."""
    if command.state is State.QUEUED and now >= command.begin_by:
        return replace(command, state=State.EXPIRED, detail="its host was not there in time", updated_at=now)
    if command.state is State.OFFERED and now >= command.begin_by + PATIENCE:
        detail = "its host was told and never answered; it may have begun"
        return replace(command, state=State.EXPIRED, detail=detail, updated_at=now)
    over = command.begin_by + timedelta(seconds=command.end_seconds) + PATIENCE
    if command.state is State.ACCEPTED and now >= over:
        detail = "its host began and did not say how it ended"
        return replace(command, state=State.INTERRUPTED, detail=detail, updated_at=now)
    return command
