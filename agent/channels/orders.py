"""Between longshore.agent.v1 and the words of the runtimes; pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.channels.leftovers import MARK
from agent.runtimes import Channel, ExecOrder, LogQuery, Piece, Size
from common.errors import Invalid
from proto.agent.v1 import channels_pb2


class ChannelOrderUnreadable(Invalid):
    """A newer control plane wants what this agent does not know."""

    code = "channel_order_unreadable"


@dataclass(frozen=True, slots=True)
class ArchiveOrder:
    """All of an instance as one archive."""

    with_snapshots: bool


def work_of(order: channels_pb2.OpenChannel, host_id: str) -> LogQuery | ExecOrder | Size | ArchiveOrder:
    """A `Size` means the console. Commands bear the mark of `host_id`. Raises `ChannelOrderUnreadable`."""
    match order.WhichOneof("what"):
        case "logs":
            return _log_query(order.logs)
        case "execute":
            return _exec_order(order.execute, host_id)
        case "console":
            return size_of(order.console.terminal)
        case "export":
            return ArchiveOrder(order.export.with_snapshots)
        case _:
            raise ChannelOrderUnreadable(
                "the host's agent does not know this kind of channel", action="update the agent"
            )


def size_of(message: channels_pb2.TerminalSize) -> Size:
    standard = Size()
    return Size(message.columns or standard.columns, message.rows or standard.rows)


def piece_message(piece: Piece, data: bytes) -> channels_pb2.ChannelUp:
    errors = piece.channel is Channel.ERRORS
    stream = channels_pb2.CHANNEL_STREAM_ERRORS if errors else channels_pb2.CHANNEL_STREAM_OUTPUT
    return channels_pb2.ChannelUp(piece=channels_pb2.ChannelPiece(stream=stream, data=data, at_ns=piece.at_ns))


def _log_query(wanted: channels_pb2.ReadLogs) -> LogQuery:
    return LogQuery(
        follow=wanted.follow,
        since_ns=wanted.since_ns,
        tail=wanted.tail if wanted.HasField("tail") else None,
        output=not wanted.without_output,
        errors=not wanted.without_errors,
    )


def _exec_order(wanted: channels_pb2.ExecuteCommand, host_id: str) -> ExecOrder:
    return ExecOrder(
        argv=tuple(wanted.command),
        environment={**wanted.environment, MARK: host_id},
        user=wanted.user,
        working_dir=wanted.working_directory,
        terminal=size_of(wanted.terminal) if wanted.HasField("terminal") else None,
        input=wanted.input,
    )
