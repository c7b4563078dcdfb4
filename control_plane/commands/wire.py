"""Between our words and longshore.agent.v1; pure.

Reports come from outside: texts are cut to what a column takes, and a state that this version does not know makes the
report none at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from common.identifiers import is_id
from control_plane.commands.model import MOST_DETAIL, MOST_RESULT, Command, State, Verb
from proto.agent.v1 import agent_pb2, commands_pb2

_VERBS = {
    Verb.RESTART: commands_pb2.COMMAND_VERB_RESTART,
    Verb.REFETCH: commands_pb2.COMMAND_VERB_REFETCH,
    Verb.PRUNE_CACHE: commands_pb2.COMMAND_VERB_PRUNE_CACHE,
    Verb.COLLECT_DIAGNOSTICS: commands_pb2.COMMAND_VERB_COLLECT_DIAGNOSTICS,
    Verb.SNAPSHOT: commands_pb2.COMMAND_VERB_SNAPSHOT,
    Verb.LIST_SNAPSHOTS: commands_pb2.COMMAND_VERB_LIST_SNAPSHOTS,
    Verb.RESTORE_SNAPSHOT: commands_pb2.COMMAND_VERB_RESTORE_SNAPSHOT,
    Verb.DELETE_SNAPSHOT: commands_pb2.COMMAND_VERB_DELETE_SNAPSHOT,
}
_STATES = {
    commands_pb2.COMMAND_STATE_ACCEPTED: State.ACCEPTED,
    commands_pb2.COMMAND_STATE_DONE: State.DONE,
    commands_pb2.COMMAND_STATE_FAILED: State.FAILED,
    commands_pb2.COMMAND_STATE_INTERRUPTED: State.INTERRUPTED,
    commands_pb2.COMMAND_STATE_EXPIRED: State.EXPIRED,
    commands_pb2.COMMAND_STATE_CANCELLED: State.CANCELLED,
}


def commands_message(told: Sequence[Command], now: datetime) -> agent_pb2.PlaneMessage:
    return agent_pb2.PlaneMessage(
        commands=commands_pb2.Commands(
            commands=[_command(one, now) for one in told if not one.cancel_wanted],
            cancelled=[one.id for one in told if one.cancel_wanted],
        )
    )


def _command(command: Command, now: datetime) -> commands_pb2.Command:
    return commands_pb2.Command(
        command_id=command.id,
        verb=_VERBS[command.verb],
        instance_id=command.instance_id,
        begin_within_seconds=max(0.0, (command.begin_by - now).total_seconds()),
        end_within_seconds=command.end_seconds,
        argument=command.argument,
    )


def report_of(message: commands_pb2.CommandReport) -> tuple[str, State, str, str] | None:
    """Id, state, detail, result."""
    state = _STATES.get(message.state)
    if state is None or not is_id(message.command_id):
        return None
    return message.command_id, state, _storable(message.detail, MOST_DETAIL), _storable(message.result, MOST_RESULT)


def _storable(text: str, longest: int) -> str:
    """PostgreSQL takes no NUL in text."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:longest]
