"""Between commands of longshore.agent.v1, the journal's JSON and our model; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agent.commands_model import Command, CommandReport, Stage, Verb
from proto.agent.v1 import commands_pb2

_LONGEST_END_SECONDS = 3600.0
MOST_RESULT = 256 << 10
_MOST_DETAIL = 2000
_VERBS: Mapping[int, Verb] = {
    commands_pb2.COMMAND_VERB_RESTART: Verb.RESTART,
    commands_pb2.COMMAND_VERB_REFETCH: Verb.REFETCH,
    commands_pb2.COMMAND_VERB_PRUNE_CACHE: Verb.PRUNE_CACHE,
    commands_pb2.COMMAND_VERB_COLLECT_DIAGNOSTICS: Verb.COLLECT_DIAGNOSTICS,
    commands_pb2.COMMAND_VERB_SNAPSHOT: Verb.SNAPSHOT,
    commands_pb2.COMMAND_VERB_LIST_SNAPSHOTS: Verb.LIST_SNAPSHOTS,
    commands_pb2.COMMAND_VERB_RESTORE_SNAPSHOT: Verb.RESTORE_SNAPSHOT,
    commands_pb2.COMMAND_VERB_DELETE_SNAPSHOT: Verb.DELETE_SNAPSHOT,
}
_STATES: Mapping[Stage, commands_pb2.CommandState.ValueType] = {
    Stage.ACCEPTED: commands_pb2.COMMAND_STATE_ACCEPTED,
    Stage.BEGUN: commands_pb2.COMMAND_STATE_ACCEPTED,
    Stage.DONE: commands_pb2.COMMAND_STATE_DONE,
    Stage.FAILED: commands_pb2.COMMAND_STATE_FAILED,
    Stage.INTERRUPTED: commands_pb2.COMMAND_STATE_INTERRUPTED,
    Stage.EXPIRED: commands_pb2.COMMAND_STATE_EXPIRED,
    Stage.CANCELLED: commands_pb2.COMMAND_STATE_CANCELLED,
}
_STAGES = {state: stage for stage, state in _STATES.items() if stage is not Stage.BEGUN}


def command_from(message: commands_pb2.Command, now: float) -> Command:
    """`now`: seconds since 1970 by this host's clock; the control plane's own is not asked for."""
    end_seconds = min(message.end_within_seconds, _LONGEST_END_SECONDS) or _LONGEST_END_SECONDS
    return Command(
        id=message.command_id,
        verb=_VERBS.get(message.verb, Verb.UNKNOWN),
        instance_id=message.instance_id,
        begin_by=now + message.begin_within_seconds,
        end_seconds=end_seconds,
        argument=message.argument,
    )


def report_message(report: CommandReport) -> commands_pb2.CommandReport:
    return commands_pb2.CommandReport(
        command_id=report.command_id,
        state=_STATES[report.stage],
        detail=report.detail[:_MOST_DETAIL],
        result=report.result,
    )


def report_from(message: commands_pb2.CommandReport) -> CommandReport:
    """What `report_message` made: our own journal."""
    stage = _STAGES.get(message.state, Stage.INTERRUPTED)
    return CommandReport(message.command_id, stage, message.detail, message.result)


def command_record(command: Command) -> dict[str, Any]:
    return {**asdict(command), "verb": command.verb.value, "stage": command.stage.value}


def command_of(record: Mapping[str, Any]) -> Command:
    return Command(**{**record, "verb": Verb(record["verb"]), "stage": Stage(record["stage"])})
